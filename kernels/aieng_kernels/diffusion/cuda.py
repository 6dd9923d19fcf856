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
    """Every size and alignment; on an H200 at 88 to 99 % of the copy (``results/notes/2026-11-26-h200.md``).

    What looks at whole samples first, ``rescale`` and ``threshold``, has not yet run on a chip.
    """

    whole_samples = True

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
        rescale: float = 0.0,
        threshold: tuple[float, float] | None = None,
    ) -> None:
        count, kind = sample.numel(), TYPES[sample.dtype]
        *scalars, clip, h = coefficients
        scalars += [math.inf if clip is None else clip, guidance, h]
        asked = (rescale != 0 and uncond is not None, threshold is not None)
        samples = sample.shape[0] if count and any(asked) else 1
        scales = [sample.new_empty(samples, dtype=torch.float32) if count and one else None for one in asked]
        where = (_addresses(*scales), count // samples, kind)
        if any(x is not None for x in scales):
            quantile = threshold or (0.0, 1.0)
            given = (_addresses(sample, cond, uncond), samples, *where, [*scalars[:2], guidance], rescale, *quantile)
            launcher("diffusion_scales")(*given, *place(sample))
        tensors = _addresses(sample, cond, uncond, noise, out, x0, history)
        launcher("diffusion_step")(tensors, count, *where, scalars, seed, offset, *place(sample))


def _addresses(*tensors: Tensor | None) -> list[int]:
    return [0 if x is None else x.data_ptr() for x in tensors]
