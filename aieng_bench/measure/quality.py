"""Whether a measurement can be believed: how much its samples spread, what physics allows, and what the parent's own clock saw."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from aieng_bench.define import Metric
from aieng_bench.record.schema import Limit, Quality

LARGEST_SPREAD = 0.25
"""Interquartile range by median. A quiet machine gives 0.01 to 0.05, a neighbour that disturbs now and then 0.1; above 0.25 half of
the samples are an eighth or more away from the median, which is larger than most differences we report. What slows all contenders
of a round alike is taken out first: rounds are interleaved so that it cancels in every ratio."""
LIMIT_SHARE = 0.98
"""The ceiling is a measurement too; two per cent are its own error."""
LEAST_ACCOUNTED = 0.75
"""Part of the parent's wall time that the worker's own sums must reach in the better turns (upper quartile). The rest is waking,
stopping and bookkeeping, 2 % on a quiet machine; where others keep every core busy, single turns were seen at 50 %."""
MOST_ACCOUNTED = 1.02

Samples = Mapping[str, Sequence[Sequence[float]]]
Accounts = Sequence[tuple[int, int]]
"""Of each turn, nanoseconds by the parent's clock and those that the worker claims."""
Novelty = Sequence[tuple[float, float]]
"""Of each launch, microseconds a call on values never seen before, and on the same values again."""
SEEN_BEFORE = 1.5
"""How much longer calls on new values may take than on values seen just before; both find their inputs just written."""


def quality(
    metrics: Sequence[Metric],
    samples: Samples,
    limit: Limit | None,
    accounts: Accounts,
    others: Sequence[Samples] = (),
    novelty: Novelty = (),
    disturbed: str = "",
) -> tuple[Quality, str]:
    """Verdict and its reason; '' for a clean measurement. ``others``: the samples of the unit's other contenders; ``disturbed``:
    what the device's driver told of (see measure.watch)."""
    reason = remembered(novelty) or suspicion(metrics, samples, limit, accounts)
    if reason:
        return Quality.SUSPECT, reason
    if disturbed:
        return Quality.NOISY, disturbed
    for metric in metrics:
        values = undisturbed(samples, others, metric.name)
        if len(values) >= 4 and (spread := relative_iqr(values)) > LARGEST_SPREAD:
            return Quality.NOISY, f"{metric.name}: interquartile range is {spread:.0%} of the median"
    return Quality.CLEAN, ""


def suspicion(metrics: Sequence[Metric], samples: Samples, limit: Limit | None, accounts: Accounts) -> str:
    for metric in metrics:
        values = pooled(samples, metric.name)
        if not values:
            continue
        median = statistics.median(values)
        if median <= 0:
            return f"{metric.name}: a median of {median:g}"
        if limit is not None and median < LIMIT_SHARE * limit.time_us:
            return f"{metric.name}: {median:.4g} µs is faster than the machine can ({limit.time_us:.4g} µs, {limit.binds})"
    accounted = sorted(claimed / wall for wall, claimed in accounts if wall > 0)
    share = accounted[3 * len(accounted) // 4] if accounted else 1.0
    if not LEAST_ACCOUNTED <= share <= MOST_ACCOUNTED:
        return f"the worker accounts for {share:.0%} of the time that its parent saw pass"
    return ""


def remembered(novelty: Novelty) -> str:
    """Whether results must have been kept: in every launch calls on values seen before were much quicker than on new ones."""
    if not novelty or any(new <= SEEN_BEFORE * seen for new, seen in novelty):
        return ""
    new, seen = novelty[0]
    return f"a call on new values takes {new:.4g} µs, on values seen before {seen:.4g} µs"


def undisturbed(samples: Samples, others: Sequence[Samples], metric: str) -> list[float]:
    """Own samples, each divided by how slow the machine was in its round: the median, over the others, of sample by own median."""
    own = pooled(samples, metric)
    rounds = [len(launch) for launch in samples.get(metric, ())]
    same = [pooled(other, metric) for other in others if [len(launch) for launch in other.get(metric, ())] == rounds]
    factors = [[value / statistics.median(values) for value in values] for values in same if values and min(values) > 0]
    return [value / statistics.median(column) for value, column in zip(own, zip(*factors))] if factors else own


def pooled(samples: Samples, metric: str) -> list[float]:
    return [value for launch in samples.get(metric, ()) for value in launch]


def relative_iqr(values: Sequence[float]) -> float:
    """Interquartile range by median."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle
