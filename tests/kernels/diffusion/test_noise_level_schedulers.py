"""Euler, ancestral Euler and DPM-Solver++ against those of diffusers: whole runs over products of configurations."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from aieng_kernels.diffusion import schedulers as ours
from torch import Tensor

diffusers = pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers, of numpy 2

SHAPE = (2, 3, 8, 8)
SCHEDULES, SPACINGS = ("linear", "scaled_linear", "squaredcos_cap_v2"), ("leading", "trailing", "linspace")
NAMES = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler")

schedules = pytest.mark.parametrize("schedule", SCHEDULES)
spacings = pytest.mark.parametrize("spacing", SPACINGS)
names = pytest.mark.parametrize("name", NAMES)


def model(x: Tensor, t: Tensor) -> Tensor:
    """Bounded, and different at every timestep; a run's errors do not grow through it."""
    return torch.tanh(0.9 * x + 0.3 * float(t) / 1000)


def run(
    scheduler: Any, steps: int = 6, dtype: torch.dtype = torch.float32, begin: int = 0, **step: Any
) -> tuple[list[tuple[Tensor, float]], Any]:
    """Every result of a run beside the largest number of its step, and the generator's state at the end."""
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).to(dtype) * float(scheduler.init_noise_sigma)
    x, seen = x.to(dtype), []
    for t in scheduler.timesteps[begin:]:
        output = model(scheduler.scale_model_input(x, t), t)
        out = scheduler.step(output, t, x, generator=generator, return_dict=False, **step)
        seen += [(y, max(float(x.abs().max()), float(y.abs().max()))) for y in out]
        x = out[0]
    return seen, generator.get_state()


def compare(name: str, tolerance: float = 2e-5, loop: dict[str, Any] | None = None, **config: Any) -> None:
    """The same timesteps and levels, equal draws, results equal to rounding."""
    theirs, mine = getattr(diffusers, name)(**config), getattr(ours, name)(**config)
    assert torch.equal(theirs.timesteps, mine.timesteps)
    assert torch.equal(theirs.sigmas, mine.sigmas)
    assert float(theirs.init_noise_sigma) == float(mine.init_noise_sigma)
    want, their_state = run(theirs, **(loop or {}))
    got, my_state = run(mine, **(loop or {}))
    assert torch.equal(theirs.timesteps, mine.timesteps)
    assert theirs.timesteps.dtype == mine.timesteps.dtype
    assert torch.equal(theirs.sigmas, mine.sigmas)
    if mine.config.get("algorithm_type") != "dpmsolver++":
        assert torch.equal(my_state, their_state), "another number of draws"
    most = 0.0
    for (a, _), (b, largest) in zip(got, want, strict=True):
        assert torch.isfinite(b).all()
        # At the highest levels diffusers takes x0 from x, and x - x0 from x again: what it loses is of the size of x, and stays.
        most = max(most, largest)
        assert float((a - b).abs().max()) <= tolerance * largest + 2.0**-22 * most


@schedules
@spacings
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_euler(schedule: str, spacing: str, prediction: str, zero_snr: bool) -> None:
    if prediction == "sample" and zero_snr:
        pytest.skip("diffusers loses x0 beside x = 4096 times as large")
    for sigmas, final in itertools.product(("", "use_karras_sigmas", "use_beta_sigmas"), ("zero", "sigma_min")):
        config: dict[str, Any] = {sigmas: True} if sigmas else {}
        tolerance = 1e-4 if zero_snr else 2e-5
        compare(
            "EulerDiscreteScheduler", beta_schedule=schedule, timestep_spacing=spacing, prediction_type=prediction,
            rescale_betas_zero_snr=zero_snr, final_sigmas_type=final, steps_offset=1, tolerance=tolerance, **config,
        )  # fmt: skip


def test_euler_otherwise() -> None:
    compare("EulerDiscreteScheduler", prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True)
    compare("EulerDiscreteScheduler", use_karras_sigmas=True, sigma_min=0.05, sigma_max=9.0)
    compare("EulerDiscreteScheduler", use_beta_sigmas=True, sigma_min=0.05, sigma_max=9.0)
    compare("EulerDiscreteScheduler", use_exponential_sigmas=True)
    compare("EulerDiscreteScheduler", loop={"s_churn": 3.0, "s_tmin": 0.1, "s_tmax": 10.0, "s_noise": 1.01})
    compare("EulerDiscreteScheduler", trained_betas=[0.001 * i for i in range(1, 20)], num_train_timesteps=19)


def test_euler_takes_its_own_timesteps_or_levels() -> None:
    theirs, mine = diffusers.EulerDiscreteScheduler(), ours.EulerDiscreteScheduler()
    for given in ({"timesteps": [900, 500, 100]}, {"sigmas": [14.0, 3.0, 0.5, 0.0]}):
        theirs.set_timesteps(**given)
        mine.set_timesteps(**given)
        assert torch.equal(theirs.timesteps, mine.timesteps)
        assert torch.equal(theirs.sigmas, mine.sigmas)
        assert theirs.num_inference_steps == mine.num_inference_steps


@schedules
@spacings
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_euler_ancestral(schedule: str, spacing: str, prediction: str, zero_snr: bool) -> None:
    compare(
        "EulerAncestralDiscreteScheduler", beta_schedule=schedule, timestep_spacing=spacing, prediction_type=prediction,
        rescale_betas_zero_snr=zero_snr, steps_offset=1, tolerance=1e-4 if zero_snr else 2e-5,
    )  # fmt: skip


@schedules
@spacings
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
def test_dpm(schedule: str, spacing: str, prediction: str, algorithm: str) -> None:
    for order, solver, final, lower in itertools.product((1, 2, 3), ("midpoint", "heun"), ("zero", "sigma_min"), (True, False)):
        if order == 3 and solver == "heun":
            continue  # the same there
        compare(
            "DPMSolverMultistepScheduler", beta_schedule=schedule, timestep_spacing=spacing, prediction_type=prediction,
            algorithm_type=algorithm, solver_order=order, solver_type=solver, final_sigmas_type=final, lower_order_final=lower,
            steps_offset=1, tolerance=1e-4,
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")  # diffusers', of these two
@schedules
@spacings
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("algorithm", ["dpmsolver", "sde-dpmsolver"])
def test_dpm_of_noise(schedule: str, spacing: str, prediction: str, algorithm: str) -> None:
    orders = (1, 2, 3) if algorithm == "dpmsolver" else (1, 2)
    for order, solver, lower, thresholding in itertools.product(orders, ("midpoint", "heun"), (True, False), (True, False)):
        # From a level of 20,000 one of 4 is reached by a difference of numbers thousands of times as large.
        far = schedule == "squaredcos_cap_v2" and spacing != "leading"
        compare(
            "DPMSolverMultistepScheduler", beta_schedule=schedule, timestep_spacing=spacing, prediction_type=prediction,
            algorithm_type=algorithm, solver_order=order, solver_type=solver, final_sigmas_type="sigma_min",
            lower_order_final=lower, thresholding=thresholding, sample_max_value=2.0, steps_offset=1,
            tolerance=2e-3 if far else 1e-4,
        )  # fmt: skip


@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("prediction", ["flow_prediction", "epsilon", "v_prediction"])
def test_dpm_of_flows(algorithm: str, order: int, prediction: str) -> None:
    for shift, final, steps in itertools.product((1.0, 3.0), ("zero", "sigma_min"), (3, 17)):
        compare(
            "DPMSolverMultistepScheduler", use_flow_sigmas=True, flow_shift=shift, prediction_type=prediction,
            algorithm_type=algorithm, solver_order=order, final_sigmas_type=final, loop={"steps": steps}, tolerance=1e-4,
        )  # fmt: skip


def test_a_run_shifts_its_levels() -> None:
    pair = [lib.DPMSolverMultistepScheduler(use_flow_sigmas=True, use_dynamic_shifting=True) for lib in (diffusers, ours)]
    x, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    for mu in (1.15, None, 0.5):
        for scheduler in pair:
            scheduler.set_timesteps(8, mu=mu)
        assert torch.equal(pair[0].sigmas, pair[1].sigmas)
        at = pair[0].timesteps[3:5]
        torch.testing.assert_close(*(scheduler.add_noise(x, noise, at) for scheduler in pair))


@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
@pytest.mark.parametrize(
    "config",
    [
        {"use_beta_sigmas": True},
        {"solver_order": 3, "use_karras_sigmas": True},
        {"solver_order": 3, "thresholding": True, "sample_max_value": 2.0},
        {"prediction_type": "flow_prediction"},
        {"use_karras_sigmas": True},
        {"use_exponential_sigmas": True},
        {"use_lu_lambdas": True},
        {"thresholding": True, "sample_max_value": 2.0},
        {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
        {"lambda_min_clipped": -5.1, "beta_schedule": "squaredcos_cap_v2"},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
        {"solver_type": "bh2"},
    ],
    ids=str,
)
def test_dpm_otherwise(config: dict[str, Any], algorithm: str) -> None:
    for steps in (1, 2, 6, 17):
        compare("DPMSolverMultistepScheduler", algorithm_type=algorithm, loop={"steps": steps}, tolerance=1e-4, **config)


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler"])
def test_thresholding_of_ddim_and_ddpm_takes_the_fused_step(name: str) -> None:
    scheduler = getattr(ours, name)(thresholding=True, sample_max_value=3.0)
    scheduler.set_timesteps(5)
    x = torch.randn(SHAPE)
    generator = torch.Generator().manual_seed(1)
    t = scheduler.timesteps[1]
    got = scheduler.step(model(x, t), t, x, generator=generator, backend="cpu_portable").prev_sample
    want = scheduler.step(model(x, t), t, x, generator=generator.manual_seed(1), backend="reference").prev_sample
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@names
def test_guided_steps_are_steps_on_guided_outputs(name: str) -> None:
    results = []
    for guided in (True, False):
        scheduler = getattr(ours, name)()
        scheduler.set_timesteps(4)
        x, generator = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)), torch.Generator().manual_seed(3)
        for t in scheduler.timesteps:
            c, u = model(x, t), model(-x, t)
            if guided:
                x = scheduler.guided_step(c, u, 3.0, t, x, generator=generator).prev_sample
            else:
                x = scheduler.step(u + 3.0 * (c - u), t, x, generator=generator).prev_sample
        results.append(x)
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-5)


@names
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    want, _ = run(getattr(diffusers, name)(), dtype=dtype)
    got, _ = run(getattr(ours, name)(), dtype=dtype)
    assert got[-1][0].shape == want[-1][0].shape
    (first, _), (wanted, largest) = got[0], want[0]
    assert first.dtype == wanted.dtype
    assert float((first - wanted).abs().max()) <= 4 * torch.finfo(dtype).eps * largest


@names
def test_forward_noise_and_a_run_from_its_middle(name: str) -> None:
    theirs, mine = (getattr(library, name)() for library in (diffusers, ours))
    x, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    for scheduler in (theirs, mine):
        scheduler.set_timesteps(8)
    for begin in (None, 3):
        for scheduler in (theirs, mine):
            if begin is not None:
                scheduler.set_begin_index(begin)
        at = theirs.timesteps[3:5]
        torch.testing.assert_close(mine.add_noise(x, noise, at), theirs.add_noise(x, noise, at))
        assert mine.begin_index == theirs.begin_index
    t = theirs.timesteps[3]
    results = []
    for scheduler in (theirs, mine):
        scaled = scheduler.scale_model_input(x, t)
        results.append(scheduler.step(model(scaled, t), t, x, generator=torch.Generator().manual_seed(1)).prev_sample)
        assert scheduler.step_index == 4
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)


def test_velocity() -> None:
    theirs, mine = diffusers.EulerDiscreteScheduler(), ours.EulerDiscreteScheduler()
    x, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    for scheduler in (theirs, mine):
        scheduler.set_timesteps(8)
    at = theirs.timesteps[2:4]
    torch.testing.assert_close(mine.get_velocity(x, noise, at), theirs.get_velocity(x, noise, at))


@names
def test_configurations_go_both_ways(name: str, tmp_path: Path) -> None:
    theirs, mine = getattr(diffusers, name), getattr(ours, name)
    config = {
        "beta_schedule": "scaled_linear",
        "beta_end": 0.012,
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
    }
    mine(**config).save_pretrained(tmp_path / "mine")
    theirs(**config).save_pretrained(tmp_path / "theirs")
    a = theirs.from_pretrained(tmp_path / "mine").config
    b = mine.from_pretrained(tmp_path / "theirs").config
    assert {k: v for k, v in a.items() if not k.startswith("_")} == {k: v for k, v in b.items() if not k.startswith("_")}
    assert {**json.loads((tmp_path / "mine/scheduler_config.json").read_text())}["_class_name"] == name


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("EulerAncestralDiscreteScheduler", {"prediction_type": "sample"}),
        ("DPMSolverMultistepScheduler", {"solver_order": 4}),
        ("DPMSolverMultistepScheduler", {"solver_order": 3, "algorithm_type": "sde-dpmsolver"}),
        ("DPMSolverMultistepScheduler", {"time_shift_type": "linear"}),
    ],
    ids=str,
)
def test_what_is_not_supported_is_named(name: str, config: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match=next(iter(config))):
        getattr(ours, name)(**config)


def test_wrong_arguments_are_named() -> None:
    euler, dpm = ours.EulerDiscreteScheduler(), ours.DPMSolverMultistepScheduler()
    x = torch.randn(SHAPE)
    for message, call in (
        ("num_inference_steps", lambda: dpm.step(x, 1, x)),
        ("give one of", lambda: euler.set_timesteps(3, sigmas=[1.0])),
        ("give one of", lambda: dpm.set_timesteps()),
        ("mu must not", lambda: dpm.set_timesteps(3, mu=1.0)),
        ("with use_flow_sigmas", lambda: ours.DPMSolverMultistepScheduler(use_flow_sigmas=True).set_timesteps(timesteps=[3])),
        ("final_sigmas_type", lambda: ours.DPMSolverMultistepScheduler(algorithm_type="dpmsolver")),
        ("prediction_type", lambda: ours.DPMSolverMultistepScheduler(prediction_type="noise")),
        ("timestep must be", lambda: euler.step(x, 3, x)),
        ("timestep=", lambda: euler.step(x, 0.5, x)),
        ("only one of", lambda: ours.EulerDiscreteScheduler(use_karras_sigmas=True, use_exponential_sigmas=True)),
    ):
        with pytest.raises(ValueError, match=message):
            call()
