"""How large a difference between two independent measurements is, and how sure: what :mod:`aieng_bench.compare` decides on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from aieng_bench.summary import Floats, Ratio


def quotient(over: Ratio, under: Ratio) -> Ratio:
    """``over / under`` of two independent ratios, with the interval that follows from theirs.

    In logs, as by Zou and Donner, "Construction of confidence limits about effect measures" (2008), equation for a difference.
    """
    effect = log(over.value) - log(under.value)
    down = math.hypot(log(over.value) - log(over.low), log(under.high) - log(under.value))
    up = math.hypot(log(over.high) - log(over.value), log(under.value) - log(under.low))
    weaker = min(over, under, key=lambda r: (r.over != "rounds", r.n))
    high = math.inf if effect + up > 700 else math.exp(effect + up)
    return Ratio(math.exp(effect), math.exp(effect - down), high, weaker.over, weaker.n)


def welch(left: Floats, right: Floats) -> float | None:
    """Two-sided p of equal means without equal variances; None where a side has fewer than two observations."""
    if min(len(left), len(right)) < 2:
        return None
    if np.ptp(left) == 0 == np.ptp(right):
        return 1.0 if left[0] == right[0] else 0.0
    sides = [(float(side.mean()), float(side.std(ddof=1)), len(side)) for side in (left, right)]
    return float(stats.ttest_ind_from_stats(*sides[0], *sides[1], equal_var=False).pvalue)


def centred(values: Floats) -> float | None:
    """Two-sided p of a mean of zero (Student's test of paired differences); None for fewer than two observations."""
    if len(values) < 2:
        return None
    if np.ptp(values) == 0:
        return 1.0 if values[0] == 0 else 0.0
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values that may each be held against alpha."""
    adjusted, running = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        running = max(running, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = running
    return adjusted


def log(value: float) -> float:
    """Logarithm of a ratio's end, which may be 0."""
    return math.log(value) if value > 0 else -math.inf
