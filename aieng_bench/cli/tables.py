"""Records as tables for a terminal, 80 columns wide and up; figures are written by aieng_bench.report.format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.console import Group as Lines
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aieng_bench import redteam
from aieng_bench.record.schema import Record
from aieng_bench.report import format
from aieng_bench.summary import Group, Ratio, Row

LEGEND = (
    "● named baseline; × against it, with its 95 % interval († one launch: rounds only). error: RMSE against float64 over the "
    "framework's own. limit: share of what this machine's measured ceilings allow."
)
NARROWEST_TITLE = 24
"""Of a study's metric: a few words a line; another contender beside it is not worth a title of single letters."""
MATRIX_COLOURS = {
    "caught": "green",
    "passed": "green",
    "waived": "yellow",
    "not run": "dim",
    "MISSED": "bold red",
    "REFUSED": "bold red",
}


def unit(group: Group) -> RenderableType:
    """One case: its name, the contenders that have figures as a table, then why the others have none."""
    device = format.clean(str(group.case.get("device", "?")))
    name = (format.clean(group.definition.benchmark), "bold")
    title = Text.assemble(name, f"  {format.clean(group.label)}", (f"  on {device}", "dim"))
    parts: list[RenderableType] = [title]
    shown = [row for row in group.rows if row.medians]
    if shown:
        table = {"study": _study, "static": _static}.get(group.definition.kind, _kernel)
        parts.append(table(group, shown))
    return Lines(*parts, *_unranked([row.record for row in group.rows if not row.medians]))


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i else "left", no_wrap=True, overflow="ellipsis")
    return table


def _kernel(group: Group, rows: Sequence[Row]) -> RenderableType:
    headline = group.headline
    assert headline is not None
    scale = format.scale([row.medians[headline.name] for row in rows], headline.unit)
    figure = "latency" if headline.name == "latency_us" else format.clean(headline.name)
    table = _table("  contender", f"{figure} {scale.unit}", "×", "interval", "error", "memory", "limit")
    for row in rows:
        ratio = row.speedup
        table.add_row(
            _name(row, group),
            scale.text(row.medians[headline.name]),
            Text(format.digits(ratio.value), style=_colour(ratio)) if ratio else format.NOTHING,
            format.interval(ratio) if ratio and row.record.contender.name != group.definition.baseline else "",
            format.error_ratio(row.record),
            format.memory(row.record),
            format.percent(row.percent_of_limit),
        )
    return Padding(table, (0, 0, 0, 2), expand=False)


@dataclass(frozen=True)
class _Columns:
    """A table of a column for each of ``rows``; where they do not fit, several, so that no figure is cut."""

    table: Callable[[Sequence[Row]], Table]
    rows: Sequence[Row]
    indent: int = 2

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = list(self.rows)
        while rows:
            fitting = next((n for n in range(len(rows), 1, -1) if self._fits(rows[:n], console, options)), 1)
            yield Padding(self.table(rows[:fitting]), (0, 0, 0, self.indent), expand=False)
            rows = rows[fitting:]

    def _fits(self, rows: Sequence[Row], console: Console, options: ConsoleOptions) -> bool:
        wide = options.update(max_width=10_000)
        return Measurement.get(console, wide, self.table(rows)).minimum + self.indent <= options.max_width


def _study(group: Group, rows: Sequence[Row]) -> RenderableType:
    """A study has many metrics and few contenders: a metric a line."""
    return _Columns(lambda some: _metrics(group, some), rows)


def _metrics(group: Group, rows: Sequence[Row]) -> Table:
    names = [_name(row, group).plain for row in rows]
    table = _table("", *names)
    for column, name in zip(table.columns[1:], names):
        column.min_width = cell_len(name)  # its longest word is not enough: there is a mark before it
    for metric in group.definition.metrics:
        values = [row.medians.get(metric.name) for row in rows]
        scale = format.scale([value for value in values if value is not None], metric.unit)
        table.add_row(Text(format.column(metric, scale.unit)), *(scale.text(value) for value in values))
    table.add_row("peak memory", *(format.memory(row.record) for row in rows))
    table.columns[0].overflow, table.columns[0].no_wrap = "fold", False  # a title may wrap, a figure must not be cut
    table.columns[0].min_width = NARROWEST_TITLE
    if group.headline is not None:
        title = format.clean(group.headline.title or group.headline.name)
        against = Text(f"{title}, × {format.clean(group.definition.baseline)}", style="dim")
        table.add_row(against, *(_against(row, group) for row in rows))
    return table


def _static(group: Group, rows: Sequence[Row]) -> RenderableType:
    """Machine code: what decides, then registers and shared memory; the record has the instruction counts too."""
    table = _table("  kernel", "stack", "local", "occupancy", "tensor", "registers", "shared")
    for row in rows:
        names = ("stack_bytes", "local_accesses", "occupancy", "tensor_core")
        stack, local, occupancy, tensor = (row.medians.get(name, 0.0) for name in names)
        bad = "red" if stack or local or not occupancy else ""
        extra = row.record.extra
        table.add_row(
            Text(f"  {format.clean(row.record.contender.name)}", style=bad),
            *(format.digits(value) for value in (stack, local)),
            format.percent(100 * occupancy),
            format.digits(tensor),
            f"{extra.get('registers', 0.0):g}",
            format.quantity(extra.get("shared_bytes"), "B"),
        )
    table.columns[0].overflow, table.columns[0].no_wrap = "fold", False
    return Padding(table, (0, 0, 0, 2), expand=False)


def _against(row: Row, group: Group) -> str:
    return "" if row.record.contender.name == group.definition.baseline else format.ratio(row.speedup)


def _name(row: Row, group: Group) -> Text:
    name = row.record.contender.name
    mark = "●" if name == group.definition.baseline else " "
    return Text(f"{mark} {format.clean(name)}", style="bold" if row.record.contender.kind == "ours" else "")


def _colour(ratio: Ratio) -> str:
    return "green" if ratio.low > 1 else "red" if ratio.high < 1 else ""


def _unranked(records: Sequence[Record]) -> list[RenderableType]:
    """Cells that show no speed, those of one reason together."""
    names: dict[str, list[str]] = defaultdict(list)
    for record in records:
        names[format.status(record)].append(format.clean(record.contender.name))
    colour = {"UNSUPPORTED": "dim", "NOISY": "yellow", "SUSPECT": "yellow", "UNCHECKED": "yellow"}
    return [
        Padding(Text.assemble(f"{', '.join(who)}  ", (status, colour.get(status.split(":")[0], "red"))), (0, 0, 0, 4), expand=False)
        for status, who in names.items()
    ]


def summary(groups: Sequence[Group]) -> RenderableType:
    """Per benchmark, how our best contender does over its cases."""
    table = _table("benchmark", "cases", "our best ×", "against named", "× fastest baseline")
    ordered = sorted(groups, key=lambda g: g.definition.benchmark)
    for name, cases in groupby(ordered, key=lambda g: g.definition.benchmark):
        same = list(cases)
        ours = [row for g in same if (row := _best(g)) is not None]
        table.add_row(
            Text(format.clean(name)),
            f"{len(ours)} of {len(same)}" if len(ours) < len(same) else f"{len(same)}",
            _span([row.speedup for row in ours]),
            format.clean(same[0].definition.baseline),
            _span([row.speedup_fastest for row in ours]),
        )
    return table


def _best(group: Group) -> Row | None:
    """The best ranked contender that is ours."""
    return next((row for row in group.rows if row.rank and row.record.contender.kind == "ours"), None)


def _span(ratios: Sequence[Ratio | None]) -> str:
    values = sorted(ratio.value for ratio in ratios if ratio is not None)
    if not values:
        return format.NOTHING
    low, high = format.digits(values[0]), format.digits(values[-1])
    return low if low == high else f"{low} – {high}"


def counts(records: Sequence[Record]) -> str:
    """How the cells ended, e.g. ``12 ranked, 3 UNSUPPORTED``."""
    states: dict[str, int] = defaultdict(int)
    for record in records:
        states["read" if format.was_read(record) else format.status(record).split(":")[0]] += 1
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items(), key=lambda s: (s[0] != "ranked", s[0])))


def print_groups(out: Console, groups: Sequence[Group]) -> None:
    for group in groups:
        out.print(unit(group))
        out.print()
    if any(row.rank for group in groups for row in group.rows):
        out.print(summary(groups))
        out.print(LEGEND, style="dim")


def as_json(groups: Sequence[Group]) -> list[dict[str, Any]]:
    return [
        {
            "run": group.run,
            "benchmark": group.definition.benchmark,
            "case": group.case,
            "headline": group.headline.name if group.headline else None,
            "baseline": group.definition.baseline,
            "fastest_baseline": group.fastest_baseline,
            "rows": [_row_json(row) for row in group.rows],
        }
        for group in groups
    ]


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "contender": row.record.contender.name,
        "kind": row.record.contender.kind,
        "rank": row.rank,
        "status": format.status(row.record),
        "medians": row.medians,
        "speedup": row.speedup and row.speedup.to_json(),
        "speedup_fastest": row.speedup_fastest and row.speedup_fastest.to_json(),
        "percent_of_limit": row.percent_of_limit,
        "memory": row.record.memory,
    }


def matrix(rows: Sequence[redteam.Row]) -> RenderableType:
    """The red team's catch matrix."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head, share in (("cheat", None), ("what it does", 3), ("verdict", None), ("how, or why not", 4), ("honest twin", 2)):
        made.add_column(head, ratio=share, overflow="fold")
    for row in rows:
        twin = Text.assemble(f"{row.twin} ", (row.twin_verdict, MATRIX_COLOURS[row.twin_verdict]))
        if row.twin_verdict == "REFUSED":
            twin.append(f": {row.twin_reason}")
        verdict = Text(row.verdict, style=MATRIX_COLOURS[row.verdict])
        made.add_row(Text(row.name), Text(row.what, style="dim"), verdict, Text(row.how), twin)
    return made
