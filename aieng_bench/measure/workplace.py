"""Where a run's processes live: scratch folders that vanish with it, and workers that all start with the same settings."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from aieng_bench.measure.process import Worker, worker_environment

_MEMORY_DISK = Path("/dev/shm")


class Workplace:
    """``outputs`` is in memory where possible, as outputs pass through it; ``scratch``, with compile caches, is on the disk."""

    def __enter__(self) -> Workplace:
        import torch

        self.threads = torch.get_num_threads()
        self.outputs = Path(tempfile.mkdtemp(prefix="aieng-bench-", dir=_MEMORY_DISK if _MEMORY_DISK.is_dir() else None))
        self.scratch = Path(tempfile.mkdtemp(prefix="aieng-bench-"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for folder in (self.outputs, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)

    def variables(self, malloc: str) -> dict[str, str]:
        return worker_environment(malloc, self.scratch)

    def worker(self, malloc: str) -> Worker:
        return Worker("aieng_bench.measure.worker", self.variables(malloc), self.threads)

    def checker(self) -> Worker:
        return Worker("aieng_bench.measure.checker", self.variables("default"), self.threads)
