"""The page's plotly figures drawn by matplotlib, for Markdown and notebooks, in the light colours of report.css."""

from __future__ import annotations

import html
import io
import re
import textwrap
from functools import cache
from importlib.resources import files
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from aieng_bench.record.exhibits import Pictures
from aieng_bench.report import format as fmt
from aieng_bench.report.view import Plot

DPI, WIDTH = 110, 9.0
_STYLE: Any = {
    "text.parse_math": False,  # names may hold dollars
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
}
_MARKERS = {"circle": "o", "circle-open-dot": "o", "hexagon2": "h", "diamond": "D", "triangle-up": "^", "star-diamond": "*"}


@cache
def colours() -> dict[str, str]:
    """The light colour of every role in report.css."""
    css = (files("aieng_bench.report") / "templates/report.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([a-z0-9-]+): light-dark\((#[0-9a-f]{6}),", css))


def draw(plot: Plot) -> bytes:
    """The figure as a PNG file."""
    layout = plot.json["layout"]
    with rc_context({**_STYLE, "grid.color": colours()["line"], "axes.edgecolor": colours()["ceiling"]}):
        figure = Figure(figsize=(WIDTH, layout["height"] / 92 + 0.3), layout="constrained")
        axes = figure.add_subplot()
        for trace in plot.json["data"]:
            (_heatmap if trace["type"] == "heatmap" else _scatter)(axes, trace)
        for shape in layout.get("shapes", ()):
            style = "--" if shape["line"]["dash"] == "dot" else "-"
            axes.axvline(shape["x0"], color=colours()["muted"], linewidth=1, linestyle=style)
        _axis(axes, "x", layout["xaxis"])
        _axis(axes, "y", layout["yaxis"])
        axes.set_title(plot.title, loc="left", fontweight="bold", fontsize=10)
        if layout.get("showlegend", True) and axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside right upper", frameon=False)
        return _png(figure)


def _scatter(axes: Axes, trace: dict[str, Any]) -> None:
    ink, mode, marker = colours()[trace["meta"]["role"]], trace["mode"], trace.get("marker", {})
    x, y = ([_text(v) if isinstance(v, str) else v for v in trace[axis]] for axis in "xy")
    bars = {f"{axis}err": _bars(trace[f"error_{axis}"]) for axis in "xy" if f"error_{axis}" in trace}
    dashed = trace.get("line", {}).get("dash")
    axes.errorbar(
        x,
        y,
        **bars,
        color=ink,
        linestyle=(":" if dashed else "-") if "lines" in mode else "none",
        linewidth=trace.get("line", {}).get("width", 1.5),
        marker=_MARKERS.get(marker.get("symbol", ""), "o") if "markers" in mode else "none",
        markersize=0.8 * marker.get("size", 6),
        alpha=marker.get("opacity", 1.0),
        elinewidth=1,
        capsize=3 if bars else 0,
        label=_text(trace["name"]) if trace.get("showlegend", True) else None,
    )
    for across, up, words in zip(x, y, trace.get("text", ())):
        beside = 4 + 0.55 * marker.get("size", 6)
        axes.annotate(
            _text(words), (across, up), xytext=(beside, 0), textcoords="offset points", va="center", fontsize=8, color=ink
        )


def _bars(error: dict[str, Any]) -> Any:
    return [error["arrayminus"], error["array"]] if "arrayminus" in error else error["array"]


def _heatmap(axes: Axes, trace: dict[str, Any]) -> None:
    ink = colours()[trace["meta"]["role"]]
    ramp = LinearSegmentedColormap.from_list("ramp", [colours()["sunken"], ink])
    axes.imshow(trace["z"], cmap=ramp, vmin=trace["zmin"], vmax=trace["zmax"])
    names = list(map(_text, trace["x"]))
    size, crowded = 9 if len(names) <= 12 else 6, sum(map(len, names)) > 50
    axes.set_xticks(range(len(names)), names, fontsize=size, rotation=90 if crowded else 0)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.grid(visible=False)
    for i, row in enumerate(trace["text"]):
        for j, words in enumerate(row):
            tone = "surface" if trace["z"][i][j] > 0.5 else "ink"
            axes.text(j, i, words, ha="center", va="center", fontsize=8, color=colours()[tone])


def _axis(axes: Axes, which: str, asked: dict[str, Any]) -> None:
    axes.set(**{f"{which}label": _text(asked.get("title", {}).get("text", ""))})
    if asked.get("type") == "log":
        axes.set(**{f"{which}scale": "log"})
    if asked.get("type") == "category" and axes.lines:
        getattr(axes, f"set_{which}margin")(0.4)
    low, high = getattr(axes, f"get_{which}lim")()
    if asked.get("rangemode") == "tozero":
        getattr(axes, f"set_{which}lim")(0, high * (1.15 if which == "x" else 1.0))
    if asked.get("autorange") == "reversed" and low < high:
        getattr(axes, f"set_{which}lim")(high, low)


def table_of(pictures: Pictures) -> bytes:
    """A table of small pictures, enlarged without smoothing, as a PNG file."""
    array, (rows, columns) = pictures.array(), (len(pictures.rows), len(pictures.columns))
    with rc_context(_STYLE):
        figure = Figure(figsize=(1.6 + 1.25 * columns, 0.3 + 1.25 * rows), layout=ConstrainedLayoutEngine(hspace=0.0, h_pad=0.03))
        for i in range(rows):
            for j in range(columns):
                axes = figure.add_subplot(rows, columns, i * columns + j + 1)
                axes.imshow(array[i, j], interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.grid(visible=False)
                axes.spines[:].set_visible(False)
                if i == 0:
                    axes.set_title(textwrap.fill(fmt.clean(pictures.columns[j]), 18), fontsize=8)
                if j == 0:
                    caption = textwrap.fill(fmt.clean(pictures.rows[i]), 16)
                    axes.set_ylabel(caption, fontsize=8, rotation=0, ha="right", va="center")
        return _png(figure)


def _text(words: str) -> str:
    """Plain text of what was escaped for plotly."""
    return html.unescape(words)


def _png(figure: Figure) -> bytes:
    """Without the writer's version, so that the same figure is the same file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
