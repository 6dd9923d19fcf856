"""What records say: medians, speed-ups with 95 % intervals, rank. Pure functions, so a report is rebuilt byte for byte.

The figure of a metric is the median over launches of each launch's median over rounds. A speed-up is oriented so that above 1 is
better; both sides are paired by round, in which they were measured one right after the other, so that what slows the machine for
both divides out. What is sampled anew gives its interval (``Ratio.over``):

- ``launches``, two or more: a launch's log ratio is the median over its rounds; the value is the geometric mean over launches, the
  interval Student's t. Memory layout is drawn anew at each process start, so the launch is the unit. Simulated coverage of "95 %":
  94-97 % (layout sd 0.5-2 %, round noise 3-10 %, normal or heavy-tailed, drift of 5 % a round, 2-16 launches). A hierarchical
  bootstrap of both sides' medians loses the pairing: it covered 95-100 %, its intervals a third wider from five launches on.
- ``rounds``: there is one launch, and the value is the median over its rounds, the interval that of order statistics. The effect of
  memory layout, several per cent, is not in it, and whoever shows the interval says so.
- ``seeds`` (studies): Student t over the log ratios of the seeds that both sides ran; the value is their geometric mean.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from aieng_bench.record.schema import Definition, Environment, MetricInfo, Record

Floats = npt.NDArray[np.float64]
Over = Literal["launches", "rounds", "seeds"]
# Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom. A table, as a bare GPU machine has no scipy.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclass(frozen=True)
class Ratio:
    """A ratio with its 95 % interval; ``over`` says what varied (see the module), ``n`` how many of it there were."""

    value: float
    low: float
    high: float
    over: Over = "launches"
    n: int = 1

    def to_json(self) -> dict[str, float | int | str | None]:
        """For JSON, which has no infinity: an end without bound is null."""
        return {**asdict(self), "high": self.high if math.isfinite(self.high) else None}


@dataclass(frozen=True)
class Row:
    """One contender of a case. A cell that is not ranked shows no speed: its medians are empty and its ratios None.

    The figures of machine code are no speeds: its cells have medians, and are never ranked against each other.
    """

    record: Record
    medians: dict[str, float]
    speedup: Ratio | None = None
    """Against the named baseline, on the headline metric; above 1 is better whatever the metric's direction."""
    speedup_fastest: Ratio | None = None
    """Against the fastest correct baseline."""
    percent_of_limit: float | None = None
    rank: int | None = None


@dataclass(frozen=True)
class Group:
    """One case of one benchmark in one run, with all its contenders: ranked best first, then the rest by name."""

    run: str
    definition: Definition
    case: dict[str, str | int | float | bool]
    label: str
    environment: Environment
    headline: MetricInfo | None
    """The first declared metric that a ranked cell has samples of."""
    rows: tuple[Row, ...]
    fastest_baseline: str | None


def groups(records: Sequence[Record]) -> list[Group]:
    """Records by run, benchmark and case, in the order of their first record."""
    together: dict[tuple[str, str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        together[record.run, record.definition.benchmark, record.definition.hash, record.case_id].append(record)
    return [_group(cell) for cell in together.values()]


def _group(records: Sequence[Record]) -> Group:
    first = records[0]
    ranked = [record for record in records if record.ranked and record.definition.kind != "static"]
    headline = next((m for m in first.definition.metrics if any(median(record, m.name) is not None for record in ranked)), None)
    if headline is not None:
        name, sign = headline.name, 1 if headline.better == "lower" else -1
        ranked = [record for record in ranked if median(record, name) is not None]
        ranked.sort(key=lambda record: (sign * (median(record, name) or 0.0), record.contender.name))
    baselines = [record for record in ranked if record.contender.kind == "baseline"]
    named = next((record for record in ranked if record.contender.name == first.definition.baseline), None)
    fastest = baselines[0] if baselines and headline is not None else None
    rows = [_row(record, rank, named, fastest, headline) for rank, record in enumerate(ranked, start=1)]
    kept = {id(record) for record in ranked}
    rest = sorted((record for record in records if id(record) not in kept), key=lambda record: record.contender.name)
    return Group(
        run=first.run,
        definition=first.definition,
        case=dict(first.case),
        label=" ".join(f"{axis}={value}" for axis, value in first.case.items() if axis != "device"),
        environment=first.environment,
        headline=headline,
        rows=(*rows, *(Row(record, medians(record) if record.definition.kind == "static" else {}) for record in rest)),
        fastest_baseline=fastest.contender.name if fastest else None,
    )


def _row(record: Record, rank: int, named: Record | None, fastest: Record | None, headline: MetricInfo | None) -> Row:
    if headline is None:
        return Row(record, {})
    to_named = speedup(record, named, headline) if named else None
    return Row(
        record=record,
        medians=medians(record),
        speedup=to_named,
        speedup_fastest=to_named if fastest is named else speedup(record, fastest, headline) if fastest else None,
        percent_of_limit=percent_of_limit(record, headline),
        rank=rank,
    )


def medians(record: Record) -> dict[str, float]:
    """The figure of each metric that has samples."""
    return {m.name: value for m in record.definition.metrics if (value := median(record, m.name)) is not None}


def median(record: Record, metric: str) -> float | None:
    """The figure of a metric: the median over launches of the median over rounds; None without samples."""
    launches = [launch for launch in record.samples.get(metric, ()) if launch]
    return _middle(_middle(launch) for launch in launches) if launches else None


def _middle(values: Iterable[float]) -> float:
    """The median, in a fraction of the time of ``statistics.median``."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def percent_of_limit(record: Record, headline: MetricInfo) -> float | None:
    """How much of the physical floor's speed a cell reaches, in per cent; None where either is not known."""
    measured = median(record, headline.name)
    if record.limit is None or headline.unit != "µs" or not measured or measured < 0:
        return None
    return 100.0 * record.limit.time_us / measured


def speedup(record: Record, other: Record, metric: MetricInfo) -> Ratio | None:
    """How many times better ``record`` is than ``other``; None if they share no round or a figure is not positive."""
    logs, over = observed(record, other, metric)
    return interval(logs, over) if len(logs) else None


def observations(record: Record, other: Record, metric: MetricInfo) -> Floats:
    """Independent log ratios of the two, one per launch, seed, or round where there is one launch: what a test is made on.

    None at all if the two share no round, or if a figure is not positive.
    """
    return observed(record, other, metric)[0]


def observed(record: Record, other: Record, metric: MetricInfo) -> tuple[Floats, Over]:
    """:func:`observations`, and what they are of."""
    pairs = paired(record, other, metric)
    if any(above <= 0 or below <= 0 for launch in pairs for above, below in launch):
        pairs = []
    logs = [[math.log(above / below) for above, below in launch] for launch in pairs]
    if record.definition.kind == "study":
        return np.array([log for launch in logs for log in launch]), "seeds"
    if len(logs) == 1:
        return np.array(logs[0]), "rounds"
    return np.array([_middle(launch) for launch in logs]), "launches"


def paired(record: Record, other: Record, metric: MetricInfo) -> list[list[tuple[float, float]]]:
    """Per launch that both have, numerator and denominator (greater is better) at each of their common rounds."""
    found = []
    for mine, theirs in zip(_by_round(record, metric.name), _by_round(other, metric.name)):
        shared = [(theirs[r], mine[r]) for r in sorted(mine.keys() & theirs.keys())]
        if shared:
            found.append(shared if metric.better == "lower" else [(mine, theirs) for theirs, mine in shared])
    return found


def _by_round(record: Record, metric: str) -> list[dict[int, float]]:
    samples = record.samples.get(metric, ())
    rounds = record.rounds or tuple(tuple(range(len(launch))) for launch in samples)
    return [dict(zip(r, launch)) for r, launch in zip(rounds, samples)]


def interval(logs: Floats, over: Over) -> Ratio:
    """The ratio that these log ratios estimate: Student about their mean; of rounds, their median with order statistics about it.

    One seed alone has no interval, and six rounds are the fewest for which the widest interval there is covers 95 %.
    """
    if over == "rounds":
        ordered = sorted(logs.tolist())
        skipped = _skipped(len(ordered))
        centre, low, high = _middle(ordered), ordered[skipped], ordered[len(ordered) - 1 - skipped]
    else:
        values = logs.tolist()  # five or so, of which numpy's own functions take ten times as long
        centre = math.fsum(values) / len(values)
        squares = math.fsum((value - centre) ** 2 for value in values)
        half = student(len(values) - 1) * math.sqrt(squares / (len(values) - 1) / len(values)) if len(values) > 1 else math.inf
        low, high = centre - half, centre + half
    return Ratio(_exp(centre), _exp(low), _exp(high), over, len(logs))


def _skipped(n: int) -> int:
    """How many order statistics on each side the 95 % interval of a median leaves out: P(Binomial(n, 1/2) <= that) < 0.025."""
    total, skipped = 1, 0
    while total + math.comb(n, skipped + 1) < 0.025 * 2**n:
        skipped += 1
        total += math.comb(n, skipped)
    return skipped


def _exp(log_ratio: float) -> float:
    return math.inf if log_ratio > 700 else math.exp(log_ratio)


def student(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t; beyond 15 degrees of freedom by its first-order expansion, good to 0.5 %."""
    return _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else 1.960 + 2.45 / freedom
