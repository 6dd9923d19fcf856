"""``compare``: two runs, published files or pytest-benchmark files against each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aieng_bench.cli.console import console, print_json
from aieng_bench.cli.errors import INFRASTRUCTURE, fail

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from aieng_bench.compare import Change, Comparison
    from aieng_bench.record.reading import Loaded

COLOURS = {"FASTER": "green", "SLOWER": "red", "SAME": "", "UNDECIDED": "yellow"}


def compare(
    base: Annotated[str, typer.Argument(help="A run, a published file, or pytest-benchmark JSON (or a folder of several).")],
    head: Annotated[str, typer.Argument(help="What to compare with it.")],
    cross_hardware: Annotated[bool, typer.Option("--cross-hardware", help="Compare even if the machines differ.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison for machines.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Also write it as Markdown to this file.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write it as JUnit XML to this file.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Also print GitHub annotations of what got worse.")] = False,
) -> None:
    """Say per cell whether HEAD is FASTER, SLOWER, the SAME or UNDECIDED.

    Ends with 0 (no regression), 1 (regression), 2 (something failed or is incorrect), 3 (nothing matched) or 4 (could not compare).
    """
    from aieng_bench import compare as engine

    try:
        sides = [read(base), read(head)]
        found = engine.compare(sides[0].records, sides[1].records, cross_hardware=cross_hardware)
    except engine.DifferentHardware as error:
        fail(f"{error}; to compare all the same: --cross-hardware", INFRASTRUCTURE)
    deliver(found, as_json=as_json, markdown=markdown, junit=junit, github=github)
    raise typer.Exit(found.exit_code)


def deliver(
    found: Comparison, *, as_json: bool = False, markdown: Path | None = None, junit: Path | None = None, github: bool = False
) -> None:
    """Write a comparison wherever it was asked for; the table, or JSON, goes to stdout."""
    from aieng_bench.cli import for_ci

    if as_json and github:
        fail("--json and --github would both write to stdout; take one of them", INFRASTRUCTURE)
    if markdown is not None:
        markdown.write_text(as_markdown(found), encoding="utf-8")
    if junit is not None:
        junit.write_text(for_ci.as_junit(found), encoding="utf-8")
    if as_json:
        print_json(found.to_json())
        return
    stop, resume = for_ci.silence()
    if github:
        typer.echo(stop)
    show(found, console())
    if github:
        typer.echo("\n".join([resume, *for_ci.as_annotations(found)]))


def read(name: str) -> Loaded:
    """A source's records; what is broken in it is named on stderr and left out."""
    from aieng_bench.record import sources
    from aieng_bench.report.format import clean

    loaded = sources.read(name)
    for broken in loaded.broken:
        typer.echo(f"left out {clean(str(broken))}", err=True)
    return loaded


def show(found: Comparison, out: Console) -> None:
    from rich.text import Text

    from aieng_bench.report.format import clean

    for (benchmark, case), changes in groupby(found.changes, key=lambda change: (change.benchmark, change.case)):
        out.print(Text.assemble((clean(benchmark), "bold"), f"  {clean(case)}"), soft_wrap=True)
        out.print(table(list(changes)))
    for failure in found.failures:
        text = f"FAILED  {failure.benchmark} {failure.case} {failure.contender}: {failure.base} → {failure.head}"
        out.print(clean(text), style="red", soft_wrap=True)
    for text in notes(found):
        out.print(text, style="dim", soft_wrap=True)
    out.print(verdicts(found), style="bold")


def table(changes: Sequence[Change]) -> Table:
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for whole in (True, False, False, False, True, False):
        made.add_column(no_wrap=whole, overflow="fold")
    for change in changes:
        contender, metric, base, head, effect, verdict, reason = row(change)
        made.add_row(Text(f"  {verdict}", COLOURS[verdict]), contender, metric, f"{base} → {head}", effect, Text(reason, "dim"))
    return made


HEADS = ("cell", "contender", "metric", "base", "head", "head is × better", "verdict")


def row(change: Change) -> tuple[str, str, str, str, str, str, str]:
    """Contender, metric, base, head, effect, verdict and reason, as text that is safe to print."""
    from aieng_bench.report.format import clean, quantity, ratio

    base, head = (quantity(value, change.metric.unit) for value in (change.base, change.head))
    effect, verdict = ratio(change.effect), str(change.verdict)
    return clean(change.contender), clean(change.metric.name), base, head, effect, verdict, clean(change.reason)


def notes(found: Comparison) -> list[str]:
    """What a reader must know to judge the table."""
    from aieng_bench.compare import ONE_LAUNCH_BAND
    from aieng_bench.report.format import clean

    lines = []
    if any(change.absolute for change in found.changes):
        lines.append(
            "No baseline ran in the same rounds, so absolute times are compared: whatever else the machine did is in them."
        )
    if any(change.effect and change.effect.over == "rounds" for change in found.changes):
        lines.append(
            f"† one launch a side; memory layout moves identical code by several per cent, so the band is ±{ONE_LAUNCH_BAND:.0%}."
        )
    lines += [f"only in base: {clean(name)}" for name in found.only_base]
    lines += [f"only in head: {clean(name)}" for name in found.only_head]
    lines += [f"{clean(name)}: {clean(old)} → {clean(new)}" for name, old, new in found.environment]
    return lines


def verdicts(found: Comparison) -> str:
    """The count of each verdict, in one line."""
    words: Sequence[str] = [*(str(change.verdict) for change in found.changes), *("FAILED" for _ in found.failures)]
    if not words:
        return "nothing matched: the two sides have no measured cell of the same definition in common"
    return ", ".join(f"{words.count(word)} {word}" for word in (*COLOURS, "FAILED") if word in words)


def as_markdown(found: Comparison) -> str:
    """The comparison as GitHub would render it; every name from a record is inert (in a code span, cleaned)."""
    from aieng_bench.report.format import code

    lines = [f"**{verdicts(found)}**", ""]
    if found.changes:
        lines += [f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}"]
    for change in found.changes:
        contender, metric, base, head, effect, verdict, reason = row(change)
        cell = f"{code(f'{change.benchmark} {change.case}')} | {code(contender)}"
        shown = f"**{verdict}**" if verdict in ("FASTER", "SLOWER") else verdict
        why = f" {code(reason)}" if reason else ""
        lines.append(f"| {cell} | {code(metric)} | {base} | {head} | {effect} | {shown}{why} |")
    lines.append("")
    for failure in found.failures:
        name = code(f"{failure.benchmark} {failure.case} {failure.contender}")
        lines.append(f"- FAILED {name}: {code(failure.base)} → {code(failure.head)}")
    lines += [f"- {code(note)}" for note in notes(found)]
    return "\n".join(lines).rstrip() + "\n"
