"""The chapter of what was expected: a level that a contender should reach, or gain over another, and what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from aieng_bench.report import answers, paired, study
from aieng_bench.report import format as fmt
from aieng_bench.report.chapters import Block, Grid
from aieng_bench.report.declare import Claim
from aieng_bench.report.view import Cell, Column
from aieng_bench.summary import Group, Row

HEADS = ("Expected", "Of", "At least", "Found", "Verdict")
TONES = {"holds": "good", "does not hold": "bad", "not decided": "warn", "quick form, not decided": ""}


def chapter(by_study: Mapping[str, Sequence[Group]], declared: Sequence[Claim]) -> Iterator[Block]:
    """Nothing where no claim's contenders are ranked."""
    rows = [row for claim in declared for group in by_study.get(claim.study, ()) if (row := _row(claim, group)) is not None]
    if rows:
        yield Grid("What was expected", tuple(Column(head, number=head in HEADS[2:4]) for head in HEADS), tuple(rows))
        yield (
            "A level holds if the mean over seeds reaches it. A difference, seed by seed, holds or does not if its whole "
            "95 % interval says so. A quick form decides nothing."
        )


def _row(claim: Claim, group: Group) -> tuple[Cell, ...] | None:
    ranked = {row.record.contender.name: row for row in group.rows if row.rank is not None}
    own, other = ranked.get(claim.contender), ranked.get(claim.than)
    metric = study.quality_metric(group.definition.metrics)
    if own is None or metric is None or (claim.than and other is None):
        return None
    found = _level(claim, own, metric.name) if other is None else _difference(claim, own, other, metric.name)
    if found is None:
        return None
    value, text, verdict = found
    verdict = "quick form, not decided" if answers.quick(own.record) else verdict
    who = f"{claim.contender} over {claim.than}" if claim.than else claim.contender
    least = paired.signed(claim.at_least) if claim.than else fmt.digits(claim.at_least)
    return (
        Cell(fmt.clean(claim.text, limit=200), number=False),
        Cell(fmt.clean(who), fmt.clean(f"{group.definition.benchmark} {group.label}"), number=False),
        Cell(least, sort=claim.at_least),
        Cell(paired.signed(value) if claim.than else fmt.digits(value), text, value),
        Cell(verdict, sort=verdict, tone=TONES[verdict], number=False),
    )


def _level(claim: Claim, own: Row, metric: str) -> tuple[float, str, str] | None:
    found = study.mean(own.record, metric)
    if found is None:
        return None
    value, half = found
    text = "one seed" if half is None else f"± {study.plus_minus(value, half)[1]}"
    return value, text, "holds" if value >= claim.at_least else "does not hold"


def _difference(claim: Claim, own: Row, other: Row, metric: str) -> tuple[float, str, str] | None:
    found = paired.differing(other.record, own.record, metric)
    if found is None:
        return None
    if len(found.by_seed) == 1:
        return found.value, "one seed", "not decided"
    text = f"95 % [{paired.signed(found.low)}, {paired.signed(found.high)}]"
    verdict = "holds" if found.low >= claim.at_least else "does not hold" if found.high < claim.at_least else "not decided"
    return found.value, text, verdict
