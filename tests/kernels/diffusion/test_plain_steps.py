"""Plain steps on the CPU, which go to the native module with their tensors: the very values of the general way, or that way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from aieng_kernels._family import Implementation, candidates, declared
from aieng_kernels.diffusion import ops
from aieng_kernels.diffusion.coefficients import Coefficients
from aieng_kernels.diffusion.schedulers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from aieng_kernels.diffusion.step import diffusion_step
from torch import Tensor

K = Coefficients(1.2, -0.7, 0.8, 0.3, 0.2, 0.5, None, 0.4)
NATIVE = [i for i in declared("diffusion") if i.device == "cpu" and i.name != "reference" and i.unsupported() is None]
pytestmark = pytest.mark.skipif(
    candidates("diffusion", "cpu", "float32")[0].name == "reference", reason="the native module is not built"
)


def tensors(*shape: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """sample, cond, uncond, noise, history"""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for _ in range(5)]


def plainly(given: list[Tensor | None], k: Coefficients = K, guidance: float = 2.5, backend: str | None = None) -> Any:
    return ops.plainly(*given, k, guidance, backend)


@pytest.mark.parametrize("implementation", NATIVE, ids=lambda i: i.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("left_out", [(), (2,), (4,), (2, 3, 4)], ids=["all", "unguided", "without history", "alone"])
@pytest.mark.parametrize("clip", [None, 0.9])
def test_the_values_are_the_general_ways(
    implementation: Implementation, dtype: torch.dtype, left_out: tuple[int, ...], clip: float | None
) -> None:
    backend = implementation.name
    given: list[Any] = [None if i in left_out else x for i, x in enumerate(tensors(2, 3, 37, 5, dtype=dtype))]
    k = K._replace(clip=clip, sigma=0.0 if 3 in left_out else K.sigma)
    sample, cond, uncond, noise, history = given
    due = diffusion_step(sample, cond, k, uncond=uncond, guidance=2.5, noise=noise, history=history, backend=backend)
    got = plainly(given, k, backend=backend)
    assert all(torch.equal(x, y) for x, y in zip(got, due, strict=True))
    assert all(x.is_contiguous() for x in got)


def test_large_and_sliced_ones_too() -> None:
    given: list[Any] = [x[1:] for x in tensors(3, 3, 700, 800)]
    due = diffusion_step(*given[:2], K, uncond=given[2], guidance=2.5, noise=given[3], history=given[4])
    assert all(torch.equal(x, y) for x, y in zip(plainly(given), due, strict=True))


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("change", ["strided", "shape", "dimensions", "dtype", "float64", "device", "empty"])
def test_what_does_not_fit_goes_the_general_way(place: int, change: str) -> None:
    given: list[Any] = list(tensors(2, 3, 8, 8))
    given[place] = {
        "strided": lambda x: x.transpose(2, 3),
        "shape": lambda x: x[:1],
        "dimensions": lambda x: x[None],
        "dtype": lambda x: x.half(),
        "float64": lambda x: x.double(),
        "device": lambda x: x.to("meta"),
        "empty": lambda x: x[:0],
    }[change](given[place])
    assert plainly(given) is None


def test_noise_to_be_made_gradients_and_numbers_that_are_no_floats_go_the_general_way() -> None:
    given: list[Any] = list(tensors(2, 3, 8, 8))
    assert plainly([*given[:3], None, given[4]]) is None
    assert plainly(given, guidance=2) is None
    assert plainly([given[0].requires_grad_(), *given[1:]]) is None
    with torch.no_grad():
        assert plainly(given) is not None


@pytest.mark.parametrize("made", [DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler])
def test_a_scheduler_made_in_inference_mode_works_there_and_outside(made: Any) -> None:
    """torch counts no writes to tensors of that mode."""
    with torch.inference_mode():
        scheduler = made()
        scheduler.set_timesteps(10)
        inside = scheduler.step(*(x := torch.ones(1, 2, 4, 4), scheduler.timesteps[0], x)).prev_sample
    other = made()
    other.set_timesteps(10)
    x = torch.ones(1, 2, 4, 4)
    assert torch.equal(inside, other.step(x, other.timesteps[0], x).prev_sample)


@pytest.mark.parametrize("made", [DPMSolverMultistepScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("written", [False, True], ids=["replaced", "written to"])
def test_levels_changed_by_hand_are_seen(made: Any, written: bool) -> None:
    results = []
    for change in (False, True):
        scheduler = made()
        scheduler.set_timesteps(10)
        x = torch.full((1, 2, 4, 4), 0.5)
        scheduler.step(x, scheduler.timesteps[0], x)
        if change and written:
            scheduler.sigmas.mul_(0.5)
        elif change:
            scheduler.sigmas = scheduler.sigmas * 0.5
        results.append(scheduler.step(x, scheduler.timesteps[1], x).prev_sample)
    assert not torch.equal(*results)
