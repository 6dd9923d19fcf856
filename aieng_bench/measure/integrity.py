"""Whether the referee is still itself: clocks, digests and the engine's own functions are those that the process began with.

A contender shares the process and can undo this check too; it stops what is simple to write, not what is determined.
"""

from __future__ import annotations

import hashlib
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import torch

_FOREIGN: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (time, ("perf_counter", "perf_counter_ns", "monotonic", "sleep")),
    (statistics, ("median", "mean")),
    (random.SystemRandom, ("random", "getrandbits")),
    (random.Random, ("randrange", "randint", "choice")),
    (hashlib, ("sha256",)),
    (json, ("dumps",)),
    (torch, ("equal", "empty", "set_num_threads", "get_num_threads")),
    (torch.Tensor, ("sum", "random_", "copy_", "view")),
    (torch.cuda, ("synchronize", "Event")),
    (torch.cuda.Event, ("record", "elapsed_time")),
)
"""What of other modules the engine rests on in a worker. No compiler or library that contenders use replaces any of it."""


class Tampered(Exception):
    """A contender changed what its measurement rests on."""


class Guard:
    """Remembers everything at its making, before any contender is imported."""

    def __init__(self) -> None:
        self._threads = torch.get_num_threads()
        self._parts = dict(_parts())

    def around(self, operation: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        """The operation, after which everything must be as it was. Raises Tampered."""

        def guarded(**fields: Any) -> dict[str, Any]:
            answer = operation(**fields)
            self.check()
            return answer

        return guarded

    def check(self) -> None:
        now = dict(_parts())
        for name, part in self._parts.items():
            if now.get(name) is not part:
                raise Tampered(f"replaced {name}")
        if (threads := torch.get_num_threads()) != self._threads:
            raise Tampered(f"left torch with {threads} threads instead of {self._threads}")


def _parts() -> Iterator[tuple[str, Any]]:
    for owner, names in _FOREIGN:
        yield from ((f"{owner.__name__}.{name}", getattr(owner, name)) for name in names)
    for module in [m for name, m in sys.modules.items() if name.startswith(("aieng_bench.measure.", "__main__"))]:
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            members = vars(value).items() if own and isinstance(value, type) else ()
            for path, part in ((name, value), *((f"{name}.{member}", inner) for member, inner in members)):
                if callable(part):
                    yield f"{module.__name__}.{path}", part
                if isinstance(part, FunctionType):
                    yield f"{module.__name__}.{path}.__code__", part.__code__
