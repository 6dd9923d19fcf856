"""Two states of a repository side by side, each where processes of ours can import it. All of it is gone afterwards.

A state with a ``pyproject.toml`` or ``setup.py`` is installed by pip into a folder of its own, without its dependencies, which are
those of this environment; any other is imported from where it lies. In front of both goes the engine that runs, so that both sides
are measured by the same one, also where the repository is the engine's own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aieng_bench
from aieng_bench.measure.workplace import scratch

LONGEST_OUTPUT = 2000
ENDING_S = 10.0


class NotBuilt(Exception):
    """A side that cannot be checked out, installed or listed; ``side`` is ``base`` or ``head``."""

    def __init__(self, side: str, reason: str) -> None:
        super().__init__(f"{side}: {reason}")
        self.side = side


@dataclass(frozen=True)
class Side:
    """``site`` is what the side's processes import from before anything else, but for the engine in ``engine``."""

    name: str
    commit: str | None
    dirty: bool | None
    site: Path
    engine: Path

    @property
    def path(self) -> str:
        """The PYTHONPATH of this side's processes."""
        ours = [p for p in sys.path if p and Path(p).exists()]
        return os.pathsep.join([str(self.engine), str(self.site), *ours])


@contextmanager
def checkouts(base: str, head: str) -> Iterator[tuple[Side, Side]]:
    """Both sides, named by a commit of the repository around the current folder or by the path of a checkout.

    Raises NotBuilt. The folder they are in is removed at the end, also when an exception or Ctrl-C ends it.
    """
    folder = scratch(Path(tempfile.gettempdir()))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        engine = folder / "engine"
        engine.mkdir()
        (engine / "aieng_bench").symlink_to(Path(aieng_bench.__file__).parent)
        sides = [_side(name, revision, folder, engine, stack) for name, revision in (("base", base), ("head", head))]
        yield sides[0], sides[1]


def _side(name: str, revision: str, folder: Path, engine: Path, stack: ExitStack) -> Side:
    commit = _git(".", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is not None:
        source = folder / name / "checkout"
        stack.callback(_remove, source)
        _run(name, ["git", "worktree", "add", "--quiet", "--detach", str(source), commit])
        dirty: bool | None = False
    elif revision and Path(revision).is_dir():
        source = Path(revision).resolve()
        commit, status = _git(revision, "rev-parse", "HEAD"), _git(revision, "status", "--porcelain")
        dirty = None if status is None else status != ""
    else:
        raise NotBuilt(name, f"{revision!r} is neither a commit of the repository around this folder nor a folder")
    return Side(name, commit, dirty, _installed(name, source, folder), engine)


def _installed(name: str, source: Path, folder: Path) -> Path:
    if not any((source / file).is_file() for file in ("pyproject.toml", "setup.py")):
        return source
    site = folder / name / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    _run(name, [*pip, "--target", str(site), str(source)])
    return site


def _git(folder: str, *arguments: str) -> str | None:
    """What git prints, None if it fails."""
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip() if done.returncode == 0 else None


def _remove(worktree: Path) -> None:
    """Remove a worktree, also one that git was still filling, and had locked, when Ctrl-C came."""
    _git(".", "worktree", "unlock", str(worktree))
    _git(".", "worktree", "remove", "--force", str(worktree))
    shutil.rmtree(worktree, ignore_errors=True)
    _git(".", "worktree", "prune")


def _run(name: str, command: Sequence[str]) -> None:
    """Interrupted, it ends the command with all that this has started, which would go on writing into what is being removed."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            printed, _ = process.communicate()
        except BaseException:
            _end(process)
            raise
    if process.returncode != 0:
        raise NotBuilt(name, f"{' '.join(command[:4])} ended with {process.returncode}: {printed.strip()[-LONGEST_OUTPUT:]}")


def _end(process: subprocess.Popen[str]) -> None:
    """Kill the group of a process, and wait until none of it is left."""
    deadline = time.monotonic() + ENDING_S
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, signal.SIGKILL)
            process.poll()
            time.sleep(0.01)


def listed(side: Side) -> str:
    """What ``aieng-bench ls --json`` prints of a side."""
    environment = {**os.environ, "PYTHONPATH": side.path}
    command = [sys.executable, "-P", "-m", "aieng_bench", "ls", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise NotBuilt(side.name, f"its benchmarks cannot be listed: {done.stderr.strip()[-LONGEST_OUTPUT:]}")
    return done.stdout
