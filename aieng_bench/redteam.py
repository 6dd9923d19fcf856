"""The red team: contenders that cheat, each a benchmark of its own beside an honest twin, and what became of them in a run.

A benchmark of the suite ``redteam`` has two contenders, ``cheat`` and the twin, which is its baseline. Its title says what the
cheat does, and its summary, if there is one, why it is waived.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
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
    """Measure the cheats of a plan; those whose twin a busy machine may have refused once more, and then that is the verdict.

    What makes a twin doubtful is everything but a wrong output: a figure that is suspect, a process that was killed or ran out of
    time or memory, an output that could not be checked. A limit that it beat is measured anew: it may have been found too low.
    """
    import torch

    from aieng_bench import ceilings
    from aieng_bench.measure import run

    records = run(plan, store, progress)
    doubtful = {r.definition.benchmark: status(r) for r in records if r.contender.name != CHEAT and doubted(r)}
    if again := tuple(unit for unit in plan.units if unit.benchmark.name in doubtful):
        told = "; ".join(f"{name.removeprefix(f'{REDTEAM}/')}: {why}" for name, why in sorted(doubtful.items()))
        progress.note(f"once more, as the machine was busy: {told}")
        for device in {str(unit.case["device"]) for unit in again}:
            with suppress(RuntimeError):
                ceilings.calibrate(device, plan.quick, torch.get_num_threads())
        records += run(replace(plan, units=again), store, progress)
    return matrix(records)


def caught(record: Record) -> bool:
    """Whether a contender's record shows no speed for its own fault. A disturbed measurement is nobody's."""
    return record.outcome is not Outcome.RAN or record.check.verdict is not Correctness.PASSED or record.quality is Quality.SUSPECT


def doubted(record: Record) -> bool:
    """Whether a twin was refused for what a busy machine does too."""
    wrong = record.outcome is Outcome.RAN and record.check.verdict is Correctness.INCORRECT
    return caught(record) and record.outcome is not Outcome.UNSUPPORTED and not wrong


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
