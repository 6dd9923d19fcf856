"""The form of each answer that a worker gives: what comes out of a contender's process is not to be trusted, even to be whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aieng_bench.record.exhibits import Exhibit
from aieng_bench.record.schema import Finite, Part


class DescribedOutput(Part):
    type: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    device: str
    alias: str
    file: str
    digest: str


class Kept(Part):
    outputs: tuple[DescribedOutput, ...]
    seed: int


class Prepared(Part):
    inputs_hash: str


class Memory(Part):
    peak_bytes: int | None
    setup_s: Finite


class Audited(Part):
    outputs: tuple[Kept, ...]
    changed: tuple[str, ...]
    reused: bool
    late: bool


class Checked(Audited):
    deterministic: bool


class Calibrated(Part):
    call_s: Finite
    calls: int
    cold: bool
    novelty_us: tuple[Finite, Finite]


class Turn(Part):
    samples: dict[str, Finite]
    claimed_ns: int


class Outputs(Part):
    outputs: tuple[tuple[DescribedOutput, ...], ...]


class Seed(Part):
    figures: dict[str, float]
    exhibits: dict[str, Exhibit]
    peak_bytes: int | None


class Finished(Part):
    changed: tuple[str, ...]


_FORMS: Mapping[str, type[Part]] = {
    "prepare": Prepared,
    "memory": Memory,
    "check": Checked,
    "calibrate": Calibrated,
    "turn": Turn,
    "keep": Outputs,
    "audit": Audited,
    "run_seed": Seed,
    "finish": Finished,
}


def check(op: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, if it has the form of one to ``op``. Raises pydantic's ValidationError, a ValueError, if not."""
    _FORMS[op].model_validate(answer)
    return answer
