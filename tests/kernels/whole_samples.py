"""What rescaled guidance and dynamic thresholding ask of an implementation, whichever way its kernels are run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from aieng_kernels.diffusion import Coefficients
from aieng_kernels.diffusion.reference import Reference
from torch import Tensor

SEED, OFFSET = 0xDEADBEEFCAFE, 0x5_8000_0001
COEFFICIENTS = Coefficients(1.1, -0.4, 0.7, 0.2, 0.1, 0.6, None, -0.9)


def check_values(
    implementation: Any,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    rescale: float,
    threshold: tuple[float, float] | None,
    noise: str,
    *,
    with_history: bool = True,
    device: str = "cpu",
    new: Callable[[Tensor], Tensor] = torch.empty_like,
) -> None:
    """As close to the definition in float64 as it comes in float32, twice over, and one rounding; ``new`` makes a result."""
    generator = torch.Generator().manual_seed(sum(shape))
    given = torch.randn((5, *shape), generator=generator).to(dtype).to(device)
    k = COEFFICIENTS._replace(sigma=0.0) if noise == "none" else COEFFICIENTS
    how: dict[str, Any] = {"coefficients": k, "guidance": 3.5, "seed": SEED, "offset": OFFSET}
    how |= {"rescale": rescale, "threshold": threshold}

    def step(by: Any, x: Tensor, c: Tensor, u: Tensor, z: Tensor, y: Tensor, out: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        history = {"history": y} if with_history else {}
        by.step(x, c, u, z if noise == "given" else None, out, x0, **how, **history)
        return out, x0

    got = step(implementation, *given, new(given[0]), new(given[0]))
    plain = step(Reference, *given.float(), *torch.empty_like(given[:2], dtype=torch.float32))
    exact = step(Reference, *given.double(), *torch.empty_like(given[:2], dtype=torch.float64))
    for ours, theirs, truth in zip(got, plain, exact, strict=True):
        allowed = 2 * (theirs.double() - truth).abs().max() + (torch.finfo(dtype).eps + 2e-6) * truth.abs().max()
        error = (ours.double() - truth).abs().max()
        assert error <= allowed, f"error {error:.2e}, allowed {allowed:.2e}"


def check_quantiles(implementation: Any, device: str = "cpu") -> None:
    """Every rank and between, of magnitudes that tie and differ in the last bit; NaN and infinities spoil their sample alone."""
    x = torch.tensor([[2.0, -2.0, 2.0, 3.0, -3.0, 3.0 + 2**-22, 0.0, -7.0, 1e-40, 5.0, 5.0]], device=device)
    only_x = Coefficients(1.0, 0.0, 1.0, 0.0, 0.0, 0.0)

    def bounded(x: Tensor, ratio: float, most: float) -> Tensor:
        x0 = torch.full_like(x, math.nan)
        how: dict[str, Any] = {"guidance": 1.0, "seed": 0, "offset": 0, "threshold": (ratio, most)}
        implementation.step(x, torch.zeros_like(x), None, None, torch.empty_like(x), x0, coefficients=only_x, **how)
        return x0

    for ratio in torch.linspace(0.05, 1, 41).tolist():
        s = torch.quantile(x.double().abs(), ratio, dim=1).clamp(min=1)
        torch.testing.assert_close(bounded(x, ratio, 1e30).double(), x.double().clamp(-s, s) / s, atol=1e-7, rtol=1e-6)
    for bad in (math.nan, math.inf, -math.inf):
        x = torch.randn((3, 50), generator=torch.Generator().manual_seed(1)).to(device)
        x[1, 7] = bad
        got = bounded(x, 0.9, 4.0)
        assert not got[[0, 2]].isnan().any()
        assert got[1].isnan().all() if bad != bad else got[1, 7] == math.copysign(1.0, bad)
