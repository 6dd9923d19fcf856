"""A challenger against an incumbent: the difference of quality seed by seed, the ratios of cost, and the decision they allow."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aieng_bench.record.schema import MetricInfo, Record
from aieng_bench.report import format as fmt
from aieng_bench.report import study
from aieng_bench.report.declare import Module, Pair
from aieng_bench.summary import Group, Ratio, Row, speedup, student

Quality = Literal["better", "equal", "worse", "undecided"]
Cost = Literal["lower", "equal", "higher", "undecided"]


@dataclass(frozen=True)
class Difference:
    """Mean over seeds of challenger less incumbent, with its 95 % interval (Student's t); one seed has no interval."""

    by_seed: tuple[tuple[int, float, float], ...]
    """Seed, the incumbent's figure, the challenger's."""
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """One pair in one case. ``cost`` and the other ratios are the incumbent's over the challenger's: above 1 is the better."""

    group: Group
    incumbent: Row
    challenger: Row
    quality: MetricInfo
    cost: MetricInfo
    difference: Difference
    faster: Ratio | None
    smaller: dict[str, float]
    """``peak memory`` and ``parameters``: the incumbent's over the challenger's, where both are known."""


def comparisons(groups: Sequence[Group], module: Module) -> list[Comparison]:
    """Every declared pair in every case in which both are ranked."""
    return [found for pair in module.pairs for group in groups if (found := compared(group, pair)) is not None]


def compared(group: Group, pair: Pair) -> Comparison | None:
    metrics = group.definition.metrics
    quality, cost = study.quality_metric(metrics), study.cost_metric(metrics)
    rows = {row.record.contender.name: row for row in group.rows if row.rank is not None}
    incumbent, challenger = rows.get(pair.incumbent), rows.get(pair.challenger)
    if group.definition.benchmark != pair.study or not (incumbent and challenger and quality and cost):
        return None
    difference = differing(incumbent.record, challenger.record, quality.name)
    if difference is None:
        return None
    sizes = {"peak memory": (_peak(incumbent), _peak(challenger))}
    sizes |= {"parameters": (incumbent.medians.get("parameters"), challenger.medians.get("parameters"))}
    return Comparison(
        group=group,
        incumbent=incumbent,
        challenger=challenger,
        quality=quality,
        cost=cost,
        difference=difference,
        faster=speedup(challenger.record, incumbent.record, cost),
        smaller={name: theirs / own for name, (theirs, own) in sizes.items() if theirs and own and theirs > 0 and own > 0},
    )


def _peak(row: Row) -> float | None:
    return row.record.memory.get("peak_bytes")


def differing(incumbent: Record, challenger: Record, metric: str) -> Difference | None:
    """The difference over the seeds that both ran; None if there is none."""
    sides = [dict(zip(study.rounds(record), study.seeds(record, metric))) for record in (incumbent, challenger)]
    shared = sorted(sides[0].keys() & sides[1].keys())
    if not shared:
        return None
    by_seed = tuple((seed, sides[0][seed], sides[1][seed]) for seed in shared)
    values = [own - theirs for _, theirs, own in by_seed]
    value = statistics.fmean(values)
    half = student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Difference(by_seed, value, value - half, value + half)


def judged(difference: Difference, margin: float) -> Quality:
    """Equal if the whole interval lies within the margin; else better or worse if it leaves 0 out; else undecided."""
    if -margin <= difference.low and difference.high <= margin:
        return "equal"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "undecided"


def costly(ratio: Ratio | None) -> Cost:
    """Of a ratio above 1 if the challenger costs less; equal is within 5 % either way."""
    if ratio is None or not math.isfinite(ratio.high):
        return "undecided"
    if ratio.low >= 0.95 and ratio.high <= 1.05:
        return "equal"
    return "lower" if ratio.low > 1 else "higher" if ratio.high < 1 else "undecided"


def decision(found: Comparison, module: Module) -> tuple[str, str]:
    """What to do, in a word or two and a tone, by the two verdicts alone."""
    quality, cost = judged(found.difference, module.margin), costly(found.faster)
    if quality == "undecided":
        return "not decided", "warn"
    if quality == "worse":
        return (
            f"keep the {module.incumbent}, unless latency matters more" if cost == "lower" else f"keep the {module.incumbent}"
        ), "bad"
    if cost in ("lower", "equal"):
        return (f"replace by the {module.challenger}" if (quality, cost) != ("equal", "equal") else "either will do"), "good"
    if quality == "better":
        rider = "if its latency is affordable" if cost == "higher" else "for its quality; latency not decided"
        return f"replace by the {module.challenger} {rider}", "good"
    return (f"keep the {module.incumbent}", "bad") if cost == "higher" else ("not decided", "warn")


def reason(found: Comparison, module: Module) -> str:
    """The decision's sentence: every figure in it is the records'."""
    difference, name = found.difference, fmt.clean(found.quality.title or found.quality.name)
    quality, cost = judged(difference, module.margin), costly(found.faster)
    mine, theirs = (fmt.clean(row.record.contender.name) for row in (found.challenger, found.incumbent))
    parts = [f"{mine} has a {name} of {mean(found.challenger, found.quality)}, {theirs} {mean(found.incumbent, found.quality)}"]
    seeds = len(difference.by_seed)
    if seeds == 1:
        parts.append(f"the difference is {signed(difference.value)} on one seed, which has no interval: {quality}")
    else:
        interval = f"95 % [{signed(difference.low)}, {signed(difference.high)}] over {seeds} seeds"
        parts.append(f"paired by seed it differs by {signed(difference.value)}, {interval}: {quality}")
    latency = fmt.clean(found.cost.title or found.cost.name)
    costs = f"{latency} is {mean(found.challenger, found.cost)} against {mean(found.incumbent, found.cost)}"
    if found.faster is not None:
        costs += f", {fmt.ratio(found.faster)} as fast: {'cost' if cost == 'undecided' else 'its cost is'} {cost}"
    parts.append(costs)
    sizes = " and ".join(f"{fmt.digits(1 / ratio)}× the {what}" for what, ratio in found.smaller.items())
    return "; ".join([*parts, *([f"{mine} takes {sizes} of {theirs}"] if sizes else [])]) + "."


def mean(row: Row, metric: MetricInfo) -> str:
    """The mean over seeds with half its 95 % interval, in its unit."""
    found = study.mean(row.record, metric.name)
    if found is None:
        return fmt.NOTHING
    scale = fmt.scale([found[0]], metric.unit)
    if found[1] is None:
        return f"{scale.text(found[0])} {scale.unit}".strip()
    return f"{' ± '.join(study.plus_minus(found[0] / scale.factor, found[1] / scale.factor))} {scale.unit}".strip()


def signed(value: float) -> str:
    """With its sign and three significant digits; ``0`` has none."""
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{fmt.digits(abs(value))}"
