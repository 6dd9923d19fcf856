"""The CUDA diffusion step through the shim, against the definition in float64 with the same noise."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from aieng_kernels.diffusion.coefficients import Coefficients
from aieng_kernels.diffusion.cuda import CudaVectorised
from aieng_kernels.diffusion.reference import Reference, philox_normal
from torch import Tensor
from whole_samples import check_quantiles, check_values

pytestmark = pytest.mark.usefixtures("on_cpu")

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
COUNTS = [0, 1, 3, 8, 1023, 4099]
NOISES = ["none", "given", "philox"]
SEED, OFFSET = 2**62 + 12345, 2**33 + 7


def made(count: int, dtype: torch.dtype, first: int = 0) -> list[Tensor]:
    """sample, cond, uncond, noise, history, from the element ``first`` of their memory on."""
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(count + first, generator=generator).to(dtype)[first:] for _ in range(5)]


def check(
    dtype: torch.dtype,
    count: int,
    noise: str,
    guided: bool,
    clip: float | None,
    first: int = 0,
    in_place: bool = False,
    with_history: bool = False,
) -> None:
    sample, cond, uncond, given, history = made(count, dtype, first)
    coefficients = Coefficients(1.6, -1.2, 0.8, 0.3, -0.4, 0.0 if noise == "none" else 0.5, clip, 0.7)
    how: dict[str, Any] = {"coefficients": coefficients, "guidance": 7.5 if guided else 1.0, "seed": SEED, "offset": OFFSET}
    optional: tuple[Any, Any] = (uncond if guided else None, given if noise == "given" else None)
    exact, exact_x0 = torch.empty(count, dtype=torch.float64), torch.empty(count, dtype=torch.float64)
    wide: Any = [None if x is None else x.double() for x in optional]
    if with_history:
        how["history"] = history.double()
    Reference.step(sample.double(), cond.double(), wide[0], wide[1], exact, exact_x0, **how)
    if with_history:
        how["history"] = history
    x0 = torch.full_like(sample, torch.nan)
    alone = torch.full_like(sample, torch.nan)
    CudaVectorised.step(sample, cond, *optional, alone, None, **how)
    out = sample if in_place else torch.full_like(sample, torch.nan)
    CudaVectorised.step(sample, cond, *optional, out, x0, **how)
    assert torch.equal(out, alone)
    # Values stay under 100, and a step is some ten float32 operations; then one rounding to the dtype.
    atol, rtol = 100 * 10 * 2.0**-24, torch.finfo(dtype).eps / 2
    torch.testing.assert_close(out.double(), exact, atol=atol, rtol=rtol)
    torch.testing.assert_close(x0.double(), exact_x0, atol=atol, rtol=rtol)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_step(dtype: torch.dtype, count: int, noise: str) -> None:
    for guided, clip in itertools.product((False, True), (None, 1.0)):
        check(dtype, count, noise, guided, clip)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_alignment_and_in_place(dtype: torch.dtype) -> None:
    for first in (1, 2, 3):
        check(dtype, 1030, "philox", True, None, first)
    check(dtype, 1030, "philox", True, None, in_place=True)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_history(dtype: torch.dtype, noise: str) -> None:
    for count, guided, clip in itertools.product((3, 1024, 4099), (False, True), (None, 1.0)):
        check(dtype, count, noise, guided, clip, with_history=True)
    check(dtype, 1030, noise, True, 1.0, 1, with_history=True)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 3), (3, 5), (2, 3, 7, 11), (3, 1100)], ids=str)
def test_whole_samples(shape: tuple[int, ...], dtype: torch.dtype, noise: str) -> None:
    thresholds = (None, (0.5, 1.5), (0.995, 100.0), (1.0, 100.0))
    for rescale, threshold, with_history in itertools.product((0.0, 0.7), thresholds, (False, True)):
        if rescale or threshold:
            check_values(CudaVectorised, shape, dtype, rescale, threshold, noise, with_history=with_history)


def test_quantiles_of_ties_neighbours_and_what_is_not_finite() -> None:
    check_quantiles(CudaVectorised)


def test_noise() -> None:
    """Within 4e-6 of the definition, which is what its special functions' documented errors add up to; here they are that wrong."""
    out, zero = torch.empty(20_003), torch.zeros(20_003)
    only_noise = Coefficients(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    CudaVectorised.step(zero, zero, None, None, out, None, coefficients=only_noise, guidance=1.0, seed=SEED, offset=OFFSET)
    torch.testing.assert_close(out.double(), philox_normal(20_003, SEED, OFFSET, torch.float64), atol=4e-6, rtol=0)


def test_nan_passes_through_the_clip() -> None:
    sample, cond, *_ = made(9, torch.float32)
    sample[4] = torch.nan
    out, x0 = torch.empty_like(sample), torch.empty_like(sample)
    coefficients = Coefficients(1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    CudaVectorised.step(sample, cond, None, None, out, x0, coefficients=coefficients, guidance=1.0, seed=0, offset=0)
    assert out.isnan().tolist() == x0.isnan().tolist() == [i == 4 for i in range(9)]
