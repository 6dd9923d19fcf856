"""Figures of what studies show beside their metrics: learning curves, confusion matrices, differences by study."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from aieng_bench.record.exhibits import Confusion, Curve, Pictures
from aieng_bench.record.schema import Record
from aieng_bench.report import format as fmt
from aieng_bench.report import plots
from aieng_bench.report.paired import Comparison, signed
from aieng_bench.report.view import Plot
from aieng_bench.summary import Group


def learning(group: Group, roles: plots.Roles) -> Plot | None:
    """A line for each ranked contender that shows curves, the mean over seeds at each x that all of them have; None without any."""
    lines = [(row.record, found) for row in plots.ranked(group) if (found := _curves(row.record))]
    if not lines:
        return None
    traces, first = [], lines[0][1][0]
    for record, curves in lines:
        by_x: dict[float, list[float]] = defaultdict(list)
        for curve in curves:
            for x, y in curve.points:
                by_x[x].append(y)
        points = sorted((x, statistics.fmean(ys)) for x, ys in by_x.items() if len(ys) == len(curves))
        marks = roles.marks(record)
        marks["marker"] |= {"size": 5}
        hover = [f"{plots.inert(record.contender.name)}<br>{fmt.digits(y)} at {fmt.digits(x)}" for x, y in points]
        traces.append(
            {**marks, "x": [x for x, _ in points], "y": [y for _, y in points], "mode": "lines+markers"}
            | {"line": {"width": 1.8}, "hoverinfo": "text", "hovertext": hover}
        )
    several = any(len(curves) > 1 for _, curves in lines)
    return plots.plot(
        "Learning curves",
        f"{fmt.clean(first.y)}, {'means over seeds' if several else 'one seed'}. {fmt.clean(group.label)}",
        380,
        traces,
        xaxis={"title": {"text": plots.inert(first.x)}, "rangemode": "tozero"},
        yaxis={"title": {"text": plots.inert(first.y)}},
    )


def _curves(record: Record) -> list[Curve]:
    return [curve for curve in record.exhibits.get("learning", ()) if isinstance(curve, Curve)]


def matrix(record: Record) -> Confusion | None:
    """The confusion of a record, its seeds' counts added up."""
    found = [one for one in record.exhibits.get("confusion", ()) if isinstance(one, Confusion)]
    found = [one for one in found if one.labels == found[0].labels]
    if not found:
        return None
    counts = tuple(tuple(map(sum, zip(*rows))) for rows in zip(*(one.counts for one in found)))
    return Confusion(labels=found[0].labels, counts=counts)


def confusion(record: Record) -> Plot | None:
    """A matrix whose cells are shares of their row, the true class; None if the record shows none."""
    found = matrix(record)
    if found is None:
        return None
    shares = [[count / max(1, sum(row)) for count in row] for row in found.counts]
    labels = [plots.inert(label) for label in found.labels]
    few, name = len(labels) <= 12, plots.inert(record.contender.name)
    hover = [[f"{true} taken for {other}: {n}" for other, n in zip(labels, row)] for true, row in zip(labels, found.counts)]
    trace: dict[str, Any] = {
        "type": "heatmap",
        "meta": {"role": f"{record.contender.kind}-0"},
        "name": name,
        "x": labels,
        "y": labels,
        "z": shares,
        "zmin": 0,
        "zmax": 1,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "text": [[f"{n:,}" if n and few else "" for n in row] for row in found.counts],
        "texttemplate": "%{text}",
        "hoverinfo": "text",
        "hovertext": hover,
    }
    return plots.plot(
        f"Confusion of {fmt.clean(record.contender.name)}",
        f"Test part, true class by row; darker is a larger share of the row. {worst(found)}",
        420 if few else 560,
        [trace],
        xaxis={"title": {"text": "predicted"}, "type": "category", "constrain": "domain"},
        yaxis={"title": {"text": "true"}, "type": "category", "autorange": "reversed", "scaleanchor": "x", "constrain": "domain"},
    )


def worst(found: Confusion) -> str:
    """The commonest mistake, in a sentence."""
    mistakes = [(n, i, j) for i, row in enumerate(found.counts) for j, n in enumerate(row) if i != j and n]
    if not mistakes:
        return "Nothing was mistaken."
    n, i, j = max(mistakes, key=lambda mistake: (mistake[0], -mistake[1], -mistake[2]))
    a, b = fmt.clean(found.labels[i]), fmt.clean(found.labels[j])
    return f"The commonest mistake is {a} taken for {b}: {n:,} of {sum(found.counts[i]):,}."


def pictures(record: Record) -> Iterator[tuple[str, Pictures]]:
    """Every table of pictures that a record shows, with its name."""
    for name, seeds in record.exhibits.items():
        yield from ((name, one) for one in seeds if isinstance(one, Pictures))


def differences(found: Sequence[Comparison], margin: float) -> Plot | None:
    """Each pair's difference of quality with its interval, and the margin within which it is of no consequence."""
    if not found:
        return None
    labels = [
        plots.inert(f"{one.group.definition.benchmark} {one.group.label}: {one.challenger.record.contender.name}") for one in found
    ]
    halves = [one.difference.high - one.difference.value for one in found]
    trace = {
        "name": "challenger less incumbent",
        "meta": {"role": "ours-0"},
        "marker": {"size": 11, "symbol": "circle"},
        "x": [one.difference.value for one in found],
        "y": labels,
        "error_x": {
            "type": "data",
            "array": [half if math.isfinite(half) else 0.0 for half in halves],
            "thickness": 1.6,
            "width": 4,
        },
        "mode": "markers",
        "orientation": "h",
        "hoverinfo": "text",
        "hovertext": [f"{label}<br>{signed(one.difference.value)}" for label, one in zip(labels, found)],
    }
    lines = [
        {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": {"dash": dash, "width": 1.2}}
        for x, dash in ((0.0, "solid"), (-margin, "dot"), (margin, "dot"))
    ]
    return plots.plot(
        "Difference of quality, paired by seed",
        f"Right of the line the challenger is better; dotted: ±{fmt.digits(margin)}. 95 % intervals; one seed has none.",
        130 + 46 * len(found),
        [trace],
        shapes=lines,
        showlegend=False,
        xaxis={"title": {"text": "challenger less incumbent"}},
        yaxis={"autorange": "reversed", "type": "category", "categoryorder": "array", "categoryarray": labels},
    )
