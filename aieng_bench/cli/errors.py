"""What a user's mistake or a full disk looks like: one line on stderr and an exit code, never a traceback."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from aieng_bench.define import Benchmark

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
        except ValueError as error:
            from aieng_bench.record.reading import Broken

            if not isinstance(error, (Broken, UnicodeEncodeError)):
                raise
            fail(str(error), INFRASTRUCTURE)


def find(*patterns: str) -> list[Benchmark]:
    """The benchmarks that match, after one line on stderr for each module of a suite that had to be left out."""
    from aieng_bench import registry

    name_left_out()
    return registry.find(*patterns)


def name_left_out() -> None:
    """One line on stderr for each module of a suite that had to be left out."""
    from aieng_bench import registry
    from aieng_bench.report.format import clean

    for module, reason in registry.left_out().items():
        typer.echo(f"aieng-bench: left out {clean(module)}: {clean(reason)}", err=True)


def fail(reason: str, code: int) -> Any:
    """Say why in one line and end with ``code``."""
    from aieng_bench.report.format import clean

    typer.echo(f"aieng-bench: {clean(reason)}", err=True)
    raise typer.Exit(code)
