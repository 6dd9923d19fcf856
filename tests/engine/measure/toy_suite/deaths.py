"""Contenders whose process does not survive the first case, and is well on the second."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from aieng_bench.define import Case
from toy_suite.scale import declare

benchmark = declare("deaths")


@benchmark.contender("eager")
def eager(case: Case) -> Callable[..., Any]:
    return lambda a, b: 2 * a + b


def dies(name: str, act: Callable[[], Any]) -> None:
    def setup(case: Case) -> Callable[..., Any]:
        def call(a: Any, b: Any) -> Any:
            if case.N == 4096:
                act()
            return 2 * a + b

        return call

    benchmark.contender(name)(setup)


def out_of_memory() -> None:
    import torch

    torch.empty(2**60, dtype=torch.uint8)


def flood() -> None:
    for _ in range(2000):
        sys.stdout.write("x" * 10_000 + "\n")
    sys.stdout.write("the end\n")
    raise RuntimeError("flooded")


dies("segfault", lambda: ctypes.string_at(0))
dies("abort", os.abort)
dies("exit_0", lambda: os._exit(0))
dies("sys_exit", lambda: sys.exit(0))
dies("killed", lambda: os.kill(os.getpid(), signal.SIGKILL))
dies("hang", lambda: time.sleep(3600))
dies("out_of_memory", out_of_memory)
dies("flood", flood)
