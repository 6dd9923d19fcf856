"""Diffusion steps in Triton: the launch of the kernels beside this file.

On an H200 a step is at 80 to 99 % of the copy; one that looks at whole samples first has not yet run on a chip.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from aieng_kernels._aot import Variant
from aieng_kernels._family import implementation
from aieng_kernels._launch import device_of
from aieng_kernels.diffusion.coefficients import Coefficients
from aieng_kernels.diffusion.triton_kernel import GIVEN_NOISE, MADE_NOISE, NO_NOISE, step_kernel
from aieng_kernels.diffusion.triton_samples import sample_step_kernel, samples_kernel

# One configuration, as nothing but memory limits the step. An autotuner would run it many times over, and out may be an input.
_BLOCK, _WARPS, _STAGES = 1024, 4, 1
_SAMPLE_BLOCK, _SAMPLE_WARPS = 8192, 16
"""Of the pass over a whole sample, which one program makes."""


@implementation(
    "diffusion", "triton_fused", device="cuda", requires=("triton",), dtypes=("float32", "float16", "bfloat16"), priority=20
)
class TritonFused:
    """One pass over memory, noise from Philox in registers; the family's text has the formula."""

    whole_samples = True

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
        rescale: float = 0.0,
        threshold: tuple[float, float] | None = None,
    ) -> None:
        count = sample.numel()
        if not count:
            return
        p, q, r, s, t, sigma, clip, h = coefficients
        source = NO_NOISE if sigma == 0 else MADE_NOISE if noise is None else GIVEN_NOISE
        tensors = (sample, cond, uncond, noise if source is GIVEN_NOISE else None, history, out, x0)
        scalars = (p, q, r, s, t, sigma, 0.0 if clip is None else clip, guidance, h, *_halves(seed), *_halves(offset))
        constants = {"GUIDED": uncond is not None, "CLIPPED": clip is not None, "NOISE": source.value}
        constants |= {"HISTORY": history is not None, "KEEP_X0": x0 is not None, "BLOCK": _BLOCK}
        launch = {"num_warps": _WARPS, "num_stages": _STAGES}
        rescaled = rescale != 0 and uncond is not None
        with device_of(sample):
            if not rescaled and threshold is None:
                step_kernel[(triton.cdiv(count, _BLOCK),)](*tensors, count, *scalars, **constants, **launch)
                return
            factor, bound = _samples(sample, cond, uncond, p, q, guidance, rescale if rescaled else 0.0, threshold)
            size = count // sample.shape[0]
            blocks = triton.cdiv(size + 3, _BLOCK)
            constants |= {"RESCALED": factor is not None, "THRESHOLDED": bound is not None}
            sample_step_kernel[(blocks * sample.shape[0],)](
                *tensors, factor, bound, size, blocks, *scalars, **constants, **launch
            )  # fmt: skip


def _samples(
    sample: Tensor,
    cond: Tensor,
    uncond: Tensor | None,
    p: float,
    q: float,
    guidance: float,
    rescale: float,
    threshold: tuple[float, float] | None,
) -> tuple[Tensor | None, Tensor | None]:
    """The factor on e and the bound of x0 of each sample, [B] in float32; None for what is not asked."""
    samples = sample.shape[0]
    size = sample.numel() // samples
    new = [torch.empty(samples, device=sample.device) if asked else None for asked in (rescale != 0, threshold is not None)]
    ratio, most = threshold or (0.0, 1.0)
    position = ratio * (size - 1)
    samples_kernel[(samples,)](
        sample, cond, uncond, *new, size, p, q, guidance, rescale, int(position), position - int(position), most,
        GUIDED=uncond is not None, RESCALED=rescale != 0, THRESHOLDED=threshold is not None,
        BLOCK=_SAMPLE_BLOCK, num_warps=_SAMPLE_WARPS, num_stages=_STAGES,
    )  # fmt: skip
    return new[0], new[1]


def variants() -> Iterator[Variant]:
    """The kernels in every dtype: the step with each source of noise, at its least and at its most; what looks at whole samples."""
    for dtype, noise, everything in itertools.product(("fp32", "fp16", "bf16"), (NO_NOISE, GIVEN_NOISE, MADE_NOISE), (False, True)):
        constants = {"NOISE": noise.value, **dict.fromkeys(("GUIDED", "CLIPPED", "HISTORY", "KEEP_X0"), everything)}
        absent = [] if everything else ["uncond_ptr", "x0_ptr", "history_ptr"]
        absent += [] if noise is GIVEN_NOISE else ["noise_ptr"]
        yield _variant("step", step_kernel, dtype, {**constants, "BLOCK": _BLOCK}, absent, _WARPS)
        if everything:
            whole = {**constants, "CLIPPED": False, "RESCALED": True, "THRESHOLDED": True, "BLOCK": _BLOCK}
            yield _variant("sample step", sample_step_kernel, dtype, whole, absent, _WARPS)
    for dtype, guided in itertools.product(("fp32", "fp16", "bf16"), (False, True)):
        constants = {"GUIDED": guided, "RESCALED": guided, "THRESHOLDED": True, "BLOCK": _SAMPLE_BLOCK}
        absent = [] if guided else ["uncond_ptr", "factor_ptr"]
        yield _variant("samples", samples_kernel, dtype, constants, absent, _SAMPLE_WARPS)


def _variant(name: str, kernel: Any, dtype: str, constants: dict[str, Any], absent: Sequence[str], warps: int) -> Variant:
    constants = constants | dict.fromkeys(absent)
    single = ("factor_ptr", "bound_ptr")
    pointers = {a: "*fp32" if a in single else f"*{dtype}" for a in kernel.arg_names if a.endswith("_ptr") and a not in absent}
    integers = ("size", "blocks", "rank", "seed_low", "seed_high", "offset_low", "offset_high")
    types = {"count": "i64", **dict.fromkeys(integers, "i32")}
    others = {a: types.get(a, "fp32") for a in kernel.arg_names if a not in constants and a not in pointers}
    label = " ".join([name, dtype, *(f"{k}={v}" for k, v in constants.items() if v is not None)])
    divisible = frozenset({*pointers, "size"} & {*kernel.arg_names})
    return Variant(label, kernel, pointers | others, constants, warps, _STAGES, divisible)


def _halves(number: int) -> tuple[int, int]:
    """The low and high 32 bits as signed integers, so that the kernel has one type for them whatever their value."""
    low, high = number & 0xFFFFFFFF, number >> 32 & 0xFFFFFFFF
    return (low ^ 1 << 31) - (1 << 31), (high ^ 1 << 31) - (1 << 31)
