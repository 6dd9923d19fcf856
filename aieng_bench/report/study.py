"""How a study's contenders compare: which metric is its quality and which its cost, means over seeds, and who is on the Pareto front."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from aieng_bench.record.schema import MetricInfo, Record
from aieng_bench.report.format import digits
from aieng_bench.summary import student

_TIMES = ("ns", "µs", "ms", "s")


def quality_metric(metrics: Sequence[MetricInfo]) -> MetricInfo | None:
    """The first metric that is better higher: studies declare their quality first."""
    return next((m for m in metrics if m.better == "higher"), None)


def cost_metric(metrics: Sequence[MetricInfo]) -> MetricInfo | None:
    """The inference latency: the first time named ``latency…``, else the first time, else the first metric that is better lower."""
    times = [m for m in metrics if m.unit in _TIMES and m.better == "lower"]
    lower = [m for m in metrics if m.better == "lower"]
    return next((m for m in times if m.name.startswith("latency")), next(iter([*times, *lower]), None))


def seeds(record: Record, metric: str) -> list[float]:
    """The figure of every seed, over all launches."""
    return [value for launch in record.samples.get(metric, ()) for value in launch]


def mean(record: Record, metric: str) -> tuple[float, float | None] | None:
    """Mean over seeds and the half width of its 95 % interval, ``t · s / √n``; the latter None with one seed, all None without any."""
    values = seeds(record, metric)
    if not values:
        return None
    if len(values) == 1:
        return values[0], None
    return statistics.fmean(values), student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def plus_minus(value: float, half: float) -> tuple[str, str]:
    """A mean and its half width to the same decimals, the latter with two significant digits: ``98.94``, ``0.37``."""
    if half <= 0 or not 1e-4 < half < 1e7:
        return digits(value), digits(half)
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return f"{value:,.{decimals}f}", f"{half:,.{decimals}f}"


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (cost, quality) points that no other point beats in both, by rising cost."""
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front
