"""What a run is to measure, and how the runner tells of its progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aieng_bench.define import Benchmark, Case, Contender, Study
from aieng_bench.record import Record
from aieng_bench.registry import asked, asks, matches


@dataclass(frozen=True)
class Unit:
    """One case with all its contenders: the unit of scheduling, resume and retry (a cell run alone later would be unpaired)."""

    benchmark: Benchmark
    case: Case
    contenders: tuple[Contender, ...]


@dataclass(frozen=True)
class Origin:
    """Where a contender comes from: the name by which its module knows it, and the import path of its processes, None for ours."""

    contender: str
    path: str | None = None


@dataclass(frozen=True)
class Plan:
    """What to run. ``launches`` processes per contender; within each, ``rounds`` interleaved rounds over the live workers."""

    units: tuple[Unit, ...]
    quick: bool
    launches: int
    rounds: int
    unit_budget_s: float
    """Time a unit may take before its rounds are cut (never under 10 rounds over all launches)."""
    asked: frozenset[str] = frozenset()
    """Contenders asked for by name: a quick run leaves none of them out."""
    timeout_s: float = 600.0
    """Time one message to a worker may take before its process group is killed and the cell is TIMEOUT."""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Contenders that are not their module's of the same name, imported as we import it: two commits' in one run."""

    @property
    def minutes(self) -> float:
        """What the studies of the plan take on two cores, about, by what they declare."""
        declared = ((unit, unit.benchmark) for unit in self.units if isinstance(unit.benchmark, Study))
        return sum(
            (study.quick_minutes if self.quick else study.minutes) / len(study.cases(str(unit.case["device"]), self.quick))
            for unit, study in declared
        )

    def origin(self, contender: str) -> Origin:
        return self.origins.get(contender, Origin(contender))


def make_plan(
    benchmarks: Sequence[Benchmark],
    *,
    device: str,
    quick: bool = False,
    dtypes: Sequence[str] = (),
    contenders: Sequence[str] = (),
    patterns: Sequence[str] = ("*",),
) -> Plan:
    """Cells to run: each case of ``device`` that a pattern and ``dtypes`` ask for. Asking for contenders always keeps the baseline.

    Raises LookupError, naming the argument, if ``contenders``, ``dtypes`` or a pattern leaves nothing.
    """
    known = {name for b in benchmarks for name in b.contenders}
    if unknown := [c for c in contenders if c not in known]:
        raise LookupError(f"no contender named {unknown[0]!r}; there are {', '.join(sorted(known))}")
    units = []
    for benchmark in benchmarks:
        chosen = tuple(
            c for c in benchmark.contenders.values() if not contenders or c.name in contenders or c.name == benchmark.baseline
        )
        for case in benchmark.cases(device, quick):
            if (not dtypes or case.get("dtype", dtypes[0]) in dtypes) and any(asked(p, benchmark, case) for p in patterns):
                units.append(Unit(benchmark, case, chosen))
    for pattern in patterns:
        if asks(pattern)[1] and not any(asked(pattern, unit.benchmark, unit.case) for unit in units):
            raise LookupError(no_case(pattern, benchmarks, device, quick))
    if not units:
        raise LookupError(f"nothing to run on device {device!r}" + (f" with dtype {', '.join(dtypes)}" if dtypes else ""))
    if quick:
        return Plan(tuple(units), quick, launches=2, rounds=6, unit_budget_s=10.0, asked=frozenset(contenders))
    return Plan(tuple(units), quick, launches=5, rounds=10, unit_budget_s=60.0, asked=frozenset(contenders))


def no_case(pattern: str, benchmarks: Sequence[Benchmark], device: str, quick: bool) -> str:
    """Why a pattern's brackets leave nothing: the first axis, or value of one, that no case has, and those there are."""
    name, axes = asks(pattern)
    cases = [case for b in benchmarks if matches(name, b) for case in b.cases(device, quick)]
    for axis, value in axes.items():
        values = dict.fromkeys(str(case[axis]) for case in cases if axis in case)
        if not values:
            known = dict.fromkeys(axis for case in cases for axis in case)
            return f"{pattern}: no case has an axis {axis!r}; there are {', '.join(known)}"
        if value not in values:
            return f"{pattern}: no {'quick ' * quick}case has {axis}={value}; there are {', '.join(values)}"
    return f"{pattern}: no {'quick ' * quick}case on {device} has all of that, and the dtype asked for if one was"


class Progress(Protocol):
    """What the runner tells whoever watches; the command line shows it as bars or plain lines."""

    def started(self, units: int) -> None: ...
    def unit_started(self, unit: Unit) -> None: ...
    def step(self, unit: Unit, what: str, done: float) -> None:
        """``what`` is under way (``checking``, ``launch 1 of 2``); ``done`` is the part of the unit behind us, 0..1. The last
        step of a unit that was measured, at 1, says where its time went."""

    def unit_finished(self, unit: Unit, records: Sequence[Record]) -> None: ...
    def note(self, text: str) -> None:
        """Something a person should know: a worker that crashed, a device set aside."""
