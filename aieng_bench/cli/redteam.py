"""``redteam``: run contenders that cheat through the engine, and show which are caught."""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aieng_bench.cli.console import console, print_json
from aieng_bench.cli.errors import FAILED, INTERRUPTED, fail

if TYPE_CHECKING:
    from aieng_bench.measure.plan import Plan

ROUNDS = 6


def redteam(
    patterns: Annotated[list[str] | None, typer.Argument(help="Shell-style patterns of cheats; by default all.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run, by default runs/<time>-<id>.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the matrix for machines; progress goes to stderr.")] = False,
) -> None:
    """Run every known cheat and its honest twin through the engine. Ends with 2 if one is missed, or a twin is refused."""
    from aieng_bench import redteam as team
    from aieng_bench.cli import tables
    from aieng_bench.cli.progress import Bars, PlainLines
    from aieng_bench.cli.running import open_store

    plan = corpus(patterns or ["*"])
    store = open_store(out, False, ["redteam", *(patterns or [])])
    log = console(stderr=as_json)
    rows: list[team.Row] = []
    interrupted = False
    with (Bars if log.is_terminal else PlainLines)(log, show=False) as watch:
        try:
            rows = team.challenge(plan, store, watch)
        except KeyboardInterrupt:
            interrupted = True
            rows = team.matrix(watch.records)
    if as_json:
        print_json({"run": store.run, "folder": str(store.folder), "interrupted": interrupted, "rows": list(map(asdict, rows))})
    else:
        log.print(tables.matrix(rows))
    log.print(f"\n{team.summary(rows)}; the run is {store.folder}", style="bold", soft_wrap=True)
    log.print(f"next: aieng-bench report {shlex.quote(str(store.folder))} --out page", soft_wrap=True)
    raise typer.Exit(INTERRUPTED if interrupted else 0 if all(row.good for row in rows) else FAILED)


def corpus(patterns: Sequence[str]) -> Plan:
    """One launch of every cheat that a pattern names. Raises NoMatch for a pattern that names none."""
    from aieng_bench import registry
    from aieng_bench.define import REDTEAM
    from aieng_bench.measure.plan import Plan, Unit

    if broken := registry.cheats_left_out():
        fail("; ".join(f"{module}: {reason}" for module, reason in broken.items()), FAILED)
    known = registry.cheats()
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, f"{REDTEAM}/{pattern}") for name in known):
            raise registry.NoMatch(pattern, registry.nearest(pattern, [name.removeprefix(f"{REDTEAM}/") for name in known]))
    chosen = [b for name, b in known.items() if any(fnmatch.fnmatchcase(name, f"{REDTEAM}/{p}") for p in patterns)]
    cases = [
        (benchmark, case) for benchmark in chosen for device in ("cpu", "cuda") for case in benchmark.cases(device, quick=True)
    ]
    units = tuple(Unit(benchmark, case, tuple(benchmark.contenders.values())) for benchmark, case in cases)
    return Plan(units, quick=True, launches=1, rounds=ROUNDS, unit_budget_s=5.0)
