"""What the calibration of ``compare`` measures: ``unchanged``, its ``copy``, and ``slower``, which does 21 steps where they do 20.

Twenty-five cases, so that one start of all processes serves many comparisons; small ones, as a step must cost microseconds. The
baseline does other work, as baselines do: what disturbs it need not disturb the contenders alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aieng_bench.define import Case, KernelBenchmark, Work, grid

STEPS, MORE_STEPS = 20, 21
SLOWDOWN = MORE_STEPS / STEPS - 1
ROWS = [8, 16, 24, 32, 48]
WIDTH = 64


def step(case: Case) -> Callable[[Any], Any]:
    import torch

    steps: dict[str, Callable[[Any], Any]] = {
        "add": lambda x: x + x,
        "exp": torch.exp,
        "softmax": lambda x: torch.softmax(x, -1),
        "cumsum": lambda x: torch.cumsum(x, -1),
        "norm": lambda x: torch.rms_norm(x, (WIDTH,)),
    }
    return steps[case.step]


def inputs(case: Case, generator: Any) -> dict[str, Any]:
    import torch

    return {"x": torch.randn(case.rows, WIDTH, generator=generator)}


benchmark = KernelBenchmark(
    name="calibration/work",
    title="Steps of known number",
    summary="The same step 20 or 21 times.",
    baseline="other_work",
    full={"cpu": grid(step=["add", "exp", "softmax", "cumsum", "norm"], rows=ROWS, dtype="float32")},
    quick={},
    inputs=inputs,
    oracle=lambda case, given: {"out": step(case)(given["x"].double())},
    framework=lambda case, given: {"out": step(case)(given["x"])},
    work=lambda case: Work(flops=1.0, bytes=1.0),
    suite="calibration",
    module="work",
)


def repeated(case: Case, times: int) -> Callable[..., Any]:
    one = step(case)

    def call(x: Any) -> Any:
        for _ in range(times):
            out = one(x)
        return out

    return call


@benchmark.contender("other_work", package="torch")
def other_work(case: Case) -> Callable[..., Any]:
    import torch

    one = step(case)

    def call(x: Any) -> Any:
        for _ in range(STEPS):
            torch.tanh(x)
        return one(x)

    return call


@benchmark.contender("unchanged", kind="ours")
def unchanged(case: Case) -> Callable[..., Any]:
    return repeated(case, STEPS)


@benchmark.contender("copy", kind="ours")
def copy(case: Case) -> Callable[..., Any]:
    return repeated(case, STEPS)


@benchmark.contender("slower", kind="ours")
def slower(case: Case) -> Callable[..., Any]:
    return repeated(case, MORE_STEPS)
