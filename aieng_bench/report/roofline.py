"""The roofline of a run: achieved rate against arithmetic intensity, under the ceilings that its records carry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from aieng_bench.record.schema import Limit
from aieng_bench.report import format as fmt
from aieng_bench.report import plots
from aieng_bench.report.view import Plot
from aieng_bench.summary import Group, Row


def roofline(groups: Sequence[Group], roles: plots.Roles) -> Plot | None:
    """Achieved rate against arithmetic intensity under the machine's ceilings; None if no ranked cell declares both."""
    series: dict[str, list[tuple[float, float, Row, Group]]] = defaultdict(list)
    limits: dict[tuple[str, float, float | None], Limit] = {}
    for group in groups:
        for row in plots.ranked(group):
            work, latency = group.definition, row.medians.get("latency_us")
            if work.flops and work.bytes and latency and row.record.limit is not None:
                series[row.record.contender.name].append((work.flops / work.bytes, work.flops / latency * 1e6, row, group))
                limit = row.record.limit
                limits[work.compute or "", limit.bandwidth_bytes_per_s, limit.rate_per_s] = limit
    if not series:
        return None
    points = [point for found in series.values() for point in found]
    span = min(x for x, *_ in points) / 3, max(x for x, *_ in points) * 3
    traces = [*_ceilings(limits, span), *(_points(found, roles) for found in series.values())]
    return plots.plot(
        "Achieved rate under the machine's ceilings",
        "Hot-cache figures. Under a slanted line (memory bandwidth) memory binds, under a flat one (arithmetic) the cores do.",
        460,
        traces,
        xaxis={"title": {"text": "arithmetic intensity (FLOP per byte)"}, "type": "log", "dtick": 1, "exponentformat": "power"},
        yaxis={"title": {"text": "achieved FLOP/s"}, "type": "log", "dtick": 1, "exponentformat": "SI"},
    )


def _ceilings(limits: dict[tuple[str, float, float | None], Limit], span: tuple[float, float]) -> list[dict[str, Any]]:
    """One line per pair of ceilings in the records; the bandwidth of a case is that of the memory its working set lives in."""
    traces: list[dict[str, Any]] = []
    rates: set[tuple[str, float | None]] = set()
    for (compute, bandwidth, rate), limit in sorted(limits.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] or 0.0)):
        ridge = min(max(rate / bandwidth, span[0]), span[1]) if rate else span[1]
        xs = sorted({span[0], ridge, span[1]})
        label = f"{plots.inert(compute)} {fmt.quantity(rate, 'FLOP/s')}" if rate and (compute, rate) not in rates else ""
        rates.add((compute, rate))
        hover = (
            f"{plots.inert(compute)}: {fmt.quantity(rate, 'FLOP/s')}<br>memory: {fmt.quantity(bandwidth, 'B/s')}<br>{limit.source}"
        )
        traces.append(
            {
                "x": xs,
                "y": [min(x * bandwidth, rate) if rate else x * bandwidth for x in xs],
                "mode": "lines+text",
                "name": "measured ceilings" if limit.source == "measured" else "datasheet ceilings",
                "legendgroup": limit.source,
                "showlegend": not any(trace["legendgroup"] == limit.source for trace in traces),
                "meta": {"role": "ceiling"},
                "line": {"width": 1.5},
                "text": [""] * (len(xs) - 1) + [label],
                "textposition": "top left",
                "hoverinfo": "text",
                "hovertext": [hover] * len(xs),
            }
        )
    return traces


def _points(points: Sequence[tuple[float, float, Row, Group]], roles: plots.Roles) -> dict[str, Any]:
    return {
        **roles.marks(points[0][2].record),
        "x": [x for x, *_ in points],
        "y": [y for _, y, *_ in points],
        "mode": "markers",
        "hoverinfo": "text",
        "hovertext": [
            f"{plots.inert(row.record.contender.name)}<br>{plots.inert(group.definition.title)}<br>{plots.inert(group.label)}<br>"
            f"{fmt.quantity(y, 'FLOP/s')}, {fmt.percent(row.percent_of_limit)} of the limit"
            for _, y, row, group in points
        ],
    }
