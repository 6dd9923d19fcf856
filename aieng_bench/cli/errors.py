"""What a user's mistake or a full disk looks like: one line on stderr and an exit code, never a traceback."""

from __future__ import annotations

import errno
from typing import Any

import typer
from typer.core import TyperGroup

FAILED, NOTHING, INFRASTRUCTURE, INTERRUPTED = 2, 3, 4, 130


class Commands(TyperGroup):
    """The group of all commands; a bug still shows its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except LookupError as error:
            if isinstance(error, (KeyError, IndexError)):
                raise
            fail(str(error), NOTHING)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            what = f"{error.strerror}: {error.filename}" if error.strerror and error.filename else str(error)
            fail(what, INFRASTRUCTURE)


def fail(reason: str, code: int) -> Any:
    """Say why in one line and end with ``code``."""
    from aieng_bench.report.format import clean

    typer.echo(f"aieng-bench: {clean(reason)}", err=True)
    raise typer.Exit(code)
