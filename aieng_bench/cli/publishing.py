"""``show``, ``report``, ``publish`` and ``verify``: what is done with records once they are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aieng_bench.cli.comparing import read
from aieng_bench.cli.console import console
from aieng_bench.cli.errors import FAILED, INFRASTRUCTURE, NOTHING, fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aieng_bench.record.schema import Record

Source = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's folder or name, 'latest', a published file, or a folder of them.")
]


def show(run: Source = "latest") -> None:
    """Print the tables of a run again."""
    from aieng_bench import redteam
    from aieng_bench.cli import tables
    from aieng_bench.summary import groups

    records = read(run).records
    if not records:
        fail(f"{run} holds no records", NOTHING)
    out = console()
    if rows := redteam.matrix(records):
        out.print(tables.matrix(rows))
        out.print(f"\n{redteam.summary(rows)}", style="bold")
        return
    tables.print_groups(out, groups(records))
    out.print(f"\n{tables.counts(records)}", style="bold")


def report(
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder for the pages; files of the same name are replaced.")],
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "aieng-bench",
    module: Annotated[str, typer.Option(help="Instead, the report of this suite: page, Markdown, executed notebook.")] = "",
) -> None:
    """Write a page (HTML, works offline) and a Markdown file for each run of a source."""
    import gc

    from aieng_bench import report as reporting

    gc.disable()  # a fifth of the time of a large report went into looking for cycles, of which there are none to speak of
    records = read(source).records
    if not records:
        fail(f"{source} holds no records", NOTHING)
    if module:
        _module(records, module, source, out)
        return
    reporting.write(records, out, title)
    console().print(f"wrote {out / 'index.html'} and {out / 'index.md'}", soft_wrap=True)


def _module(records: Sequence[Record], suite: str, source: str, out: Path) -> None:
    from aieng_bench import machine, registry
    from aieng_bench import report as reporting

    if lacks := [reason for name in ("matplotlib", "nbclient", "nbformat", "ipykernel") if (reason := machine.missing(name))]:
        fail("; ".join(lacks), INFRASTRUCTURE)
    declared = registry.module(suite)
    if not any(record.definition.suite == suite and record.definition.kind == "study" for record in records):
        fail(f"{source} holds no records of a study of {suite}", NOTHING)
    reporting.write_module(records, declared, source, out)
    console().print(f"wrote {out / suite}.html, {suite}.md and {suite}.ipynb", soft_wrap=True)


def publish(
    run: Source,
    results: Annotated[Path, typer.Option(help="Where published results are kept.")] = Path("results"),
) -> None:
    """Pack a run into one file under results/, each record with its hash; also takes pytest-benchmark JSON."""
    from aieng_bench.record import publish as publishing
    from aieng_bench.record import sources

    loaded = sources.read(run)
    try:
        path = publishing.publish(loaded, results)
    except ValueError as error:
        fail(str(error), FAILED)
    console().print(f"published {path}; check it with: aieng-bench verify {path}", soft_wrap=True)


def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Published files, or folders of them.")],
) -> None:
    """Check that published records are as they were written: schema and hash of every line."""
    from aieng_bench.record import publish as publishing
    from aieng_bench.report.format import clean

    problems = [problem for file in files for problem in publishing.verify(file)]
    for problem in problems:
        typer.echo(clean(str(problem)), err=True)
    if problems:
        fail(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}: not as published", FAILED)
    console().print(f"{', '.join(map(str, files))}: as published", soft_wrap=True)
