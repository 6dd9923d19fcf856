"""Where a run's processes live: scratch folders that vanish with it, and workers that all start with the same settings."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from aieng_bench.measure.fork_server import ForkServer
from aieng_bench.measure.process import Worker, worker_environment

_MEMORY_DISK = Path("/dev/shm")


class Workplace:
    """``outputs`` is in memory where possible, as outputs pass through it; ``scratch``, with compile caches, is on the disk."""

    def __enter__(self) -> Workplace:
        import torch

        self.threads = torch.get_num_threads()
        disk = Path(tempfile.gettempdir())
        self.outputs, self.scratch = (scratch(place) for place in (_MEMORY_DISK if _MEMORY_DISK.is_dir() else disk, disk))
        self._servers: dict[tuple[str, tuple[str, ...]], ForkServer] = {}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for server in self._servers.values():
            server.close()
        for folder in (self.outputs, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)

    def variables(self, malloc: str) -> dict[str, str]:
        return worker_environment(malloc, self.scratch)

    def worker(self, malloc: str, path: str | None = None, device: str = "cpu") -> Worker:
        """``path``: what it imports from, by default what we do."""
        return self._start("worker", malloc, path, device)

    def study_worker(self, malloc: str, path: str | None = None, preload: tuple[str, ...] = ()) -> Worker:
        """``preload``: modules that are imported once for all workers that name the same and import from where we do (Linux)."""
        shared = path is None and preload and sys.platform == "linux"
        return self._start("study_worker", malloc, path, server=self._server(malloc, preload) if shared else None)

    def _server(self, malloc: str, modules: tuple[str, ...]) -> ForkServer:
        if (malloc, modules) not in self._servers:
            self._servers[malloc, modules] = ForkServer(modules, self.variables(malloc))
        return self._servers[malloc, modules]

    def checker(self, path: str | None = None, device: str = "cpu") -> Worker:
        return self._start("checker", "default", path, device)

    def _start(self, module: str, malloc: str, path: str | None, device: str = "cpu", server: ForkServer | None = None) -> Worker:
        variables = self.variables(malloc) | ({} if path is None else {"PYTHONPATH": path})
        return Worker(f"aieng_bench.measure.{module}", variables, self.threads, device, server)


def scratch(place: Path) -> Path:
    """A new folder that bears our process id; what runs that were killed have left in ``place`` is removed."""
    for folder in place.glob("aieng-bench-*-*"):
        owner = re.fullmatch(r"aieng-bench-(\d+)-\w+", folder.name)
        if owner and not exists(int(owner[1])):
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"aieng-bench-{os.getpid()}-", dir=place))


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
