"""``history``: what published runs of one machine say when read in order."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from aieng_bench.cli.comparing import read
from aieng_bench.cli.console import console, print_json
from aieng_bench.cli.errors import NOTHING, fail

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from aieng_bench.history import Segment, Series


def history(
    sources: Annotated[list[str] | None, typer.Argument(metavar="SOURCE", help="Published files, or folders of them.")] = None,
    benchmark: Annotated[str, typer.Option(help="Shell-style pattern of benchmarks or groups.")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Follow each contender's ratio to the baseline over published runs, and say where its level changed.

    A changed driver, GPU or library version starts a segment, and change points are looked for within segments.
    """
    from aieng_bench import history as engine

    records = [record for source in sources or ["results"] for record in read(source).records]
    wanted = [
        one
        for one in engine.series(records)
        if any(fnmatch.fnmatchcase(name, benchmark) for name in (one.benchmark, one.benchmark.split("/")[0]))
    ]
    if not wanted:
        known = sorted({record.definition.benchmark for record in records})
        fail(f"no series of {benchmark!r}; benchmarks with records here: {', '.join(known) or 'none'}", NOTHING)
    if as_json:
        print_json([one.to_json() for one in wanted])
    else:
        show(wanted, console())


def show(found: Sequence[Series], out: Console) -> None:
    from rich.text import Text

    from aieng_bench.history import SHORTEST
    from aieng_bench.report.format import clean

    for (machine, benchmark, case), some in groupby(found, key=lambda s: (s.machine, s.benchmark, s.case)):
        out.print(Text.assemble((clean(benchmark), "bold"), f"  {clean(case)}", (f"  on {clean(machine)}", "dim")), soft_wrap=True)
        out.print(table(list(some)))
    short = sum(one.segments[-1].too_short for one in found)
    lengths = Counter(len(one.segments[-1].points) for one in found)
    told = ", ".join(f"{count} of {runs} run{'s' if runs > 1 else ''}" for runs, count in sorted(lengths.items()))
    out.print(f"{len(found)} series since the last change of versions: {told}", style="bold", soft_wrap=True)
    if short:
        out.print(f"{short} too short: change points are looked for from {SHORTEST} runs on.", style="bold", soft_wrap=True)


def table(found: Sequence[Series]) -> Table:
    """A line for each thing that is to be said of a series, its newest figure first."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for whole in (True, True, True, False):
        made.add_column(no_wrap=whole, overflow="fold")
    for one in found:
        first, *rest = [line for segment in one.segments for line in events(segment)] or [("steady", "")]
        if one.segments[-1].too_short:
            first, rest = ("too short", "dim"), [event for event in (first, *rest) if event[0] != "steady"]
        name, metric, newest = names(one)
        made.add_row(f"  {name}", metric, newest, Text(*first))
        for line in rest:
            made.add_row("", "", "", Text(*line))
    return made


def names(one: Series) -> tuple[str, str, str]:
    """Contender, metric, and the newest figure, as text that is safe to print."""
    from math import exp

    from aieng_bench.report.format import clean, digits, quantity

    level = one.segments[-1].points[-1].level
    if one.baseline:
        newest = f"{digits(exp(level))}× {clean(one.baseline)}"
    else:
        newest = quantity(exp(-level if one.metric.better == "lower" else level), one.metric.unit)
    return clean(one.contender), clean(one.metric.name), newest


def events(segment: Segment) -> list[tuple[str, str]]:
    """What happened in a segment, each with its colour: why it starts, its shifts, and a newest run that jumped."""
    from math import exp

    from aieng_bench.history import jump
    from aieng_bench.report.format import clean, digits

    lines = []
    if segment.because:
        what = ", ".join(f"{clean(name)} {clean(before)} → {clean(after)}" for name, before, after in segment.because)
        lines.append((f"{clean(segment.points[0].created)[:10]} new segment: {what}", "dim"))
    for shift in segment.shifts():
        when = f"{clean(shift.point.created)[:10]} {clean(shift.point.commit or 'no commit')[:10]}"
        word, colour = ("better", "green") if shift.effect > 1 else ("worse", "red")
        lines.append((f"{when} {word}: {digits(shift.effect)}× the level before (p = {shift.p:.2g})", colour))
    if (delta := jump(segment.levels)) is not None:
        lines.append((f"the newest run jumped to {digits(exp(delta))}× the one before; more runs will tell", "yellow"))
    return lines
