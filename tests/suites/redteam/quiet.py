"""A store that keeps nothing and a progress that says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aieng_bench.measure.plan import Unit
from aieng_bench.record.schema import Record


class Records:
    run = "20260101T000000Z-000000"

    def write(self, record: Record) -> Path:
        return Path()

    def finished(self) -> dict[tuple[str, str, str], Record]:
        return {}


class Quiet:
    def started(self, units: int) -> None: ...
    def unit_started(self, unit: Unit) -> None: ...
    def step(self, unit: Unit, what: str, done: float) -> None: ...
    def unit_finished(self, unit: Unit, records: Sequence[Record]) -> None: ...
    def note(self, text: str) -> None: ...
