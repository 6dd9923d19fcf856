"""Diffusion steps in CUDA C++: one pass, 16 bytes of every tensor at a time, noise from in-kernel Philox (``cuda_step.cu``)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aieng_kernels._cuda_launch import launcher, place
from aieng_kernels._family import implementation
from aieng_kernels.diffusion.coefficients import Coefficients

TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""``aieng::diffusion::Type``."""


@implementation(
    "diffusion",
    "cuda_vectorised",
    device="cuda",
    requires=("cuda", "sm_80"),
    dtypes=("float32", "float16", "bfloat16"),
    priority=20,
)
class CudaVectorised:
    """Every size and alignment; on an H200 at 88 to 99 % of the copy (``results/notes/2026-11-26-h200.md``)."""

    @staticmethod
    def supports(sample: Tensor) -> str | None:
        return None

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
        addresses = [0 if x is None else x.data_ptr() for x in (sample, cond, uncond, noise, out, x0, history)]
        *scalars, clip, h = coefficients
        scalars += [math.inf if clip is None else clip, guidance, h]
        launcher("diffusion_step")(addresses, sample.numel(), TYPES[sample.dtype], scalars, seed, offset, *place(sample))
