"""What records say: medians, speed-ups with 95 % intervals, rank. Pure functions, so a report is rebuilt byte for byte.

The figure of a metric is the median over launches of each launch's median over rounds; a speed-up is the ratio of two such figures,
oriented so that above 1 is better. Its interval, by what there is to resample (``Ratio.over``):

- ``launches``, three or more: hierarchical percentile bootstrap. Launches are drawn first, then rounds within each, the same draws
  for both sides, which are thereby paired by (launch, round). Memory layout is drawn anew at each process start, so the launch is
  the unit. Simulated coverage of "95 %": 94-100 % (layout sd 0.5-2 %, round noise 3-10 %, 3-16 launches).
- ``launches``, two: Student t over the two log ratios. Resampling two launches covers only 78-97 %, Student 92-97 %.
- ``rounds``: there is one launch, and its rounds are resampled. The effect of memory layout, several per cent, is not in it, and
  whoever shows the interval says so.
- ``seeds`` (studies): Student t over the log ratios of the seeds that both sides ran; a bootstrap of three values would undercover.
  The value is the geometric mean of the ratios, the centre of that interval.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from aieng_bench.record.schema import Definition, Environment, MetricInfo, Record

RESAMPLES = 2000
Floats = npt.NDArray[np.float64]
# Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom. A table, as a bare GPU machine has no scipy.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclass(frozen=True)
class Ratio:
    """A ratio with its 95 % interval; ``over`` says what varied (see the module), ``n`` how many of it there were."""

    value: float
    low: float
    high: float
    over: Literal["launches", "rounds", "seeds"] = "launches"
    n: int = 1

    def to_json(self) -> dict[str, float | int | str | None]:
        """For JSON, which has no infinity: an end without bound is null."""
        return {**asdict(self), "high": self.high if math.isfinite(self.high) else None}


@dataclass(frozen=True)
class Row:
    """One contender of a case. A cell that is not ranked shows no speed: its medians are empty and its ratios None."""

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
    ranked = [record for record in records if record.ranked]
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
        rows=(*rows, *(Row(record, {}) for record in rest)),
        fastest_baseline=fastest.contender.name if fastest else None,
    )


def _row(record: Record, rank: int, named: Record | None, fastest: Record | None, headline: MetricInfo | None) -> Row:
    if headline is None:
        return Row(record, {})
    to_named = speedup(record, named, headline) if named else None
    return Row(
        record=record,
        medians={m.name: value for m in record.definition.metrics if (value := median(record, m.name)) is not None},
        speedup=to_named,
        speedup_fastest=to_named if fastest is named else speedup(record, fastest, headline) if fastest else None,
        percent_of_limit=percent_of_limit(record, headline),
        rank=rank,
    )


def median(record: Record, metric: str) -> float | None:
    """The figure of a metric: the median over launches of the median over rounds; None without samples."""
    launches = [launch for launch in record.samples.get(metric, ()) if launch]
    return float(np.median([np.median(launch) for launch in launches])) if launches else None


def percent_of_limit(record: Record, headline: MetricInfo) -> float | None:
    """How much of the physical floor's speed a cell reaches, in per cent; None where either is not known."""
    measured = median(record, headline.name)
    if record.limit is None or headline.unit != "µs" or not measured or measured < 0:
        return None
    return 100.0 * record.limit.time_us / measured


def speedup(record: Record, other: Record, metric: MetricInfo) -> Ratio | None:
    """How many times better ``record`` is than ``other``; None if they share no round or a figure is not positive."""
    pairs = paired(record, other, metric)
    if not pairs or any((pair <= 0).any() for pair in pairs):
        return None
    if record.definition.kind == "study":
        logs = _log_ratios(pairs, per_round=True)
        return _student(logs, math.exp(logs.mean()), "seeds")
    value = _ratio_of_medians(pairs)
    return _student(_log_ratios(pairs), value, "launches") if len(pairs) == 2 else _bootstrap(pairs, value)


def observations(record: Record, other: Record, metric: MetricInfo) -> Floats:
    """Independent log ratios of the two, one per launch, seed, or round where there is one launch: what a test is made on."""
    pairs = paired(record, other, metric)
    if not pairs or any((pair <= 0).any() for pair in pairs):
        return np.empty(0)
    return _log_ratios(pairs, per_round=record.definition.kind == "study" or len(pairs) == 1)


def paired(record: Record, other: Record, metric: MetricInfo) -> list[Floats]:
    """Per launch that both have, an array [2, rounds] of numerator and denominator (greater is better) at their common rounds."""
    found = []
    for launch, mine in enumerate(_by_round(record, metric.name)):
        theirs = _by_round(other, metric.name)[launch : launch + 1]
        shared = sorted(set(mine) & set(theirs[0])) if theirs else []
        if shared:
            sides = [[theirs[0][r] for r in shared], [mine[r] for r in shared]]
            found.append(np.array(sides if metric.better == "lower" else sides[::-1], dtype=np.float64))
    return found


def _by_round(record: Record, metric: str) -> list[dict[int, float]]:
    samples = record.samples.get(metric, ())
    rounds = record.rounds or tuple(tuple(range(len(launch))) for launch in samples)
    return [dict(zip(r, launch)) for r, launch in zip(rounds, samples)]


def _log_ratios(pairs: Sequence[Floats], per_round: bool = False) -> Floats:
    if per_round:
        return np.concatenate([np.log(pair[0] / pair[1]) for pair in pairs])
    return np.array([math.log(np.median(pair[0]) / np.median(pair[1])) for pair in pairs])


def _student(logs: Floats, value: float, over: Literal["launches", "seeds"]) -> Ratio:
    if len(logs) == 1:
        return Ratio(value, 0.0, math.inf, over, 1)
    half = student(len(logs) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    centre = float(logs.mean())
    low, high = math.exp(max(centre - half, -700.0)), math.exp(min(centre + half, 700.0))
    return Ratio(value, min(low, value), max(high, value), over, len(logs))


def student(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t; beyond 15 degrees of freedom by its first-order expansion, good to 0.5 %."""
    return _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else 1.960 + 2.45 / freedom


def _bootstrap(pairs: Sequence[Floats], value: float) -> Ratio:
    launches, sizes = len(pairs), tuple(pair.shape[1] for pair in pairs)
    drawn = np.concatenate(pairs, axis=1)[:, _draws(sizes)]
    figures = _medians(_medians(drawn))
    low, high = np.quantile(figures[0] / figures[1], [0.025, 0.975])
    over: Literal["launches", "rounds"] = "launches" if launches > 1 else "rounds"
    return Ratio(value, min(float(low), value), max(float(high), value), over, launches if launches > 1 else sizes[0])


def _medians(values: Floats) -> Floats:
    """Medians along the last axis; sorting in place is several times faster than np.median for many short rows."""
    values.sort(axis=-1)
    n = values.shape[-1]
    return np.asarray((values[..., (n - 1) // 2] + values[..., n // 2]) / 2)


def _ratio_of_medians(pairs: Sequence[Floats]) -> float:
    above, below = (np.median([np.median(pair[side]) for pair in pairs]) for side in (0, 1))
    return float(above / below)


@lru_cache(maxsize=16)
def _draws(sizes: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Places in the joined samples of launches of these sizes that each resample takes, [resample, launch, round]; always the same.

    A launch is drawn as often as the shortest has rounds: with launches of unequal length this errs on the wide side.
    """
    generator = np.random.Generator(np.random.PCG64(20_011_978))
    starts, lengths = np.cumsum([0, *sizes[:-1]]), np.array(sizes)
    which = generator.integers(0, len(sizes), (RESAMPLES, len(sizes), 1))
    within = generator.random((RESAMPLES, len(sizes), min(sizes))) * lengths[which]
    return np.asarray(starts[which] + within.astype(np.intp))
