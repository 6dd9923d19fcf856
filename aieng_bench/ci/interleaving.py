"""Contenders of two commits in the same rounds, what they leave behind, and what is made of it.

Every contender of ours is in the run twice, as ``base:NAME`` and ``head:NAME``, each in processes that import its own side. The
cases are those of a quick run, the launches many: the launch is what varies, so it is what a decision needs. Each side is checked
against its own definition. Records go to two runs, under the contenders' own names.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aieng_bench import registry
from aieng_bench.ci.checkouts import Side
from aieng_bench.compare import Change, Comparison, Verdict, compare
from aieng_bench.define import Benchmark, Case, Contender
from aieng_bench.measure.plan import Origin, Plan, Unit
from aieng_bench.record.schema import Record
from aieng_bench.record.store import RunStore

ROUNDS, UNIT_BUDGET_S = 10, 60.0
AGAIN = 2
"""Launches of the second look over those of the first."""

Described = Mapping[str, Mapping[str, Any]]
"""Benchmarks by name as ``aieng-bench ls --json`` tells of them."""
Records = tuple[Sequence[Record], Sequence[Record]]
"""Of base and of head."""


@dataclass(frozen=True)
class Shared:
    """What both sides have, as a plan; cells of one side by name."""

    plan: Plan
    only_base: tuple[str, ...]
    only_head: tuple[str, ...]


def shared(
    patterns: Sequence[str], base: Described, head: Described, sides: tuple[Side, Side], device: str, launches: int
) -> Shared:
    """The plan of what the patterns ask of head. Benchmarks that declare another meaning of their figures are not the same.

    Raises registry.NoMatch.
    """
    benchmarks = registry.find(*patterns)
    units: list[Unit] = []
    origins: dict[str, Origin] = {}
    for benchmark in benchmarks:
        there = base.get(benchmark.name, {})
        if not there or _meaning(there) != _meaning(head[benchmark.name]):
            continue
        names = {contender["name"] for contender in there["contenders"]}
        cases = set(there["cases"][device]["quick"])
        for case in benchmark.cases(device, quick=True):
            if not any(registry.asked(pattern, benchmark, case) for pattern in patterns or ("*",)):
                continue
            chosen = [c for c in _measured(benchmark, case) if c.name in names and case.id in cases]
            copies = tuple(replace(c, name=f"{side.name}:{c.name}") for c in chosen for side in sides)
            origins |= {f"{side.name}:{c.name}": Origin(c.name, side.path) for c in chosen for side in sides}
            if copies:
                units.append(Unit(benchmark, case, copies))
    plan = Plan(tuple(units), False, launches=launches, rounds=ROUNDS, unit_budget_s=UNIT_BUDGET_S, origins=origins)
    asked = [benchmark.name for benchmark in benchmarks]
    mine, theirs = (_cells(side, device, asked) for side in (base, head))
    return Shared(plan, tuple(sorted(mine - theirs)), tuple(sorted(theirs - mine)))


def _meaning(described: Mapping[str, Any]) -> tuple[Any, ...]:
    return described["kind"], described["baseline"], [(m["name"], m["unit"], m["better"]) for m in described["metrics"]]


def _measured(benchmark: Benchmark, case: Case) -> list[Contender]:
    """Contenders of ours that a quick run measures, or all where none is ours: baselines are not what a commit changes."""
    ours = [c for c in benchmark.contenders.values() if c.kind == "ours"] or list(benchmark.contenders.values())
    return [c for c in ours if c.refuses(case) is None and c.left_out(case) is None]


def _cells(described: Described, device: str, names: Sequence[str]) -> set[str]:
    return {
        f"{name} {case} {contender['name']}"
        for name in names
        if name in described
        for case in described[name]["cases"][device]["quick"]
        for contender in described[name]["contenders"]
        if contender["kind"] == "ours" and device in contender["devices"]
    }


class TwoRuns:
    """The store of such a run: a record of ``base:NAME`` becomes one of ``NAME`` in the run of base."""

    def __init__(self, folder: Path, sides: tuple[Side, Side], command: str, environment: Any) -> None:
        self._sides = {side.name: side for side in sides}
        self._stores = {
            side.name: RunStore.create(
                folder / side.name, command=command, asked={}, environment=environment.model_copy(update=_commit(side))
            )
            for side in sides
        }
        self._command = command
        self.records: dict[str, list[Record]] = {side.name: [] for side in sides}

    @property
    def run(self) -> str:
        return self._stores["head"].run

    def write(self, record: Record) -> Path:
        side, _, name = record.contender.name.partition(":")
        contender: dict[str, str] = {"name": name}
        if side == "base":  # the contender was declared by head
            contender |= {"source_hash": "", "version": _version(record.contender.package, self._sides[side])}
        store = self._stores[side]
        changes = {
            "run": store.run,
            "contender": record.contender.model_copy(update=contender),
            "environment": record.environment.model_copy(update=_commit(self._sides[side])),
            "command": self._command,
        }
        kept = record.model_copy(update=changes)
        self.records[side].append(kept)
        return store.write(kept)

    def finished(self) -> dict[tuple[str, str, str], Record]:
        return {}


def _commit(side: Side) -> dict[str, Any]:
    return {"commit": side.commit, "dirty": side.dirty}


def _version(package: str, side: Side) -> str:
    found = importlib.metadata.distributions(name=package, path=side.path.split(":")) if package else ()
    return next((distribution.version for distribution in found), "")


def judged(found: Shared, measure: Callable[[Plan, str], Records]) -> Comparison:
    """Measure, compare, and measure the cases of undecided cells once more with more launches.

    ``measure(plan, which)`` runs a plan; ``which`` is ``first`` or ``again``.
    """
    first = measure(found.plan, "first")
    undecided = {(c.benchmark, c.case) for c in concluded(first).changes if c.verdict is Verdict.UNDECIDED}
    units = tuple(unit for unit in found.plan.units if (unit.benchmark.name, unit.case.id) in undecided)
    again: Records = ([], [])
    if units:
        again = measure(replace(found.plan, units=units, launches=AGAIN * found.plan.launches), "again")
    return replace(concluded(first, again), only_base=found.only_base, only_head=found.only_head)


def concluded(first: Records, again: Records = ((), ())) -> Comparison:
    """What two looks say: the first, and of the cells that it left undecided the second. What failed in either has failed."""
    result, second = compare(*first, interleaved=True), compare(*again, interleaved=True)
    later = {_cell(change): change for change in second.changes}
    changes = (later.get(_cell(c), c) if c.verdict is Verdict.UNDECIDED else c for c in result.changes)
    failures = (*result.failures, *(failure for failure in second.failures if failure not in result.failures))
    return replace(result, changes=tuple(changes), failures=failures)


def _cell(change: Change) -> tuple[str, str, str, str]:
    return change.benchmark, change.case, change.contender, change.metric.name
