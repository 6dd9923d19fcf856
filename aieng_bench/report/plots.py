"""Plotly figures: speed-ups over cases, roofline, a study's quality against cost. Colours are left to the page (see view.Plot)."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from aieng_bench.record.schema import Limit, MetricInfo, Record
from aieng_bench.report import format as fmt
from aieng_bench.report import study
from aieng_bench.report.view import Plot
from aieng_bench.summary import Group, Row

_LEGEND = {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "xanchor": "left"}
_MARGIN = {"l": 10, "r": 16, "t": 10, "b": 10}
_TICKS = [step * 10.0**power for power in range(-4, 6) for step in (1, 2, 5)]
_COLOURS = 6
"""How many colours report.css has for each kind."""
_SYMBOLS = {"ours": ("circle", "circle-open-dot", "hexagon2"), "baseline": ("diamond", "triangle-up", "star-diamond")}


def inert(text: str) -> str:
    """A name for plotly, which reads some HTML in its texts: escaped, so that it is shown as written."""
    return html.escape(fmt.clean(text))


class Roles:
    """Gives every contender a colour and a symbol of its kind, the same in all figures of a page, in order of first sight."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, int]] = defaultdict(dict)

    def marks(self, record: Record) -> dict[str, Any]:
        """Name, role and symbol of a contender's trace: ours round, baselines pointed, so that they differ without colour too."""
        kind, name = record.contender.kind, record.contender.name
        number = self._seen[kind].setdefault(name, len(self._seen[kind]))
        symbols = _SYMBOLS[kind]
        return {
            "name": inert(name),
            "meta": {"role": f"{kind}-{number % _COLOURS}"},
            "marker": {"symbol": symbols[number // _COLOURS % len(symbols)], "size": 10},
        }


def ranked(group: Group) -> list[Row]:
    return [row for row in group.rows if row.rank is not None]


def _plot(title: str, note: str, height: int, traces: Sequence[Any], **layout: Any) -> Plot:
    figure = go.Figure(data=traces)
    figure.update_layout(
        template="none", height=height, margin=_MARGIN, legend=_LEGEND, hovermode="closest", xaxis_automargin=True, **layout
    )
    figure.update_yaxes(automargin=True)
    return Plot(title, note, height, figure.to_plotly_json())


def speedups(groups: Sequence[Group], roles: Roles) -> Plot | None:
    """Speed-up against the named baseline with its interval, case by case; None unless two cases have one."""
    cases = [group for group in groups if any(row.speedup for row in ranked(group))]
    if len(cases) < 2 or groups[0].definition.kind == "study":
        return None
    labels, common = _labels(cases)
    series: dict[str, list[tuple[str, Row]]] = defaultdict(list)
    for label, group in zip(labels, cases):
        for row in ranked(group):
            if row.speedup and row.record.contender.name != group.definition.baseline:
                series[row.record.contender.name].append((label, row))
    traces = [_interval_trace(points, roles) for points in series.values()]
    one = {"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper", "line": {"dash": "dot", "width": 1.5}}
    return _plot(
        "Speed-up over cases",
        f"Against {fmt.clean(groups[0].definition.baseline)} (dotted line), 95 % intervals; right is faster. {common}",
        150 + len(cases) * (14 * len(series) + 14),
        traces,
        scattermode="group",
        shapes=[one],
        xaxis={"title": {"text": "speed-up, logarithmic"}, "type": "log", "tickvals": _TICKS, "ticktext": [f"{t:g}×" for t in _TICKS]},
        yaxis={"autorange": "reversed", "type": "category", "categoryorder": "array", "categoryarray": labels},
    )


def _labels(groups: Sequence[Group]) -> tuple[list[str], str]:
    """A label per case out of the axes that vary, and a sentence on those that do not."""
    axes = list(dict.fromkeys(axis for group in groups for axis in group.case))
    varying = [axis for axis in axes if len({str(group.case.get(axis)) for group in groups}) > 1]
    same = ", ".join(f"{axis}={groups[0].case[axis]}" for axis in axes if axis not in varying)
    labels = [" ".join(f"{axis}={group.case[axis]}" for axis in varying if axis in group.case) for group in groups]
    return [inert(label) or "all" for label in labels], f"All at {fmt.clean(same)}." if same else ""


def _interval_trace(points: Sequence[tuple[str, Row]], roles: Roles) -> Any:
    ratios = [row.speedup for _, row in points if row.speedup]
    return go.Scatter(
        **roles.marks(points[0][1].record),
        x=[ratio.value for ratio in ratios],
        y=[label for label, _ in points],
        error_x={
            "type": "data",
            "array": [ratio.high - ratio.value for ratio in ratios],
            "arrayminus": [ratio.value - ratio.low for ratio in ratios],
            "thickness": 1.5,
            "width": 3,
        },
        orientation="h",
        mode="markers",
        hoverinfo="text",
        hovertext=[f"{inert(row.record.contender.name)}<br>{label}<br>{fmt.ratio(row.speedup)}" for label, row in points],
    )


def roofline(groups: Sequence[Group], roles: Roles) -> Plot | None:
    """Achieved rate against arithmetic intensity under the machine's ceilings; None if no ranked cell declares both."""
    series: dict[str, list[tuple[float, float, Row, Group]]] = defaultdict(list)
    limits: dict[tuple[str, float, float | None], Limit] = {}
    for group in groups:
        for row in ranked(group):
            work, latency = group.definition, row.medians.get("latency_us")
            if work.flops and work.bytes and latency and row.record.limit is not None:
                series[row.record.contender.name].append((work.flops / work.bytes, work.flops / latency * 1e6, row, group))
                limit = row.record.limit
                limits[work.compute or "", limit.bandwidth_bytes_per_s, limit.rate_per_s] = limit
    if not series:
        return None
    points = [point for found in series.values() for point in found]
    span = min(x for x, *_ in points) / 3, max(x for x, *_ in points) * 3
    traces = [*_ceilings(limits, span), *(_roofline_trace(found, roles) for found in series.values())]
    return _plot(
        "Achieved rate under the machine's ceilings",
        "Hot-cache figures. Under a slanted line (memory bandwidth) memory binds, under a flat one (arithmetic) the cores do.",
        460,
        traces,
        xaxis={"title": {"text": "arithmetic intensity (FLOP per byte)"}, "type": "log", "dtick": 1, "exponentformat": "power"},
        yaxis={"title": {"text": "achieved FLOP/s"}, "type": "log", "dtick": 1, "exponentformat": "SI"},
    )


def _ceilings(limits: dict[tuple[str, float, float | None], Limit], span: tuple[float, float]) -> list[Any]:
    """One line per pair of ceilings in the records; the bandwidth of a case is that of the memory its working set lives in."""
    traces = []
    rates: set[tuple[str, float | None]] = set()
    for (compute, bandwidth, rate), limit in sorted(limits.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] or 0.0)):
        ridge = min(max(rate / bandwidth, span[0]), span[1]) if rate else span[1]
        xs = sorted({span[0], ridge, span[1]})
        label = f"{inert(compute)} {fmt.quantity(rate, 'FLOP/s')}" if rate and (compute, rate) not in rates else ""
        rates.add((compute, rate))
        hover = f"{inert(compute)}: {fmt.quantity(rate, 'FLOP/s')}<br>memory: {fmt.quantity(bandwidth, 'B/s')}<br>{limit.source}"
        traces.append(
            go.Scatter(
                x=xs,
                y=[min(x * bandwidth, rate) if rate else x * bandwidth for x in xs],
                mode="lines+text",
                name="measured ceilings" if limit.source == "measured" else "datasheet ceilings",
                legendgroup=limit.source,
                showlegend=not any(trace.legendgroup == limit.source for trace in traces),
                meta={"role": "ceiling"},
                line={"width": 1.5},
                text=[""] * (len(xs) - 1) + [label],
                textposition="top left",
                hoverinfo="text",
                hovertext=[hover] * len(xs),
            )
        )
    return traces


def _roofline_trace(points: Sequence[tuple[float, float, Row, Group]], roles: Roles) -> Any:
    return go.Scatter(
        **roles.marks(points[0][2].record),
        x=[x for x, *_ in points],
        y=[y for _, y, *_ in points],
        mode="markers",
        hoverinfo="text",
        hovertext=[
            f"{inert(row.record.contender.name)}<br>{inert(group.definition.title)}<br>{inert(group.label)}<br>"
            f"{fmt.quantity(y, 'FLOP/s')}, {fmt.percent(row.percent_of_limit)} of the limit"
            for _, y, row, group in points
        ],
    )


def tradeoff(group: Group, roles: Roles) -> Plot | None:
    """Quality against cost with peak memory as the area of the bubble, and the Pareto front; None for fewer than two contenders."""
    metrics = group.definition.metrics
    quality, cost = study.quality_metric(metrics), study.cost_metric(metrics)
    if quality is None or cost is None:
        return None
    points = [
        (row.record, x, y)
        for row in ranked(group)
        if (x := study.mean(row.record, cost.name)) and (y := study.mean(row.record, quality.name))
    ]
    if len(points) < 2:
        return None
    scale = fmt.scale([x[0] for _, x, _ in points], cost.unit)
    front = study.pareto([(x[0], y[0]) for _, x, y in points])
    line = go.Scatter(
        x=[points[i][1][0] / scale.factor for i in front], y=[points[i][2][0] for i in front], mode="lines",
        line={"dash": "dot", "width": 1.5}, name="Pareto front", meta={"role": "ceiling"}, hoverinfo="skip",
    )  # fmt: skip
    largest = max(record.memory.get("peak_bytes", 0.0) for record, *_ in points) or 1.0
    bubbles = [_bubble(record, x, y, scale, largest, roles) for record, x, y in points]
    axis = {"rangemode": "tozero"}
    return _plot(
        f"{fmt.clean(quality.title or quality.name)} against {fmt.clean(cost.title or cost.name)}",
        f"Means over seeds with 95 % intervals; the area is peak memory. Better is up and to the left. {fmt.clean(group.label)}",
        430,
        [line, *bubbles],
        showlegend=False,
        xaxis={"title": {"text": _axis_title(cost, scale.unit)}, **axis},
        yaxis={"title": {"text": _axis_title(quality, quality.unit)}},
    )


def _axis_title(metric: MetricInfo, unit: str) -> str:
    return inert(fmt.column(metric, unit))


def _bubble(
    record: Record,
    x: tuple[float, float | None],
    y: tuple[float, float | None],
    scale: fmt.Scale,
    largest: float,
    roles: Roles,
) -> Any:
    peak = record.memory.get("peak_bytes", 0.0)
    marks = roles.marks(record)
    marks["marker"] |= {"size": 8 + 34 * (peak / largest) ** 0.5, "opacity": 0.75}
    return go.Scatter(
        **marks,
        x=[x[0] / scale.factor],
        y=[y[0]],
        error_x={"type": "data", "array": [(x[1] or 0.0) / scale.factor], "thickness": 1},
        error_y={"type": "data", "array": [y[1] or 0.0], "thickness": 1},
        mode="markers+text",
        text=[inert(record.contender.name[:28])],
        textposition="middle right",
        hoverinfo="text",
        hovertext=[f"{inert(record.contender.name)}<br>{fmt.digits(y[0])} at {scale.text(x[0])} {scale.unit}<br>{fmt.memory(record)}"],
    )
