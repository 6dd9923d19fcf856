"""``run``: measure, and show it all the while."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aieng_bench.cli.console import console, print_json
from aieng_bench.cli.errors import FAILED, INTERRUPTED, NOTHING, fail, find

if TYPE_CHECKING:
    from aieng_bench.cli.progress import Watch
    from aieng_bench.measure.plan import Plan
    from aieng_bench.record.schema import Record
    from aieng_bench.record.store import RunStore


def run(
    patterns: Annotated[
        list[str],
        typer.Argument(help="Patterns of benchmarks, groups or suites (see ls); some of the cases only: NAME[axis=value,…]."),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and smaller cases, fewer launches.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default the best there is.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="Only cases of this dtype; may be repeated.")] = None,
    contender: Annotated[list[str] | None, typer.Option(help="Only this contender and the baseline; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run, by default runs/<time>-<id>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, or with the latest.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be measured, and measure nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for machines; progress goes to stderr.")] = False,
) -> None:
    """Measure what the patterns match: check each contender, time it beside its rivals, keep a record of each cell."""
    from aieng_bench import machine
    from aieng_bench.measure.plan import make_plan

    known = machine.devices()
    device = device or machine.default_device()
    if device not in ("cpu", "cuda"):
        fail(f"--device {device}: there are cpu and cuda; here: {', '.join(known)}", NOTHING)
    chosen = {"dtypes": dtype or [], "contenders": contender or [], "patterns": patterns}
    plan = make_plan(find(*patterns), device=device, quick=quick, **chosen)
    if dry_run:
        show_plan(plan, as_json)
        return
    options = [("--dtype", d) for d in dtype or []] + [("--contender", c) for c in contender or []]
    words = [
        "run",
        *patterns,
        *(["--quick"] if quick else []),
        "--device",
        device,
        *(word for option in options for word in option),
    ]
    store = open_store(out, resume, words)
    raise typer.Exit(measure(plan, store, resume, as_json))


def open_store(out: Path | None, resume: bool, words: Sequence[str]) -> RunStore:
    """The run to go on with, or a new one, also where ``--resume --out DIR`` finds none. ``words``: the command."""
    from aieng_bench import machine
    from aieng_bench.record.sources import resolve
    from aieng_bench.record.store import RunStore
    from aieng_bench.report.format import clean

    if resume:
        folder = out if out is not None else resolve("latest")
        if (folder / "run.json").exists():
            store = RunStore.open(folder)
            for broken in store.quarantine():
                typer.echo(f"set aside as *.broken, its cell is run again: {clean(str(broken))}", err=True)
            return store
    command = shlex.join(["aieng-bench", *words])
    environment = machine.environment(threads=machine.core_count())
    return RunStore.create(out, command=command, asked={"arguments": tuple(words[1:])}, environment=environment)


def measure(plan: Plan, store: RunStore, resume: bool, as_json: bool) -> int:
    """Run the plan under a progress display, print the summary last, and return the exit code."""
    from aieng_bench.cli.progress import Bars, PlainLines
    from aieng_bench.measure import run as run_plan

    out = console(stderr=as_json)
    out.print(f"{scope(plan)}; records go to {store.folder}", style="dim")
    watch = (Bars if out.is_terminal else PlainLines)(out, show=not as_json)
    begun, interrupted = time.monotonic(), False
    with watch:
        try:
            run_plan(plan, store, watch, resume=resume)
        except KeyboardInterrupt:
            interrupted = True
    conclude(watch, store, time.monotonic() - begun, interrupted, as_json)
    return INTERRUPTED if interrupted else exit_code(watch.records)


def scope(plan: Plan) -> str:
    """How much is to be measured, and what the studies among it are expected to take."""
    from aieng_bench.report.format import duration

    repeated = f"{plan.launches} launches of each contender of a kernel, seeds of a study's"
    took = f"; the studies take about {duration(60 * plan.minutes)} on two cores" if plan.minutes else ""
    return f"{len(plan.units)} cases, {repeated}{took}"


def conclude(watch: Watch, store: RunStore, seconds: float, interrupted: bool, as_json: bool) -> None:
    """The summary of what was measured, where it is kept, and what to type next."""
    from aieng_bench.cli import tables
    from aieng_bench.report.format import duration
    from aieng_bench.summary import groups

    found, out = groups(watch.records), watch.out
    if as_json:
        print_json({"run": store.run, "folder": str(store.folder), "interrupted": interrupted, "groups": tables.as_json(found)})
    elif any(row.rank for group in found for row in group.rows):
        out.print(tables.summary(found))
        out.print(tables.LEGEND, style="dim")
    state = tables.counts(watch.records) or "nothing was measured"
    if interrupted:
        state = f"interrupted after {watch.finished} of {watch.units} cases: {state}"
    out.print(f"\n{state}, in {duration(seconds)}; the run is {store.folder}", style="bold", soft_wrap=True)
    folder = shlex.quote(str(store.folder))
    going_on = f"{store.manifest.command} --resume --out {folder}" if interrupted else f"aieng-bench report {folder} --out page"
    out.print(f"next: {going_on}", soft_wrap=True)


def exit_code(records: Sequence[Record]) -> int:
    """0, or 2 if a cell failed or is incorrect; a cell that this machine cannot run is no failure."""
    from aieng_bench.record.schema import Correctness, Outcome

    failed = any(r.outcome not in (Outcome.RAN, Outcome.UNSUPPORTED) or r.check.verdict is Correctness.INCORRECT for r in records)
    return FAILED if failed else 0


def show_plan(plan: Plan, as_json: bool) -> None:
    cells = [{"benchmark": u.benchmark.name, "case": u.case.id, "contenders": [c.name for c in u.contenders]} for u in plan.units]
    if as_json:
        print_json({"launches": plan.launches, "rounds": plan.rounds, "cases": cells})
        return
    out = console()
    for cell in cells:
        out.print(f"{cell['benchmark']}  {cell['case']}  {', '.join(cell['contenders'])}", soft_wrap=True)
    out.print(f"{scope(plan)}, up to {plan.rounds} rounds each; nothing was measured", style="dim")
