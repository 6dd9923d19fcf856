"""What the benchmarks of sampling steps share: shapes, inputs, the definition in float64, and the same in plain torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aieng_bench.define import Case, Value, Work, grid

STEPS, AT = 50, 25
"""A run of 50 timesteps, timed at its 26th."""
ITEMSIZE = {"float32": 4, "float16": 2, "bfloat16": 2}
OUTPUTS = ("prev_sample", "pred_original_sample")

LATENTS, BATCH, LARGE, IMAGES = "1x4x128x128", "8x4x128x128", "16x4x256x256", "64x3x256x256"


def shape_of(case: Case) -> tuple[int, ...]:
    return tuple(map(int, str(case.shape).split("x")))


def points(**axes: Value | Sequence[Value]) -> list[dict[str, Value]]:
    """Small shapes as they are; large ones under both malloc settings, of which the default pays for fresh pages at every call."""
    dtypes = ["float32", "bfloat16", "float16"]
    small = grid(shape=[LATENTS, BATCH], dtype=dtypes, **axes)
    return small + grid(shape=[LARGE, IMAGES], dtype=dtypes, **axes, malloc=["tuned", "default"])


def points_on_cuda(**axes: Value | Sequence[Value]) -> list[dict[str, Value]]:
    return grid(shape=[LATENTS, BATCH, LARGE, IMAGES], dtype=["float32", "bfloat16", "float16"], **axes)


def tensors(case: Case, generator: Any, names: Sequence[str]) -> dict[str, Any]:
    import torch

    dtype = getattr(torch, str(case.dtype))
    return {name: torch.randn(shape_of(case), generator=generator).to(dtype) for name in names}


def work_of(case: Case, read: int, flops: int) -> Work:
    """``read`` tensors read and two written once, ``flops`` operations for each element."""
    count = math.prod(shape_of(case))
    return Work(flops=flops * count, bytes=(read + 2) * count * ITEMSIZE[str(case.dtype)])


def definition(coefficients: Any, guidance: float, inputs: Mapping[str, Any], noise: Any) -> dict[str, Any]:
    """The step in float64, from inputs that are quantised already."""
    x, c = inputs["sample"].double(), inputs["model_output"].double()
    if "uncond" in inputs:
        u = inputs["uncond"].double()
        c = u + guidance * (c - u)
    x0 = coefficients.p * x + coefficients.q * c
    if coefficients.clip is not None:
        x0 = x0.clamp(-coefficients.clip, coefficients.clip)
    prev = coefficients.r * x0 + coefficients.s * x + coefficients.t * c
    if noise is not None:
        prev = prev + coefficients.sigma * noise.double()
    return dict(zip(OUTPUTS, (prev, x0), strict=True))


def plain(k: Any, guidance: float, sample: Any, model_output: Any, uncond: Any = None, noise: Any = None) -> tuple[Any, Any]:
    """Plain torch at its best: the host's scalars folded as ours are, and as few passes over memory as its operators allow."""
    import torch

    e = model_output if uncond is None else torch.lerp(uncond, model_output, guidance)
    x0 = e.clone() if k.p == 0 else torch.add(sample * k.p, e, alpha=k.q)
    if k.clip is not None:
        x0.clamp_(-k.clip, k.clip)
    prev = x0 * k.r
    for scalar, tensor in ((k.t, e), (k.s, sample), (k.sigma, noise)):
        if scalar != 0 and tensor is not None:
            prev.add_(tensor, alpha=scalar)
    return prev, x0
