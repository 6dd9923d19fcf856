"""Plotly figures, their colours left to the page (see view.Plot): what all have in common, and speed-ups over cases."""

from __future__ import annotations

import html
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from aieng_bench.record.schema import Record
from aieng_bench.report import format as fmt
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


def plot(title: str, note: str, height: int, traces: Sequence[dict[str, Any]], **layout: Any) -> Plot:
    """A figure as plotly.js takes it. Its Python classes would check every figure of every page; a test checks one of each kind."""
    for axis in ("xaxis", "yaxis"):
        layout[axis] = {"automargin": True, **layout[axis]}
    shared = {"height": height, "margin": _MARGIN, "legend": _LEGEND, "hovermode": "closest"}
    return Plot(title, note, height, {"data": [{"type": "scatter", **trace} for trace in traces], "layout": {**shared, **layout}})


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
    values = [1.0, *(row.speedup.value for points in series.values() for _, row in points if row.speedup)]
    one = {"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper", "line": {"dash": "dot", "width": 1.5}}
    return plot(
        "Speed-up over cases",
        f"Against {fmt.clean(groups[0].definition.baseline)} (dotted line), 95 % intervals; right is faster. {common}",
        150 + len(cases) * (14 * len(series) + 14),
        traces,
        scattermode="group",
        shapes=[one],
        xaxis={
            "title": {"text": "speed-up, logarithmic"},
            "type": "log",
            # Set by the points: the interval of two launches can be wide enough to squeeze all else into a corner.
            "range": [math.log10(min(values) / 1.3), math.log10(max(values) * 1.3)],
            "tickvals": _TICKS,
            "ticktext": [f"{t:g}×" for t in _TICKS],
        },
        yaxis={"autorange": "reversed", "type": "category", "categoryorder": "array", "categoryarray": labels},
    )


def _labels(groups: Sequence[Group]) -> tuple[list[str], str]:
    """A label per case out of the axes that vary, and a sentence on those that do not."""
    axes = list(dict.fromkeys(axis for group in groups for axis in group.case))
    varying = [axis for axis in axes if len({str(group.case.get(axis)) for group in groups}) > 1]
    same = ", ".join(f"{axis}={groups[0].case[axis]}" for axis in axes if axis not in varying)
    labels = [" ".join(f"{axis}={group.case[axis]}" for axis in varying if axis in group.case) for group in groups]
    return [inert(label) or "all" for label in labels], f"All at {fmt.clean(same)}." if same else ""


def _interval_trace(points: Sequence[tuple[str, Row]], roles: Roles) -> dict[str, Any]:
    ratios = [row.speedup for _, row in points if row.speedup]
    return {
        **roles.marks(points[0][1].record),
        "x": [ratio.value for ratio in ratios],
        "y": [label for label, _ in points],
        "error_x": {
            "type": "data",
            "array": [ratio.high - ratio.value for ratio in ratios],
            "arrayminus": [ratio.value - ratio.low for ratio in ratios],
            "thickness": 1.5,
            "width": 3,
        },
        "orientation": "h",
        "mode": "markers",
        "hoverinfo": "text",
        "hovertext": [f"{inert(row.record.contender.name)}<br>{label}<br>{fmt.ratio(row.speedup)}" for label, row in points],
    }
