"""The red team: contenders that cheat, each a benchmark of its own beside an honest twin, and what became of them in a run.

A benchmark of the suite ``redteam`` has two contenders, ``cheat`` and the twin, which is its baseline. Its title says what the
cheat does, and its summary, if there is one, why it is waived.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from aieng_bench.define import REDTEAM
from aieng_bench.record.schema import Correctness, Outcome, Quality, Record
from aieng_bench.report.format import clean, status

if TYPE_CHECKING:
    from aieng_bench.measure.plan import Plan, Progress
    from aieng_bench.measure.runner import Store

CHEAT = "cheat"
Verdict = Literal["caught", "waived", "MISSED", "not run"]


@dataclass(frozen=True)
class Row:
    """One cheat of the catch matrix. ``how``: what caught it, why it is waived or was not run; '' if it was missed."""

    name: str
    what: str
    device: str
    verdict: Verdict
    how: str
    twin: str
    twin_verdict: Literal["passed", "REFUSED", "not run"]
    twin_reason: str

    @property
    def good(self) -> bool:
        """Whether the gate did what it is for: caught or waived the cheat, and let the twin pass."""
        return self.verdict != "MISSED" and self.twin_verdict != "REFUSED"


def is_redteam(record: Record) -> bool:
    return record.definition.suite == REDTEAM


def matrix(records: Sequence[Record]) -> list[Row]:
    """The catch matrix of one run's records, by name; those that are not of the red team are left aside."""
    pairs: dict[str, dict[bool, Record]] = defaultdict(dict)
    for record in filter(is_redteam, records):
        pairs[record.definition.benchmark][record.contender.name == CHEAT] = record
    return [_row(pair[True], pair[False]) for _, pair in sorted(pairs.items()) if len(pair) == 2]


def challenge(plan: Plan, store: Store, progress: Progress) -> list[Row]:
    """Measure the cheats of a plan; those whose twin a busy machine made suspect once more, and then that is the verdict."""
    from aieng_bench.measure import run

    records = run(plan, store, progress)
    doubtful = {r.definition.benchmark for r in records if r.contender.name != CHEAT and r.quality is Quality.SUSPECT}
    if again := tuple(unit for unit in plan.units if unit.benchmark.name in doubtful):
        progress.note(f"once more, as the machine was busy: {', '.join(sorted(doubtful))}")
        records += run(replace(plan, units=again), store, progress)
    return matrix(records)


def caught(record: Record) -> bool:
    """Whether a contender's record shows no speed for its own fault. A disturbed measurement is nobody's."""
    return record.outcome is not Outcome.RAN or record.check.verdict is not Correctness.PASSED or record.quality is Quality.SUSPECT


def _row(cheat: Record, twin: Record) -> Row:
    waiver = clean(cheat.definition.summary, limit=1000)
    absent, refused = (record.outcome is Outcome.UNSUPPORTED for record in (cheat, twin))
    verdict: Verdict = "not run" if absent else "caught" if caught(cheat) else "waived" if waiver else "MISSED"
    return Row(
        name=clean(cheat.definition.benchmark.removeprefix(f"{REDTEAM}/")),
        what=clean(cheat.definition.title),
        device=clean(str(cheat.case.get("device", "?"))),
        verdict=verdict,
        how={"not run": clean(cheat.outcome_reason), "caught": status(cheat), "waived": waiver, "MISSED": ""}[verdict],
        twin=clean(twin.contender.name),
        twin_verdict="not run" if refused else "REFUSED" if caught(twin) else "passed",
        twin_reason=status(twin) if caught(twin) and not refused else "",
    )


def summary(rows: Sequence[Row]) -> str:
    """How many were caught, and how the twins fared, in one line."""
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("caught", "waived", "MISSED", "not run")}
    twins = [row for row in rows if row.twin_verdict != "not run"]
    passed = sum(row.twin_verdict == "passed" for row in twins)
    found = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"{len(rows)} cheats: {found}; {passed} of {len(twins)} honest twins passed"
