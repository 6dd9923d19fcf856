"""How a cheat is declared: a benchmark of its own with two contenders, the cheat and its honest twin, which is the baseline.

The problems are plain: a definition in float64, and torch's own result in float32 as the framework's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aieng_bench.define import REDTEAM, Case, KernelBenchmark, Work, grid
from aieng_bench.redteam import CHEAT

Call = Callable[..., Any]
Setup = Callable[[Case], Call]


@dataclass(frozen=True)
class Problem:
    """``define`` computes in whatever dtype it is given; ``shapes`` are those of the inputs, drawn from a normal distribution."""

    define: Callable[..., Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    work: Work
    scale: float = 1.0


def _twice_a_plus_b(a: Tensor, b: Tensor) -> Tensor:
    return 2 * a + b


def _softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, -1)


def _sum_of_rows(x: Tensor) -> Tensor:
    return x.sum(-1)


def product(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


SCALE = Problem(_twice_a_plus_b, {"a": (512, 256), "b": (512, 256)}, Work(flops=2 * 512 * 256, bytes=12 * 512 * 256))
SOFTMAX = Problem(_softmax, {"x": (1024, 256)}, Work(flops=5 * 1024 * 256, bytes=8 * 1024 * 256), scale=0.1)
MATMUL = Problem(product, {"a": (384, 384), "b": (384, 384)}, Work(flops=2 * 384**3, bytes=12 * 384**2), scale=0.1)
LARGE = Problem(product, {"a": (4096, 4096), "b": (4096, 4096)}, Work(flops=2 * 4096**3, bytes=12 * 4096**2))
"""Milliseconds on a GPU, which is long enough to see who waits for it."""
ROW_SUM = Problem(_sum_of_rows, {"x": (2048, 256)}, Work(flops=2048 * 256, bytes=4 * 2048 * 257), scale=0.01)
TINY = Problem(_twice_a_plus_b, {"a": (512, 256), "b": (512, 256)}, SCALE.work, scale=1e-9)
"""Values far below the absolute tolerance that ``allclose`` has by default."""


def declare(name: str, what: str, problem: Problem, *, waived: str = "", device: str = "cpu") -> KernelBenchmark:
    """A cheat. ``what`` says in a line what it does; ``waived``: why it cannot be caught, or need not be."""
    points = {device: grid(dtype="float32")}

    def inputs(case: Case, generator: torch.Generator) -> dict[str, Tensor]:
        return {n: problem.scale * torch.randn(shape, generator=generator) for n, shape in problem.shapes.items()}

    return KernelBenchmark(
        name=f"{REDTEAM}/{name}",
        title=what,
        summary=waived,
        baseline="",
        full=points,
        quick=points,
        inputs=inputs,
        oracle=lambda case, given: {"out": problem.define(**{n: x.double() for n, x in given.items()})},
        framework=lambda case, given: {"out": problem.define(**given)},
        work=lambda case: problem.work,
    )


def cheat(benchmark: KernelBenchmark) -> Callable[[Setup], Setup]:
    """Decorator: the function sets up the cheat."""
    return benchmark.contender(CHEAT)


def twin(benchmark: KernelBenchmark) -> Callable[[Setup], Setup]:
    """Decorator: the function sets up the honest twin, which is named after it."""

    def register(setup: Setup) -> Setup:
        benchmark.baseline = setup.__name__
        return benchmark.contender(setup.__name__, package="torch")(setup)

    return register


def scaled(a: Tensor, b: Tensor) -> Tensor:
    return 2 * a + b


def once(act: Callable[[], object], call: Call = scaled) -> Call:
    """Does ``act`` in its first call, and computes honestly in all."""
    done = False

    def acting(**inputs: Tensor) -> Any:
        nonlocal done
        if not done:
            done = True
            act()
        return call(**inputs)

    return acting
