"""Our schedulers against those of diffusers: whole sampling loops over the product of configurations, with equal generators."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from aieng_kernels.diffusion import schedulers as ours
from torch import Tensor

diffusers = pytest.importorskip("diffusers")

SHAPE, STEPS = (2, 3, 8, 8), 6
SCHEDULES, SPACINGS = ("linear", "scaled_linear", "squaredcos_cap_v2"), ("leading", "trailing", "linspace")
PREDICTIONS = ("epsilon", "sample", "v_prediction")

schedules = pytest.mark.parametrize("schedule", SCHEDULES)
spacings = pytest.mark.parametrize("spacing", SPACINGS)
predictions = pytest.mark.parametrize("prediction", PREDICTIONS)


def model(x: Tensor, t: Tensor) -> Tensor:
    """Bounded, and different at every timestep; a loop's errors do not grow through it."""
    return torch.tanh(0.9 * x + 0.3 * float(t) / 1000)


def loop(scheduler: Any, channels: int = 1, dtype: torch.dtype = torch.float32, **step: Any) -> tuple[list[Tensor], Tensor]:
    """Every prev_sample and pred_original_sample of a run, and the generator's state after it."""
    scheduler.set_timesteps(STEPS)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).to(dtype)
    seen = []
    for t in scheduler.timesteps:
        output = torch.cat([model(x, t)] * channels, dim=1)
        out = scheduler.step(output, t, x, generator=generator, **step)
        x = out.prev_sample
        seen += [x, out.pred_original_sample]
    return seen, generator.get_state()


def compare(name: str, config: dict[str, Any], undefined: bool = False, tolerance: float = 2e-5, **step: Any) -> None:
    """Equal draws, results equal to rounding; where ``undefined`` says so, theirs are not finite and the comparison ends."""
    theirs, their_state = loop(getattr(diffusers, name)(**config), **step)
    mine, my_state = loop(getattr(ours, name)(**config), **step)
    assert torch.equal(my_state, their_state), "another number of draws"
    assert bool(torch.isfinite(torch.stack(theirs)).all()) is not undefined
    for got, want in zip(mine, theirs, strict=True):
        if undefined and not torch.isfinite(want).all():
            return
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert float((got - want).abs().max()) <= tolerance * float(want.abs().max())


@schedules
@spacings
@predictions
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("zero_snr", [True, False])
def test_loops(schedule: str, spacing: str, prediction: str, clip: bool, zero_snr: bool) -> None:
    config = {
        "beta_schedule": schedule,
        "timestep_spacing": spacing,
        "prediction_type": prediction,
        "clip_sample": clip,
        "clip_sample_range": 1.5,
        "rescale_betas_zero_snr": zero_snr,
    }
    # At ᾱ_t = 0 an ε prediction has no finite x0, and for η = 1 theirs takes the root of a rounding error below zero.
    from_zero = zero_snr and spacing != "leading"
    infinite = from_zero and prediction == "epsilon" and not clip
    compare("DDPMScheduler", config, infinite)
    for eta, clipped, to_one in ((0.0, False, True), (0.5, False, False), (0.5, True, True)):
        config["set_alpha_to_one"] = to_one
        compare("DDIMScheduler", config, infinite, eta=eta, use_clipped_model_output=clipped)
    if not from_zero:
        compare("DDIMScheduler", config, eta=1.0)
    scheduler = ours.DDIMScheduler(**config)  # type: ignore[arg-type]
    assert all(torch.isfinite(x).all() for x in loop(scheduler, eta=1.0)[0])


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large", "learned", "learned_range"])
@predictions
@pytest.mark.parametrize("schedule", ["linear", "sigmoid", "laplace"])
def test_variance_types(variance: str, prediction: str, schedule: str) -> None:
    config = {"variance_type": variance, "prediction_type": prediction, "beta_schedule": schedule}
    if variance == "learned":  # the model's own variance: make it positive
        their, our = (loop_learned(library.DDPMScheduler(**config)) for library in (diffusers, ours))
        assert torch.allclose(their, our, rtol=2e-5, atol=2e-5)
        return
    theirs, their_state = loop(diffusers.DDPMScheduler(**config), channels=2 if variance == "learned_range" else 1)
    mine, my_state = loop(ours.DDPMScheduler(**config), channels=2 if variance == "learned_range" else 1)  # type: ignore[arg-type]
    assert torch.equal(my_state, their_state)
    for got, want in zip(mine, theirs, strict=True):
        assert torch.allclose(got, want, rtol=2e-5, atol=2e-5 * float(want.abs().max()))


def loop_learned(scheduler: Any) -> Tensor:
    scheduler.set_timesteps(STEPS)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    for t in scheduler.timesteps:
        output = torch.cat([model(x, t), 0.1 * model(x, t) ** 2], dim=1)
        x = scheduler.step(output, t, x, generator=generator, return_dict=False)[0]
    return x


def test_fixed_large_log_is_the_variance_it_names() -> None:
    """Theirs is the root of a negative logarithm."""
    plain, log = (loop(ours.DDPMScheduler(variance_type=v))[0] for v in ("fixed_large", "fixed_large_log"))
    assert all(torch.equal(a, b) for a, b in zip(plain, log, strict=True))


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("largest", [1.0, 3.0])
def test_dynamic_thresholding(name: str, largest: float) -> None:
    config = {"thresholding": True, "sample_max_value": largest, "dynamic_thresholding_ratio": 0.9}
    compare(name, config)
    if name == "DDIMScheduler":
        compare(name, config, eta=0.5, use_clipped_model_output=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
def test_half_precision_is_no_worse_than_theirs(name: str, dtype: torch.dtype) -> None:
    """One step, against float64 from the same rounded inputs; the draws are theirs in the same dtype."""
    step = {"eta": 1.0} if name == "DDIMScheduler" else {}
    x, e = (torch.randn(SHAPE, generator=torch.Generator().manual_seed(s)).to(dtype) for s in (1, 2))
    results = {}
    for library in (diffusers, ours):
        scheduler = getattr(library, name)()
        scheduler.set_timesteps(STEPS)
        t = int(scheduler.timesteps[2])
        results[library] = scheduler.step(e, t, x, generator=torch.Generator().manual_seed(5), **step).prev_sample
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5), dtype=dtype)
    exact = diffusers.DDIMScheduler()
    exact.set_timesteps(STEPS)
    want = exact.step(e.double(), t, x.double(), eta=1.0, variance_noise=noise.double()).prev_sample
    mine, theirs = (float((results[library].double() - want).norm()) for library in (ours, diffusers))
    assert results[ours].dtype is dtype
    assert mine <= theirs + torch.finfo(dtype).eps / 2 * float(want.norm())


def test_mixed_dtypes_promote_as_theirs_do() -> None:
    x, e = torch.randn(SHAPE), torch.randn(SHAPE).half()
    for library in (diffusers, ours):
        scheduler = library.DDIMScheduler()
        scheduler.set_timesteps(STEPS)
        out = scheduler.step(e, int(scheduler.timesteps[1]), x)
        assert out.prev_sample.dtype is torch.float32


def test_a_list_of_generators_draws_for_each_sample() -> None:
    x, e = torch.randn(SHAPE), torch.randn(SHAPE)
    results = []
    for library in (diffusers, ours):
        scheduler = library.DDPMScheduler()
        scheduler.set_timesteps(STEPS)
        generators = [torch.Generator().manual_seed(s) for s in (1, 2)]
        results.append(scheduler.step(e, scheduler.timesteps[1], x, generator=generators, return_dict=False)[0])
    assert torch.allclose(*results, atol=1e-6)
    with pytest.raises(ValueError, match="generator must be one"):
        scheduler.step(e, scheduler.timesteps[1], x, generator=generators * 2)


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
def test_timesteps_add_noise_and_velocity_are_equal(name: str) -> None:
    x, noise, t = torch.randn(SHAPE), torch.randn(SHAPE), torch.tensor([3, 998])
    for spacing, steps, offset in itertools.product(SPACINGS, (1, 7, 50, 1000), (0, 1)):
        a, b = (getattr(lib, name)(timestep_spacing=spacing, steps_offset=offset) for lib in (diffusers, ours))
        assert torch.equal(a.timesteps, b.timesteps)
        a.set_timesteps(steps)
        b.set_timesteps(steps)
        assert torch.equal(a.timesteps, b.timesteps)
        assert a.timesteps.dtype == b.timesteps.dtype
    assert len(a) == len(b)
    for dtype in (torch.float32, torch.float16):
        assert torch.equal(a.add_noise(x.to(dtype), noise.to(dtype), t), b.add_noise(x.to(dtype), noise.to(dtype), t))
        assert torch.equal(a.get_velocity(x.to(dtype), noise.to(dtype), t), b.get_velocity(x.to(dtype), noise.to(dtype), t))
    assert b.scale_model_input(x, 3) is x
    for attribute in ("betas", "alphas", "alphas_cumprod", "init_noise_sigma", "order", "num_inference_steps"):
        assert torch.equal(torch.as_tensor(getattr(a, attribute)), torch.as_tensor(getattr(b, attribute)))


def test_custom_timesteps_and_previous_timestep() -> None:
    chosen = [900, 500, 20, 3]
    a, b = diffusers.DDPMScheduler(), ours.DDPMScheduler()
    assert b.previous_timestep(10) == 9
    a.set_timesteps(timesteps=chosen)
    b.set_timesteps(timesteps=chosen)
    assert [b.previous_timestep(t) for t in b.timesteps] == [int(a.previous_timestep(t)) for t in a.timesteps] == [500, 20, 3, -1]
    x, e = torch.randn(SHAPE), torch.randn(SHAPE)
    for t in chosen:
        got, want = (s.step(e, t, x, generator=torch.Generator().manual_seed(0)).prev_sample for s in (b, a))
        assert torch.allclose(got, want, atol=1e-5)


def test_without_a_generator_the_default_one_fixes_the_run() -> None:
    def run(name: str, **step: Any) -> Tensor:
        torch.manual_seed(11)
        scheduler = getattr(ours, name)()
        scheduler.set_timesteps(STEPS)
        x = torch.zeros(SHAPE)
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, t), t, x, **step).prev_sample
        return x

    for name, step in (("DDPMScheduler", {}), ("DDIMScheduler", {"eta": 1.0})):
        assert torch.equal(run(name, **step), run(name, **step))
        assert len(run(name, **step).unique()) > 100


def test_guided_step_is_guidance_and_then_a_step() -> None:
    x, cond, uncond = (torch.randn(SHAPE) for _ in range(3))
    for name in ("DDPMScheduler", "DDIMScheduler"):
        a, b = getattr(diffusers, name)(), getattr(ours, name)()
        a.set_timesteps(STEPS)
        b.set_timesteps(STEPS)
        t = a.timesteps[1]
        want = a.step(uncond + 7.5 * (cond - uncond), t, x, generator=torch.Generator().manual_seed(0)).prev_sample
        got = b.guided_step(cond, uncond, 7.5, t, x, generator=torch.Generator().manual_seed(0)).prev_sample
        assert torch.allclose(got, want, rtol=1e-5, atol=2e-6)


def test_gradients_flow_as_theirs_do() -> None:
    gradients = []
    for library in (diffusers, ours):
        x, e = (torch.randn(SHAPE, generator=torch.Generator().manual_seed(s)).requires_grad_() for s in (1, 2))
        scheduler = library.DDIMScheduler()
        scheduler.set_timesteps(STEPS)
        scheduler.step(
            e, scheduler.timesteps[2], x, eta=0.5, generator=torch.Generator().manual_seed(0)
        ).prev_sample.square().sum().backward()
        gradients.append((x.grad, e.grad))
    for got, want in zip(gradients[1], gradients[0], strict=True):
        assert torch.allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_schedule_replaced_by_hand_is_seen() -> None:
    x, e = torch.randn(SHAPE), torch.randn(SHAPE)
    a, b = diffusers.DDIMScheduler(), ours.DDIMScheduler()
    for scheduler in (a, b):
        scheduler.set_timesteps(STEPS)
        scheduler.step(e, 332, x)
        scheduler.alphas_cumprod = scheduler.alphas_cumprod**2
    assert torch.allclose(b.step(e, 332, x).prev_sample, a.step(e, 332, x).prev_sample, atol=1e-5)
    for scheduler in (a, b):
        scheduler.alphas_cumprod *= 0.9
        scheduler.set_timesteps(2 * STEPS)
    assert torch.allclose(b.step(e, 332, x).prev_sample, a.step(e, 332, x).prev_sample, atol=1e-5)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("num_inference_steps is not set", lambda s, x: s.step(x, 1, x)),
        ("num_inference_steps=2000", lambda s, x: s.set_timesteps(2000)),
        ("timestep=1000", lambda s, x: (s.set_timesteps(5), s.step(x, 1000, x))),
        ("model_output must have sample's shape", lambda s, x: (s.set_timesteps(5), s.step(x[:1], 1, x))),
        ("cannot both", lambda s, x: (s.set_timesteps(5), s.step(x, 1, x, 1.0, False, torch.Generator(), x))),
        ("eta=", lambda s, x: (s.set_timesteps(5), s.step(x, 801, x, eta=7.0))),
        ("beta_schedule=", lambda s, x: ours.DDIMScheduler(beta_schedule="x")),
        ("timestep_spacing=", lambda s, x: ours.DDIMScheduler(timestep_spacing="x").set_timesteps(5)),
        ("prediction_type=", lambda s, x: ours.DDPMScheduler(prediction_type="x")),
        ("variance_type=", lambda s, x: ours.DDPMScheduler(variance_type="x")),
        ("give one of", lambda s, x: ours.DDPMScheduler().set_timesteps()),
        ("timesteps must fall", lambda s, x: ours.DDPMScheduler().set_timesteps(timesteps=[3, 5])),
        ("model_output must have 6 channels", lambda s, x: ours.DDPMScheduler(variance_type="learned").step(x, 1, x)),
        (
            "backend='cpu_avx2' cannot be forced",
            lambda s, x: ours.DDPMScheduler().step(x, 1, x.requires_grad_(), backend="cpu_avx2"),
        ),
    ],
)
def test_wrong_arguments_are_named(message: str, call: Any) -> None:
    with pytest.raises(ValueError, match=message):
        call(ours.DDIMScheduler(), torch.randn(SHAPE))


@pytest.mark.filterwarnings("ignore")  # of diffusers' own, about its optional parts
@pytest.mark.parametrize("name", ["DDPM", "DDIM"])
def test_takes_the_place_of_theirs_in_a_pipeline(name: str) -> None:
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    images = []
    for library in (diffusers, ours):
        pipeline = getattr(diffusers, f"{name}Pipeline")(unet, getattr(diffusers, f"{name}Scheduler")())
        pipeline.scheduler = getattr(library, f"{name}Scheduler")()
        pipeline.set_progress_bar_config(disable=True)
        images.append(pipeline(generator=torch.Generator().manual_seed(3), num_inference_steps=4, output_type="np").images)
    assert abs(images[0] - images[1]).max() < 1e-4
