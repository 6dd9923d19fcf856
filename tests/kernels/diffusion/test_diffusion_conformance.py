"""Every implementation that can run here, against the definition in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from aieng_kernels._family import Implementation, declared
from aieng_kernels.diffusion import Coefficients, ddim_coefficients, ddpm_coefficients, diffusion_step
from aieng_kernels.diffusion.reference import philox_normal
from torch import Tensor

HERE = [i for i in declared("diffusion") if i.unsupported() is None and (i.device == "cpu" or torch.cuda.is_available())]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
STEPS = {
    "ddim epsilon": ddim_coefficients(0.3, 0.5, eta=0.6),
    "ddim v clipped": ddim_coefficients(0.3, 0.5, eta=1.0, prediction_type="v_prediction", clip=0.7),
    "ddim sample": ddim_coefficients(0.3, 0.5, prediction_type="sample", clip=1.0),
    "ddim re-derived": ddim_coefficients(0.6, 0.7, eta=0.2, clip=0.5, use_clipped_model_output=True),
    "ddpm": ddpm_coefficients(0.3, 0.5, clip=1.0),
    "ddpm last": ddpm_coefficients(0.98, 1.0, variance_type="fixed_large", last=True),
}
SEED, OFFSET, GUIDANCE = 2**40 + 3, 2**33 + 9, 3.5
"""Both beyond 32 bits, so that no half of a key or counter can be left out."""

implementations = pytest.mark.parametrize("implementation", HERE, ids=lambda i: f"{i.name}-{i.device}")
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def framework(x: Tensor, c: Tensor, k: Coefficients, u: Tensor | None, z: Tensor | None) -> tuple[Tensor, Tensor]:
    """The step as one writes it in torch, every operator rounding to the tensors' dtype."""
    e = c if u is None else u + GUIDANCE * (c - u)
    x0 = k.p * x + k.q * e
    if k.clip is not None:
        x0 = x0.clamp(-k.clip, k.clip)
    prev = k.r * x0 + k.s * x + k.t * e
    return prev if z is None else prev + k.sigma * z, x0


def terms(x: Tensor, c: Tensor, k: Coefficients, u: Tensor | None, z: Tensor | None) -> tuple[Tensor, Tensor]:
    """The sums of the magnitudes of the terms, in float64: where terms cancel, the rounding of these is what is left."""
    magnitudes = Coefficients(*map(abs, k[:6]))
    c = c.abs() if u is None else u.abs() + GUIDANCE * (c.abs() + u.abs())
    return framework(x.abs(), c, magnitudes, None, None if z is None else z.abs())


def distance(out: Tensor, exact: Tensor) -> float:
    return float((out.double() - exact).norm())


def check(implementation: Implementation, dtype: torch.dtype, count: int, k: Coefficients, guided: bool, noise: str) -> None:
    generator = torch.Generator().manual_seed(count)
    x, c, u, z = (torch.randn(count, generator=generator).to(implementation.device, dtype) for _ in range(4))
    given = {"given": z, "philox": None}[noise]
    uncond = u if guided else None
    before = [t.clone() for t in (x, c, u, z)]
    out = diffusion_step(
        x, c, k, uncond=uncond, guidance=GUIDANCE, noise=given, seed=SEED, offset=OFFSET, backend=implementation.name
    )
    for old, now in zip(before, (x, c, u, z), strict=True):
        assert torch.equal(old, now), "an input was changed"
    exact_z = z.double() if noise == "given" else philox_normal(count, SEED, OFFSET, torch.float64, x.device)
    framework_z = z if noise == "given" else philox_normal(count, SEED, OFFSET, torch.float32, x.device).to(dtype)
    exact = framework(x.double(), c.double(), k, u.double() if guided else None, exact_z if k.sigma else None)
    usual = framework(x, c, k, uncond, framework_z if k.sigma else None)
    sizes = terms(x.double(), c.double(), k, u.double() if guided else None, exact_z if k.sigma else None)
    for got, want, common, size in zip(out, exact, usual, sizes, strict=True):
        assert got is not None
        assert (got.shape, got.dtype, got.device) == (x.shape, x.dtype, x.device)
        floor = 2**-23 * size.norm() + torch.finfo(dtype).eps / 2 * want.norm()  # float32 terms, and one rounding of the result
        assert distance(got, want) <= 2 * distance(common, want) + floor


@implementations
@dtypes
@pytest.mark.parametrize("count", [0, 1, 3, 4, 63, 64, 65, 255, 1001])
def test_matches_the_definition(implementation: Implementation, dtype: torch.dtype, count: int) -> None:
    for k, guided, noise in itertools.product(STEPS.values(), (False, True), ("given", "philox")):
        check(implementation, dtype, count, k, guided, noise)


@implementations
@dtypes
def test_matches_the_definition_on_several_threads(implementation: Implementation, dtype: torch.dtype) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for noise in ("given", "philox"):
            check(implementation, dtype, 131_075, STEPS["ddim v clipped"], True, noise)
    finally:
        torch.set_num_threads(threads)


@implementations
@dtypes
def test_results_too_large_for_the_caches(implementation: Implementation, dtype: torch.dtype) -> None:
    check(implementation, dtype, 4_200_003, STEPS["ddpm"], False, "given")


@implementations
def test_nan_passes_through_the_clip_and_infinity_does_not(implementation: Implementation) -> None:
    k = Coefficients(1.0, 0.0, 1.0, 0.0, 0.0, 0.0, clip=2.0)
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 1.0] * 40, device=implementation.device)
    _, x0 = diffusion_step(x, torch.zeros_like(x), k, backend=implementation.name)
    assert x0 is not None
    assert torch.equal(x0.isnan(), x.isnan())
    assert x0[1:4].tolist() == [2.0, -2.0, 1.0]


@implementations
@dtypes
def test_results_round_to_nearest_even_and_overflow_to_infinity(implementation: Implementation, dtype: torch.dtype) -> None:
    """Sums in float32 of numbers of the dtype, halfway cases and both ends of the range included."""
    info = torch.finfo(dtype)
    one = [1.0, info.max, info.tiny, info.smallest_normal * info.eps * 3, info.max, 1 + info.eps, 0.0, -info.max] * 20
    other = [info.eps / 2, info.max, info.tiny / 2, info.tiny / 4, info.max * info.eps / 4, info.eps / 2, -0.0, -1.0] * 20
    x, e = (torch.tensor(v, dtype=torch.float64).to(implementation.device, dtype) for v in (one, other))
    prev, _ = diffusion_step(x, e, Coefficients(0.0, 0.0, 0.0, 1.0, 1.0, 0.0), backend=implementation.name)
    due = (x.float() + e.float()).to(dtype)
    if implementation.name == "cpu_avx512_bf16":  # whose conversion has no subnormal numbers
        due[due.abs() < info.smallest_normal] = 0
    assert torch.equal(prev, due)
    assert torch.isinf(prev[1]), "twice the largest number"


@implementations
@dtypes
@pytest.mark.parametrize("target", ["sample", "model_output", "noise"])
def test_a_result_may_take_the_place_of_an_input(implementation: Implementation, dtype: torch.dtype, target: str) -> None:
    tensors = {n: torch.randn(3, 171).to(implementation.device, dtype) for n in ("sample", "model_output", "noise")}
    k = STEPS["ddim epsilon"]
    want = diffusion_step(**tensors, coefficients=k, backend=implementation.name)
    x0 = torch.empty_like(tensors["sample"])
    diffusion_step(**tensors, coefficients=k, out=(tensors[target], x0), backend=implementation.name)
    assert torch.equal(tensors[target], want.prev_sample)
    assert want.pred_original_sample is not None
    assert torch.equal(x0, want.pred_original_sample)
