"""The command line, ``aieng-bench``. Each command is one function in this package, and imports what it needs when called."""

from __future__ import annotations

import typer

from aieng_bench.cli import comparing, doctoring, interleaving, listing, publishing, reading_code, redteam, running, tracking
from aieng_bench.cli.errors import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure, check, compare and report. Start with 'aieng-bench ls' and 'aieng-bench run attention --quick'.",
)
app.command()(listing.ls)
app.command()(running.run)
app.command()(reading_code.static)
app.command()(publishing.show)
app.command()(comparing.compare)
app.command()(interleaving.ci)
app.command()(interleaving.comment)
app.command()(tracking.history)
app.command()(doctoring.calibrate)
app.command()(publishing.report)
app.command()(publishing.publish)
app.command()(publishing.verify)
app.command()(redteam.redteam)
app.command()(doctoring.doctor)


def main() -> None:
    app()
