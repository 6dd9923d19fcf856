"""The step on the CPU: one C++ loop compiled for AVX-512, for AVX2 and for any processor."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from aieng_kernels._family import implementation
from aieng_kernels._memory import empty_like
from aieng_kernels._native_cpu import cpu
from aieng_kernels.diffusion.coefficients import Coefficients

_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}  # csrc/diffusion/diffusion.h, Type


def _step(
    kernel: str,
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
    clip = math.inf if coefficients.clip is None else coefficients.clip
    getattr(cpu, kernel)(
        sample.data_ptr(),
        cond.data_ptr(),
        0 if uncond is None else uncond.data_ptr(),
        0 if noise is None else noise.data_ptr(),
        out.data_ptr(),
        0 if x0 is None else x0.data_ptr(),
        sample.numel(),
        _TYPES[sample.dtype],
        *coefficients[:6],
        clip,
        guidance,
        seed,
        offset,
        torch.get_num_threads(),
        0 if history is None else history.data_ptr(),
        coefficients.h,
        sample.shape[0] if sample.ndim else 1,
        rescale,
        *(threshold or (0.0, 1.0)),
    )


def _plainly(
    kernel: str,
    sample: Tensor,
    cond: Tensor,
    uncond: Tensor | None,
    noise: Tensor | None,
    history: Tensor | None,
    coefficients: Coefficients,
    guidance: float,
) -> tuple[Tensor, Tensor] | None:
    """Both results of tensors whose fitness the native module judges itself; None, soon, if they do not fit."""
    out, x0 = empty_like(sample), empty_like(sample)
    tensors = (sample, cond, uncond, noise, history, out, x0)
    return (out, x0) if getattr(cpu, kernel)(*tensors, *coefficients, guidance, torch.get_num_threads()) else None


class _AnySize:
    whole_samples = True

    @staticmethod
    def supports(sample: Tensor) -> str | None:
        return None


@implementation("diffusion", "cpu_avx512_bf16", device="cpu", requires=("avx512_bf16",), dtypes=("bfloat16",), priority=40)
class Avx512Bf16(_AnySize):
    """As the next, with one instruction for a conversion to bfloat16, which makes results below 1.2e-38 zero."""

    step = staticmethod(partial(_step, "diffusion_step_avx512_bf16"))
    plainly = staticmethod(partial(_plainly, "diffusion_plainly_avx512_bf16"))


@implementation(
    "diffusion", "cpu_avx512", device="cpu", requires=("avx512",), dtypes=("float32", "float16", "bfloat16"), priority=30
)
class Avx512(_AnySize):
    step = staticmethod(partial(_step, "diffusion_step_avx512"))
    plainly = staticmethod(partial(_plainly, "diffusion_plainly_avx512"))


@implementation("diffusion", "cpu_avx2", device="cpu", requires=("avx2",), dtypes=("float32", "float16", "bfloat16"), priority=20)
class Avx2(_AnySize):
    step = staticmethod(partial(_step, "diffusion_step_avx2"))
    plainly = staticmethod(partial(_plainly, "diffusion_plainly_avx2"))


@implementation(
    "diffusion", "cpu_portable", device="cpu", requires=("native",), dtypes=("float32", "float16", "bfloat16"), priority=10
)
class Portable(_AnySize):
    step = staticmethod(partial(_step, "diffusion_step_portable"))
    plainly = staticmethod(partial(_plainly, "diffusion_plainly_portable"))
