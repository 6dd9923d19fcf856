"""``method/agreement``: the engine's timer beside the timers that others trust, on one function in one process, turn about.

torch's ``Timer.blocked_autorange`` and Triton's ``do_bench`` are asked for the time of the call that our timer times, each for as
long, in interleaved rounds; the figure is how far apart the two are, and above three per cent the cell is INCORRECT.

Functions write where they are told, if they can be: our loop holds an output until the next is there, as a user does, torch's drops
it at once, so that allocated results lie in two places with one and in one with the other. That alone made 9 % for softmax.
And both time as many calls at once: the median of single calls leaves out slow ones, that of a hundred at once averages them in.
That made 2 to 4 % for calls of 80 to 180 µs, where the same blocks differ by 0.3 %.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aieng_bench.define import Case, Metric, Study, grid

if TYPE_CHECKING:
    from torch import Tensor

Run = Callable[[int], dict[str, float]]
Theirs = Callable[[Callable[[], Any]], tuple[float, int]]
"""Of a call: seconds, and how many of it were timed at once."""

LARGEST_DISAGREEMENT = 3.0
ROUNDS = 30
TURN_S = {"cpu": 0.05, "cuda": 0.02}
"""Timed part of a turn on either side, and no less than one call."""
FUNCTIONS = ("add", "softmax", "matmul", "layer_norm", "attention")

benchmark = Study(
    name="method/agreement",
    title="Agreement of timers",
    summary="One call timed by this engine and by another library in interleaved rounds: how far their medians are apart.",
    baseline="torch_timer",
    full={device: grid(function=FUNCTIONS) for device in ("cpu", "cuda")},
    quick={device: grid(function=("softmax", "matmul")) for device in ("cpu", "cuda")},
    metrics=(Metric("disagreement_percent", "%", "lower", "disagreement with our timer", floor=LARGEST_DISAGREEMENT),),
    seeds=3,
    quick_seeds=1,
)


@benchmark.contender("torch_timer", package="torch")
def torch_timer(case: Case) -> Run:
    """``torch.utils.benchmark.Timer.blocked_autorange``, the median of its blocks, with as many threads as ours has."""
    import torch
    from torch.utils.benchmark import Timer

    def theirs(call: Callable[[], Any]) -> tuple[float, int]:
        timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
        found = timer.blocked_autorange(min_run_time=TURN_S[case.device])
        return float(found.median), found.number_per_run

    return against(case, theirs)


@benchmark.contender("triton_do_bench", devices=("cuda",), requires=("triton",), package="triton")
def triton_do_bench(case: Case) -> Run:
    """``triton.testing.do_bench``, which flushes the L2 before each call, as our cold timer does. Not yet measured on a chip."""
    from triton.testing import do_bench

    def theirs(call: Callable[[], Any]) -> tuple[float, int]:
        return 1e-3 * float(do_bench(call, warmup=1, rep=1e3 * TURN_S[case.device], return_mode="median")), 1

    return against(case, theirs, flush=True)


def against(case: Case, theirs: Theirs, flush: bool = False) -> Run:
    """Whose turn is first is drawn each round."""
    from aieng_bench.measure import timing

    def run(seed: int) -> dict[str, float]:
        function, inputs = FUNCTION[str(case["function"])](case.device, seed)
        timer = timing.CudaTimer(flush) if case.device == "cuda" else timing.CpuTimer()
        at_once, call_s = theirs(lambda: function(**inputs))[1], timing.pilot(timer, function, inputs).call_s
        turn_s = TURN_S[case.device]
        batches = max(1, round(turn_s / (call_s * at_once)))

        def ours() -> float:
            return 1e-6 * timing.turn(timer, function, timing.hot(inputs), at_once, batches, 20 * turn_s).us_per_call

        def other() -> float:
            return theirs(lambda: function(**inputs))[0]

        sides: dict[Callable[[], float], list[float]] = {ours: [], other: []}
        for _ in range(ROUNDS):
            for side in random.sample(list(sides), 2):
                sides[side].append(side())
        return disagreement(sides[ours], sides[other])

    return run


def disagreement(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """How far the median of the rounds' ratios is from 1, in per cent, with both medians in µs."""
    from statistics import median

    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    return {
        "disagreement_percent": 100 * abs(ratio - 1),
        "_ratio": ratio,
        "_ours_us": 1e6 * median(ours),
        "_theirs_us": 1e6 * median(theirs),
    }


def drawn(device: str, seed: int, *shapes: tuple[int, ...], dtype: str = "float32") -> list[Tensor]:
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    return [torch.randn(shape, generator=generator, device=device).to(getattr(torch, dtype)) for shape in shapes]


Timed = tuple[Callable[..., Any], Mapping[str, Any]]


def add(device: str, seed: int) -> Timed:
    import torch

    x, y = drawn(device, seed, *[(2**26,) if device == "cuda" else (2**20,)] * 2)
    return torch.add, {"input": x, "other": y, "out": torch.empty_like(x)}


def softmax(device: str, seed: int) -> Timed:
    import torch

    (x,) = drawn(device, seed, (2**14, 2**12) if device == "cuda" else (512, 1024))
    return torch.softmax, {"input": x, "dim": -1, "out": torch.empty_like(x)}


def layer_norm(device: str, seed: int) -> Timed:
    from torch.nn.functional import layer_norm as function

    (x,) = drawn(device, seed, (2**15, 2**12) if device == "cuda" else (2**12, 2**10))
    return function, {"input": x, "normalized_shape": x.shape[1:]}


def matmul(device: str, seed: int) -> Timed:
    import torch

    n = 8192 if device == "cuda" else 512
    x, y = drawn(device, seed, (n, n), (n, n), dtype="bfloat16" if device == "cuda" else "float32")
    return torch.matmul, {"input": x, "other": y, "out": torch.empty_like(x)}


def attention(device: str, seed: int) -> Timed:
    from torch.nn.functional import scaled_dot_product_attention as function

    shape = (8, 16, 8192, 128) if device == "cuda" else (2, 8, 1024, 64)
    query, key, value = drawn(device, seed, shape, shape, shape, dtype="bfloat16" if device == "cuda" else "float32")
    return function, {"query": query, "key": key, "value": value}


FUNCTION = {"add": add, "softmax": softmax, "layer_norm": layer_norm, "matmul": matmul, "attention": attention}
