"""Diffusion steps in Triton: the launch of the kernel beside this file. On an H200 at 80 to 99 % of the copy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import triton
from torch import Tensor

from aieng_kernels._aot import Variant
from aieng_kernels._family import implementation
from aieng_kernels._launch import device_of
from aieng_kernels.diffusion.coefficients import Coefficients
from aieng_kernels.diffusion.triton_kernel import GIVEN_NOISE, MADE_NOISE, NO_NOISE, step_kernel

# One configuration, as nothing but memory limits the step. An autotuner would run it many times over, and out may be an input.
_BLOCK, _WARPS, _STAGES = 1024, 4, 1


@implementation(
    "diffusion", "triton_fused", device="cuda", requires=("triton",), dtypes=("float32", "float16", "bfloat16"), priority=20
)
class TritonFused:
    """One pass over memory, noise from Philox in registers; the family's text has the formula."""

    @staticmethod
    def supports(sample: Tensor) -> str | None:
        return None if sample.numel() < _BLOCK * 2**31 else f"takes fewer than {_BLOCK}·2^31 elements, not {sample.numel()}"

    @staticmethod
    def step(
        sample: Tensor,
        cond: Tensor,
        uncond: Tensor | None,
        noise: Tensor | None,
        out: Tensor,
        x0: Tensor | None,
        *,
        coefficients: Coefficients,
        guidance: float,
        seed: int,
        offset: int,
        history: Tensor | None = None,
    ) -> None:
        count = sample.numel()
        if not count:
            return
        p, q, r, s, t, sigma, clip, h = coefficients
        source = NO_NOISE if sigma == 0 else MADE_NOISE if noise is None else GIVEN_NOISE
        with device_of(sample):
            step_kernel[(triton.cdiv(count, _BLOCK),)](
                sample, cond, uncond, noise if source is GIVEN_NOISE else None, history, out, x0, count,
                p, q, r, s, t, sigma, 0.0 if clip is None else clip, guidance, h, *_halves(seed), *_halves(offset),
                GUIDED=uncond is not None, CLIPPED=clip is not None, NOISE=source.value, HISTORY=history is not None,
                KEEP_X0=x0 is not None,
                BLOCK=_BLOCK, num_warps=_WARPS, num_stages=_STAGES,
            )  # fmt: skip


def variants() -> Iterator[Variant]:
    """The kernel in every dtype, with each source of noise, at its least and at its most."""
    for dtype, noise, everything in itertools.product(("fp32", "fp16", "bf16"), (NO_NOISE, GIVEN_NOISE, MADE_NOISE), (False, True)):
        constants = {"GUIDED": everything, "CLIPPED": everything, "NOISE": noise.value, "HISTORY": everything}
        constants |= {"KEEP_X0": everything, "BLOCK": _BLOCK}
        absent = [] if everything else ["uncond_ptr", "x0_ptr", "history_ptr"]
        absent += [] if noise is GIVEN_NOISE else ["noise_ptr"]
        constants |= dict.fromkeys(absent)
        pointers = {a: f"*{dtype}" for a in step_kernel.arg_names if a.endswith("_ptr") and a not in absent}
        integers = dict.fromkeys(("seed_low", "seed_high", "offset_low", "offset_high"), "i32")
        scalars = dict.fromkeys(("p", "q", "r", "s", "t", "sigma", "clip", "guidance", "h"), "fp32")
        label = " ".join(["step", dtype, *(f"{k}={v}" for k, v in constants.items() if v is not None)])
        signature = {**pointers, "count": "i64", **scalars, **integers}
        yield Variant(label, step_kernel, signature, constants, _WARPS, _STAGES, frozenset(pointers))


def _halves(number: int) -> tuple[int, int]:
    """The low and high 32 bits as signed integers, so that the kernel has one type for them whatever their value."""
    low, high = number & 0xFFFFFFFF, number >> 32 & 0xFFFFFFFF
    return (low ^ 1 << 31) - (1 << 31), (high ^ 1 << 31) - (1 << 31)
