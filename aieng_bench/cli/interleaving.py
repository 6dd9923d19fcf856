"""``ci`` and ``comment``: two commits against each other, measured in one run, and what may be posted of it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aieng_bench.cli.comparing import as_markdown, deliver
from aieng_bench.cli.console import console
from aieng_bench.cli.errors import FAILED, INFRASTRUCTURE, NOTHING, fail, name_left_out

if TYPE_CHECKING:
    from aieng_bench.ci.checkouts import Side
    from aieng_bench.ci.interleaving import Records, Shared
    from aieng_bench.measure.plan import Plan

LAUNCHES = 16


def ci(
    base: Annotated[str, typer.Argument(help="A commit of the repository around this folder, or the path of a checkout.")],
    head: Annotated[str, typer.Argument(help="What to compare with it.")],
    patterns: Annotated[
        list[str] | None, typer.Argument(metavar="[PATTERN]...", help="Shell-style patterns of benchmarks, groups or suites.")
    ] = None,
    launches: Annotated[int, typer.Option(min=2, help="Processes a contender of each side is started in.")] = LAUNCHES,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default the best there is.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the two runs, by default runs/<time>-<id>.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison for machines; progress goes to stderr.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Also write it as Markdown to this file.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write it as JUnit XML to this file.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Also print GitHub annotations of regressions and failures.")] = False,
) -> None:
    """Build two commits in worktrees, measure them interleaved on this machine, and say what became slower.

    Ends with 0 (no regression), 1 (regression), 2 (something failed, is incorrect, or HEAD cannot be built), 3 (nothing was
    measured) or 4 (could not compare).
    """
    from aieng_bench import machine
    from aieng_bench.ci.checkouts import NotBuilt, checkouts
    from aieng_bench.ci.interleaving import judged

    words = ["aieng-bench", "ci", base, head, *(patterns or ()), "--launches", str(launches)]
    try:
        with checkouts(base, head) as sides, importing(sides[1]):
            both = planned(sides, patterns or (), device or machine.default_device(), launches)
            found = judged(both, measuring(sides, out or folder(), shlex.join(words)))
    except NotBuilt as error:
        fail(str(error), FAILED if error.side == "head" else INFRASTRUCTURE)
    deliver(found, as_json=as_json, markdown=markdown, junit=junit, github=github)
    raise typer.Exit(found.exit_code)


MARK = "<!-- aieng-bench perf -->"
"""By which the one comment is found again."""
LONGEST_COMMENT = 60_000
"""GitHub takes 65,536 characters."""


def comment(
    archive: Annotated[Path, typer.Argument(metavar="ZIP", help="The artifact of a measuring job: a zip of ci's --out folder.")],
    commit: Annotated[str, typer.Option(help="The commit that the event names as head: records of another one are refused.")] = "",
) -> None:
    """Print the comment for a pull request, made anew from records that nobody vouches for.

    Ends with 0 whatever they say, and with 4 if they cannot be read.
    """
    from aieng_bench.ci.artifact import read
    from aieng_bench.record.reading import Broken

    try:
        found = read(archive, commit)
    except Broken as error:
        fail(str(error), INFRASTRUCTURE)
    text = f"{MARK}\n### Performance, head against base\n\n{as_markdown(found)}"
    if len(text) > LONGEST_COMMENT:
        text = text[: text.rindex("\n", 0, LONGEST_COMMENT)] + "\n\n… cut: the rest is in the artifact"
    typer.echo(text)


def planned(sides: tuple[Side, Side], patterns: Sequence[str], device: str, launches: int) -> Shared:
    """What both sides have of the benchmarks that head has and the patterns match."""
    from aieng_bench.ci.checkouts import listed
    from aieng_bench.ci.interleaving import shared

    base, head = ({one["name"]: one for one in json.loads(listed(side))} for side in sides)
    name_left_out()
    found = shared(patterns, base, head, sides, device, launches)
    if not found.plan.units:
        fail(f"base and head have no contender with a case on {device} in common that matches", NOTHING)
    return found


def measuring(sides: tuple[Side, Side], place: Path, command: str) -> Callable[[Plan, str], Records]:
    """Run a plan under a progress display on stderr; the second look's records go to a folder within the first's."""
    from aieng_bench import machine
    from aieng_bench.ci.interleaving import TwoRuns
    from aieng_bench.cli.progress import Bars, PlainLines
    from aieng_bench.measure import run

    out, environment = console(stderr=True), machine.environment(threads=machine.core_count())

    def measure(plan: Plan, which: str) -> Records:
        where = place if which == "first" else place / which
        out.print(f"{len(plan.units)} cases, {plan.launches} launches a side; records go to {where}", style="dim")
        store = TwoRuns(where, sides, command, environment)
        with (Bars if out.is_terminal else PlainLines)(out, show=False) as watch:
            run(plan, store, watch)
        return store.records["base"], store.records["head"]

    return measure


@contextmanager
def importing(side: Side) -> Iterator[None]:
    """This process imports declarations from a side, before anything of the same name that is installed."""
    sys.path.insert(0, str(side.site))
    try:
        yield
    finally:
        sys.path.remove(str(side.site))


def folder() -> Path:
    """Where the two runs go unless told otherwise."""
    import secrets
    from datetime import UTC, datetime

    from aieng_bench.record.store import RUNS

    return RUNS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
