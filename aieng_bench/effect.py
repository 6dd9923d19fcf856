"""How large a difference between two independent measurements is, and how sure: what :mod:`aieng_bench.compare` decides on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from aieng_bench.summary import Floats, Over, Ratio


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


@dataclass(frozen=True)
class Shift:
    """A difference of two means with its 95 % interval, and the p of no difference."""

    value: float
    low: float
    high: float
    p: float

    def ratio(self, over: Over, n: int) -> Ratio:
        """Of logs that differ by this, the ratio."""
        low, high = math.exp(max(self.low, -700.0)), math.exp(min(self.high, 700.0))
        return Ratio(math.exp(self.value), low, high if self.high < 700 else math.inf, over, n)


def shift(new: Floats, old: Floats) -> Shift | None:
    """How much higher ``new`` lies, by Yuen, "The two-sample trimmed t for unequal population variances" (1974).

    A fifth of each side is trimmed at either end: of launches on a busy machine one in ten or so is far off, and then Welch's test,
    which this is below five observations, sees nothing else. None where a side has fewer than two.
    """
    if min(len(new), len(old)) < 2:
        return None
    (over, over_error, over_freedom), (under, under_error, under_freedom) = _trimmed(new), _trimmed(old)
    value, square = over - under, over_error + under_error
    if square == 0:
        return Shift(value, value, value, 0.0 if value else 1.0)
    return _shift(value, math.sqrt(square), square**2 / (over_error**2 / over_freedom + under_error**2 / under_freedom))


def _shift(value: float, error: float, freedom: float) -> Shift:
    half = float(stats.t.ppf(0.975, freedom)) * error
    return Shift(value, value - half, value + half, 2 * float(stats.t.sf(abs(value) / error, freedom)))


def _trimmed(values: Floats) -> tuple[float, float, int]:
    """Trimmed mean, the square of its standard error, and its degrees of freedom."""
    ordered, cut = np.sort(values), len(values) // 5
    kept = ordered[cut : len(ordered) - cut]
    n, h = len(values), len(kept)
    winsorised = float(np.clip(ordered, kept[0], kept[-1]).var(ddof=1))
    return float(kept.mean()), (n - 1) * winsorised / (h * (h - 1)), h - 1


def centred(values: Floats) -> Shift | None:
    """How far from zero paired differences lie, by the trimmed mean of :func:`shift` (Tukey and McLaughlin 1963).

    None for fewer than two.
    """
    if len(values) < 2:
        return None
    value, square, freedom = _trimmed(values)
    if square == 0:
        return Shift(value, value, value, 0.0 if value else 1.0)
    return _shift(value, math.sqrt(square), freedom)


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
