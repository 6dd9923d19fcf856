"""Contenders that break something on a CUDA device in the first case, and are well on the second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aieng_bench.define import Case
from toy_suite.scale import declare

benchmark = declare("device_deaths", device="cuda")
FOR_EVER = 1 << 50
"""Cycles: days."""
LONG = 1 << 21
"""Cycles: some 1 ms."""


@benchmark.contender("eager")
def eager(case: Case) -> Callable[..., Any]:
    return lambda a, b: 2 * a + b


def breaks(name: str, act: Callable[[Any], Any]) -> None:
    def setup(case: Case) -> Callable[..., Any]:
        def call(a: Any, b: Any) -> Any:
            if case.N == 4096:
                act(a)
            return 2 * a + b

        return call

    benchmark.contender(name)(setup)


def asserts(a: Any) -> None:
    """A device-side assertion: an index far outside."""
    import torch

    a.view(-1)[torch.full((1,), 1 << 40, device=a.device)]


def reads_nowhere(a: Any) -> None:
    """An illegal address."""
    from toy_suite.wild import read

    read(a, 1 << 45)


def never_ends(a: Any) -> None:
    import torch

    for _ in range(4):
        torch.cuda._sleep(FOR_EVER)


def exhausts(a: Any) -> None:
    """Asks for more than there is, rather than take it all from whoever shares the device."""
    import torch

    torch.empty(2 * torch.cuda.get_device_properties(a.device).total_memory, dtype=torch.uint8, device=a.device)


breaks("asserts", asserts)
breaks("reads_nowhere", reads_nowhere)
breaks("never_ends", never_ends)
breaks("exhausts", exhausts)


@benchmark.contender("leaves_work_behind")
def leaves_work_behind(case: Case) -> Callable[..., Any]:
    """Computes on a stream of its own, for which nobody is told to wait."""
    import torch

    side = torch.cuda.Stream()

    def call(a: Any, b: Any) -> Any:
        out = torch.empty_like(a)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            torch.cuda._sleep(LONG)
            torch.add(b, a, alpha=2, out=out)
        return out

    return call
