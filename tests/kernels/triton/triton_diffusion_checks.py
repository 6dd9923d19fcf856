"""Checks of the Triton diffusion step on any device: on the CPU in the interpreter, on a GPU where there is one."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
import whole_samples
from aieng_kernels._philox import MASK, halves, philox4x32_10
from aieng_kernels.diffusion import Coefficients
from aieng_kernels.diffusion.reference import Reference, philox_normal
from aieng_kernels.diffusion.triton_fused import TritonFused, _halves
from aieng_kernels.diffusion.triton_kernel import philox_normal as philox_normal_kernel
from torch import Tensor
from triton_guards import Guards

SAMPLE = 6000


def check_step(
    count: int, dtype: str, noise: str, guided: bool, clip: float | None, device: str = "cpu", with_history: bool = False
) -> None:
    """No more than twice the largest error of plain torch over SAMPLE elements, and one rounding; x0 is kept where clipped.

    An element does not depend on how many there are: the definition is asked for SAMPLE of them, the kernel for ``count``.
    """
    whole = torch.randn((5, SAMPLE), generator=torch.Generator().manual_seed(count)).to(getattr(torch, dtype)).to(device)
    given = whole[:, :count].contiguous()
    before = given.clone()
    keywords = {
        "coefficients": Coefficients(1.1, -0.4, 0.7, 0.2, 0.1, 0.0 if noise == "none" else 0.6, clip, -0.9),
        "guidance": 3.5,
        "seed": 0xDEADBEEFCAFE,
        "offset": 0x5_8000_0001,
    }

    def step(by: Any, out: Tensor, x0: Tensor | None, *given: Tensor) -> tuple[Tensor, Tensor | None]:
        x, c, u, z, y = given
        by.step(
            x,
            c,
            u if guided else None,
            z if noise == "given" else None,
            out,
            x0,
            **keywords,
            **({"history": y} if with_history else {}),
        )
        return out, x0

    guards = Guards()
    new = [guards.empty((count,), dtype=whole.dtype, device=device) for _ in range(2)]
    got = step(TritonFused, new[0], new[1] if clip else None, *given)
    guards.check()
    assert torch.equal(given, before)
    plain = step(Reference, *torch.empty_like(whole[:2]), *whole)
    exact = step(Reference, *torch.empty_like(whole[:2], dtype=torch.float64), *whole.double())
    for ours, theirs, truth in zip(got, plain, exact):
        if ours is not None:
            allowed = 2 * (theirs.double() - truth).abs().max() + torch.finfo(whole.dtype).eps * truth.abs().max()
            error = (ours.double() - truth[:count]).abs().max()
            assert error <= allowed, f"error {error:.2e}, allowed {allowed:.2e}"


def check_whole_samples(
    shape: tuple[int, ...], dtype: str, rescale: float, threshold: tuple[float, float] | None, noise: str, device: str = "cpu"
) -> None:
    """Rescaled guidance and dynamic thresholding."""
    guards = Guards()
    how: dict[str, Any] = {"device": device, "new": guards.empty_like}
    whole_samples.check_values(TritonFused, shape, getattr(torch, dtype), rescale, threshold, noise, **how)
    guards.check()


def check_quantiles(device: str = "cpu") -> None:
    whole_samples.check_quantiles(TritonFused, device)


def check_noise(seed: int, offset: int, device: str = "cpu") -> None:
    """A step of nothing but noise gives the definition's normals, in the definition's order."""
    x = torch.zeros(4100, device=device)
    out = torch.full_like(x, math.nan)
    only_noise = Coefficients(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    TritonFused.step(x, x, None, None, out, None, coefficients=only_noise, guidance=1.0, seed=seed, offset=offset)
    _same_normals(out, philox_normal(x.numel(), seed, offset, torch.float64, device))


@triton.jit
def _normals_from(out_ptr, first_block, seed_low, seed_high, offset_low, offset_high, BLOCKS: tl.constexpr):  # type: ignore[no-untyped-def]
    z = philox_normal_kernel(first_block, seed_low, seed_high, offset_low, offset_high, BLOCKS)
    tl.store(out_ptr + tl.arange(0, 4 * BLOCKS), z)


def check_noise_of_large_tensors(device: str = "cpu") -> None:
    """Blocks on both sides of 2^32 carry into the counter's second word."""
    seed, offset, first = 77, 2**40 + 3, 2**32 - 8
    out = torch.full((64,), math.nan, device=device)
    _normals_from[(1,)](out, first, *_halves(seed), *_halves(offset), BLOCKS=16)
    block = torch.arange(first, first + 16, device=device)
    low, high = torch.full_like(block, offset & MASK), torch.full_like(block, offset >> 32)
    words = philox4x32_10((block & MASK, block >> 32, low, high), halves(seed))
    u0, u1, u2, u3 = ((w.float() * 2.0**-32 + 2.0**-33).double() for w in words)
    radius, angle = (-2 * torch.stack((u0, u2)).log()).sqrt(), 2 * torch.pi * torch.stack((u1, u3))
    _same_normals(out, torch.stack((radius * angle.cos(), radius * angle.sin())).permute(2, 1, 0).reshape(-1))


def _same_normals(ours: Tensor, truth: Tensor) -> None:
    """To a few float32 roundings of the radius, which is at most √(66 ln 2) = 6.8."""
    error = (ours.double() - truth).abs().max()
    assert error <= 1.5e-6, f"error {error:.2e}"


def check_in_place(device: str = "cpu") -> None:
    """``out`` may be the sample and ``x0`` the model's output."""
    x, c, u = torch.randn((3, 2050), generator=torch.Generator().manual_seed(3)).to(device)
    keywords = {"coefficients": Coefficients(1.1, -0.4, 0.7, 0.2, 0.1, 0.6, 1.0), "guidance": 2.0, "seed": 1, "offset": 2}
    out, x0 = torch.empty_like(x), torch.empty_like(x)
    TritonFused.step(x, c, u, None, out, x0, **keywords)
    TritonFused.step(x, c, u, None, x, c, **keywords)
    assert torch.equal(x, out)
    assert torch.equal(c, x0)


def check_nan_and_infinity(device: str = "cpu") -> None:
    """NaN passes through clipping, infinities are clipped."""
    x = torch.tensor([math.nan, math.inf, -math.inf, 0.5], device=device)
    out, x0, clipped = torch.empty_like(x), torch.empty_like(x), Coefficients(1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    TritonFused.step(x, torch.zeros_like(x), None, None, out, x0, coefficients=clipped, guidance=1.0, seed=0, offset=0)
    assert torch.allclose(x0.cpu(), torch.tensor([math.nan, 1.0, -1.0, 0.5]), rtol=0, atol=0, equal_nan=True)


def check_empty(device: str = "cpu") -> None:
    x = torch.empty(0, device=device)
    TritonFused.step(
        x, x, None, None, x, None, coefficients=Coefficients(1.0, 0.0, 1.0, 0.0, 0.0, 1.0), guidance=1.0, seed=0, offset=0
    )
