"""Large results on the CPU lie where released ones lay, and nothing that is still held is written over."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from aieng_kernels._memory import KEPT, empty_like
from aieng_kernels._native_cpu import cpu
from aieng_kernels.diffusion import ddim_coefficients, diffusion_step
from torch import Tensor

LARGE = (8, KEPT // 32)
DDIM = ddim_coefficients(0.5, 0.6)
pytestmark = pytest.mark.skipif(
    cpu is None or cpu.kept_like(torch.zeros(1)) is None,
    reason="memory is kept by the native module, under Linux, where torch has DLPack's exchange API",
)


def step(x: Tensor) -> tuple[Tensor, Tensor]:
    prev, x0 = diffusion_step(x, x, DDIM)
    assert x0 is not None
    return prev, x0


def in_a_process_of_its_own(code: str) -> None:
    """Whose memory no other test has shaped."""
    head = (
        "import re, torch\n"
        "from aieng_kernels._memory import KEPT, empty_like\n"
        "def mebibytes(field):\n"
        "    return int(re.search(field + r':\\s+(\\d+)', open('/proc/self/smaps_rollup').read())[1]) // 1024\n"
    )
    subprocess.run([sys.executable, "-c", head + code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_released_memory_is_used_again_but_not_while_anything_lies_in_it() -> None:
    like = torch.zeros(LARGE)
    first = empty_like(like)
    where, row = first.data_ptr(), first[3]
    del first
    other = empty_like(like)
    assert other.data_ptr() != where
    del row
    assert empty_like(like).data_ptr() == where
    assert other.data_ptr() != where


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_they_are_tensors_like_any(dtype: torch.dtype) -> None:
    like = torch.zeros(KEPT // 8, 8, dtype=dtype).t()
    made = empty_like(like)
    assert (made.shape, made.dtype, made.device) == (like.shape, like.dtype, like.device)
    assert made.is_contiguous()
    made.fill_(1)
    made.requires_grad_().sum().backward()
    assert made.grad is not None
    with torch.inference_mode():
        assert empty_like(like).is_inference()


def test_steps_into_them_are_those_into_others() -> None:
    x = torch.randn(LARGE)
    held = []
    for _ in range(4):
        due = torch.empty_like(x), torch.empty_like(x)
        diffusion_step(x, x, DDIM, out=due)
        held.append((step(x), due))
        x = held[-1][0][0]
    assert all(torch.equal(a, b) for got, due in held for a, b in zip(got, due, strict=True))


def test_threads_do_not_share_them() -> None:
    def loop(value: float) -> bool:
        x = torch.full(LARGE, value)
        due = [y[0, 0].item() for y in step(x)]
        return all(all(bool((y == v).all()) for y, v in zip(step(x), due, strict=True)) for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(loop, [1.0, 2.0, 3.0, 4.0]))


def test_two_released_ones_stay() -> None:
    in_a_process_of_its_own(
        "like = torch.zeros(KEPT // 4)\n"
        "before = mebibytes('Rss')\n"
        "held = [empty_like(like).fill_(1) for _ in range(6)]\n"
        "six = mebibytes('Rss') - before\n"
        "held.clear()\n"
        "two = mebibytes('Rss') - before\n"
        "assert 185 < six < 220 and 60 < two < 80, (six, two)\n"
    )


def test_the_system_may_take_the_largest() -> None:
    in_a_process_of_its_own(
        "like = torch.empty(300 << 20, dtype=torch.uint8)\n"
        "made = empty_like(like).fill_(1)\n"
        "assert mebibytes('LazyFree') == 0\n"
        "del made\n"
        "assert mebibytes('LazyFree') >= 300\n"
        "again = empty_like(like).fill_(2)\n"
        "assert again.eq(2).all() and mebibytes('LazyFree') == 0\n"
    )


def test_a_process_ends_well_while_it_holds_some() -> None:
    in_a_process_of_its_own("import builtins\nbuiltins.held = empty_like(torch.zeros(KEPT)), empty_like(torch.zeros(KEPT))[1:]\n")
