"""``static``: what the compiler says of GPU kernels, on a machine that needs no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aieng_bench.cli.console import console, print_json
from aieng_bench.cli.errors import NOTHING, fail, name_left_out

if TYPE_CHECKING:
    from aieng_bench.record.schema import Record


def static(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATTERN]...", help="Static benchmarks, and after a colon their kernels: attention/static:*dq*."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run, by default runs/<time>-<id>.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for machines; progress goes to stderr.")] = False,
) -> None:
    """Compile GPU kernels and record their registers, stack, shared memory, occupancy and instructions; needs no GPU.

    Compare two such runs with aieng-bench compare: a new spill, a lost tensor-core instruction or a lower occupancy ends with 1.
    """
    import shlex

    from aieng_bench import machine, registry
    from aieng_bench import static as engine
    from aieng_bench.cli import tables
    from aieng_bench.cli.running import exit_code
    from aieng_bench.record.store import RunStore
    from aieng_bench.report.format import clean
    from aieng_bench.summary import groups

    name_left_out()
    asked = tuple(patterns or ())
    found = registry.find_static(*asked)
    progress = console(stderr=True)

    def done(record: Record) -> None:
        progress.print(f"{clean(record.definition.benchmark)}  {clean(record.contender.name)}  {record.case['arch']}", style="dim")

    store = RunStore.create(
        out,
        command=shlex.join(["aieng-bench", "static", *asked]),
        asked={"arguments": asked},
        environment=machine.environment(threads=1),
    )
    records = engine.run(engine.chosen(found), store, done)
    if not records:
        fail(f"no kernel matches {' '.join(asked)}", NOTHING)
    if as_json:
        print_json({"run": store.run, "folder": str(store.folder), "groups": tables.as_json(groups(records))})
    else:
        shown = console()
        tables.print_groups(shown, groups(records))
        shown.print(f"{tables.counts(records)}; the run is {store.folder}", style="bold", soft_wrap=True)
    raise typer.Exit(exit_code(records))
