"""A store in memory and a progress that remembers, for tests of the runner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from aieng_bench.define import Benchmark
from aieng_bench.measure.plan import Plan, Unit
from aieng_bench.record import Record


def benchmark(name: str) -> Benchmark:
    found = import_module(f"toy_suite.{name}").benchmark
    assert isinstance(found, Benchmark)
    return found


def plan(name: str, *contenders: str, cases: int | None = 1, **settings: object) -> Plan:
    """The first ``cases`` cases of a toy benchmark with these contenders (by default all)."""
    declared = benchmark(name)
    chosen = tuple(declared.contenders[c] for c in contenders or declared.contenders)
    (device,) = declared.full
    units = tuple(Unit(declared, case, chosen) for case in declared.cases(device)[:cases])
    defaults: dict[str, object] = {"quick": False, "launches": 1, "rounds": 3, "unit_budget_s": 0.5, "timeout_s": 60.0}
    return Plan(units=units, **(defaults | settings))  # type: ignore[arg-type]


@dataclass
class MemoryStore:
    run: str = "20260101T000000Z-000000"
    records: dict[tuple[str, str, str], Record] = field(default_factory=dict)

    def write(self, record: Record) -> Path:
        self.records[record.key] = record
        return Path()

    def finished(self) -> dict[tuple[str, str, str], Record]:
        return dict(self.records)


@dataclass
class Watcher:
    """``interrupt_at``: raise KeyboardInterrupt when a step of this name comes."""

    interrupt_at: str = ""
    units: int = 0
    begun: list[str] = field(default_factory=list)
    steps: list[tuple[str, str, float]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def started(self, units: int) -> None:
        self.units = units

    def unit_started(self, unit: Unit) -> None:
        self.begun.append(unit.case.id)

    def step(self, unit: Unit, what: str, done: float) -> None:
        self.steps.append((unit.case.id, what, done))
        if self.interrupt_at and what.startswith(self.interrupt_at):
            raise KeyboardInterrupt

    def unit_finished(self, unit: Unit, records: Sequence[Record]) -> None:
        self.ended.append(unit.case.id)

    def note(self, text: str) -> None:
        self.notes.append(text)
