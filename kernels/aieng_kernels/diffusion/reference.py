"""The definition of a diffusion step and of its noise, in plain torch, any dtype: float64 for float64, else float32 arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

from aieng_kernels._family import implementation
from aieng_kernels._philox import MASK, halves, philox4x32_10
from aieng_kernels.diffusion.coefficients import Coefficients


def philox_normal(count: int, seed: int, offset: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """``count`` standard normals of the stream (seed, offset), [count]; see the family's text for their definition."""
    block = torch.arange((count + 3) // 4, dtype=torch.int64, device=device)
    low, high = (torch.full_like(block, half) for half in halves(offset))
    words = philox4x32_10((block & MASK, block >> 32, low, high), halves(seed))
    u0, u1, u2, u3 = ((w.to(torch.float32) * 2.0**-32 + 2.0**-33).to(dtype) for w in words)
    radius, angle = (-2 * torch.stack((u0, u2)).log()).sqrt(), 2 * torch.pi * torch.stack((u1, u3))
    pairs = torch.stack((radius * angle.cos(), radius * angle.sin()))  # [cos or sin, pair, block]
    return pairs.permute(2, 1, 0).reshape(-1)[:count]


def _per_sample(numbers: Tensor, like: Tensor) -> Tensor:
    """[B] as [B, 1, …, 1]."""
    return numbers.view(-1, *[1] * (like.ndim - 1))


@implementation("diffusion", "reference", device="cpu", priority=-100)
@implementation("diffusion", "reference", device="cuda", priority=-100)
class Reference:
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
        work = torch.float64 if sample.dtype is torch.float64 else torch.float32
        p, q, r, s, t, sigma, clip, h = coefficients
        x, e = sample.to(work), cond.to(work)
        if uncond is not None:
            u = uncond.to(work)
            c, e = e, u + guidance * (e - u)  # arXiv:2207.12598, equation 6, with guidance = 1 + w
            if rescale:
                e = e * _per_sample(rescale * c.flatten(1).std(1) / e.flatten(1).std(1) + (1 - rescale), e)
        original = p * x + q * e
        if clip is not None:
            original = original.clamp(-clip, clip)
        if threshold is not None:
            ratio, most = threshold
            bound = _per_sample(torch.quantile(original.flatten(1).abs(), ratio, dim=1).clamp(1, most), original)
            original = original.clamp(-bound, bound) / bound
        previous = r * original + s * x + t * e
        if history is not None:
            previous = previous + h * history.to(work)
        if sigma != 0:
            z = philox_normal(x.numel(), seed, offset, work, x.device).view_as(x) if noise is None else noise.to(work)
            previous = previous + sigma * z
        out.copy_(previous)
        if x0 is not None:
            x0.copy_(original)
