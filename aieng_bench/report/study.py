"""How a study's contenders compare: its quality and its cost metric, means over seeds, the Pareto front and its figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from aieng_bench.record.schema import MetricInfo, Record
from aieng_bench.report import format as fmt
from aieng_bench.report import plots
from aieng_bench.report.view import Plot
from aieng_bench.summary import Group, student

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


def rounds(record: Record) -> list[int]:
    """The seed of each of :func:`seeds`."""
    return [seed for launch in record.rounds for seed in launch]


def mean(record: Record, metric: str) -> tuple[float, float | None] | None:
    """Mean over seeds and half the width of its 95 % interval, ``t · s / √n`` (None with one seed); None without any."""
    values = seeds(record, metric)
    if not values:
        return None
    if len(values) == 1:
        return values[0], None
    return statistics.fmean(values), student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def plus_minus(value: float, half: float) -> tuple[str, str]:
    """A mean and its half width to the same decimals, the latter with two significant digits: ``98.94``, ``0.37``."""
    if half <= 0 or not 1e-4 < half < 1e7:
        return fmt.digits(value), fmt.digits(half)
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return f"{value:,.{decimals}f}", f"{half:,.{decimals}f}"


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (cost, quality) points that no other point beats in both, by rising cost."""
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def tradeoff(group: Group, roles: plots.Roles) -> Plot | None:
    """Quality against cost with peak memory as the area of the bubble, and the Pareto front; None for fewer than two contenders."""
    metrics = group.definition.metrics
    quality, cost = quality_metric(metrics), cost_metric(metrics)
    if quality is None or cost is None:
        return None
    points = [
        (row.record, x, y)
        for row in plots.ranked(group)
        if (x := mean(row.record, cost.name)) and (y := mean(row.record, quality.name))
    ]
    if len(points) < 2:
        return None
    scale = fmt.scale([x[0] for _, x, _ in points], cost.unit)
    front = pareto([(x[0], y[0]) for _, x, y in points])
    line = {
        "x": [points[i][1][0] / scale.factor for i in front],
        "y": [points[i][2][0] for i in front],
        "mode": "lines",
        "line": {"dash": "dot", "width": 1.5},
        "meta": {"role": "ceiling"},
        "name": "Pareto front",
        "hoverinfo": "skip",
    }
    largest = max(record.memory.get("peak_bytes", 0.0) for record, *_ in points) or 1.0
    bubbles = [_bubble(record, x, y, scale, largest, roles) for record, x, y in points]
    axis = {"rangemode": "tozero"}
    return plots.plot(
        f"{fmt.clean(quality.title or quality.name)} against {fmt.clean(cost.title or cost.name)}",
        f"Means over seeds with 95 % intervals; the area is peak memory. Better is up and to the left. {fmt.clean(group.label)}",
        430,
        [line, *bubbles],
        showlegend=False,
        xaxis={"title": {"text": _axis_title(cost, scale.unit)}, **axis},
        yaxis={"title": {"text": _axis_title(quality, quality.unit)}},
    )


def _axis_title(metric: MetricInfo, unit: str) -> str:
    return plots.inert(fmt.column(metric, unit))


def _bubble(
    record: Record,
    x: tuple[float, float | None],
    y: tuple[float, float | None],
    scale: fmt.Scale,
    largest: float,
    roles: plots.Roles,
) -> dict[str, Any]:
    peak = record.memory.get("peak_bytes", 0.0)
    marks = roles.marks(record)
    marks["marker"] |= {"size": 8 + 34 * (peak / largest) ** 0.5, "opacity": 0.75}
    return {
        **marks,
        "x": [x[0] / scale.factor],
        "y": [y[0]],
        "error_x": {"type": "data", "array": [(x[1] or 0.0) / scale.factor], "thickness": 1},
        "error_y": {"type": "data", "array": [y[1] or 0.0], "thickness": 1},
        "mode": "markers+text",
        "text": [plots.inert(record.contender.name[:28])],
        "textposition": "middle right",
        "cliponaxis": False,
        "hoverinfo": "text",
        "hovertext": [
            f"{plots.inert(record.contender.name)}<br>{fmt.digits(y[0])} at {scale.text(x[0])} {scale.unit}<br>{fmt.memory(record)}"
        ],
    }
