"""``diffusion/sampling``: a whole sampling loop, a real network between the steps, with our schedulers and with ``diffusers``'.

What a step costs by itself is in the other benchmarks; here is what is left of it beside a network: the time of the loop, and the
steps' share of it. The network is ``diffusers``' own with random weights, which takes as long as a trained one. torch is imported
inside the functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aieng_bench.define import Case, Metric, Study, grid
from aieng_suites.kernels import _diffusion as shared

if TYPE_CHECKING:
    from torch import Generator, Tensor

Run = Callable[[int], dict[str, float]]
Step = Callable[["Tensor", "Tensor", int, "Tensor", "Generator"], "Tensor"]
"""(c, u, timestep, x, generator) -> the previous sample, with guidance between c and u, the outputs with a class and without."""
Bind = Callable[[str], tuple["Tensor", Step]]
"""Name of a scheduler -> its timesteps and its step."""

STEPS, GUIDANCE, CLASSES = 50, 4.0, 10
LARGEST_DIFFERENCE = 1e-3
"""Rounding of float32 that a network has magnified through all steps."""
CONFIGS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False},
    "DDPMScheduler": {"beta_schedule": "linear", "variance_type": "fixed_small", "clip_sample": True},
}
SCHEDULERS = tuple(CONFIGS)
SHAPES = ("1x4x32x32", "2x4x64x64")
QUICK = grid(network="dit", scheduler="DDIMScheduler", shape=SHAPES[0])
FULL = grid(network=("dit", "unet"), scheduler=SCHEDULERS, shape=SHAPES)

benchmark = Study(
    name="diffusion/sampling",
    title="A sampling loop",
    summary=f"{STEPS} steps with classifier-free guidance around a U-Net or a DiT of some million parameters, float32: time of the "
    "loop, the steps' share of it, and how far the last sample is from a loop in float64.",
    baseline="diffusers",
    full=dict.fromkeys(("cpu", "cuda"), FULL),
    quick=dict.fromkeys(("cpu", "cuda"), QUICK),
    metrics=(
        Metric("loop_s", "s", "lower", "loop"),
        Metric("step_us", "µs", "lower", "a step beside the network, median"),
        Metric("step_share_percent", "%", "lower", "the steps' share of the loop"),
        Metric("difference", "", "lower", "relative RMSE from the loop in float64", floor=LARGEST_DIFFERENCE),
    ),
    seeds=3,
    quick_seeds=1,
)


@benchmark.contender("scheduler_aieng", kind="ours", requires=("diffusers",))
def scheduler_aieng(case: Case) -> Run:
    """Our schedulers, guidance inside the step."""
    from aieng_kernels.diffusion import schedulers

    def bind(name: str) -> tuple[Tensor, Step]:
        scheduler = getattr(schedulers, name)(**CONFIGS[name])
        scheduler.set_timesteps(STEPS)

        def step(c: Tensor, u: Tensor, t: int, x: Tensor, generator: Generator) -> Tensor:
            result: Tensor = scheduler.guided_step(c, u, GUIDANCE, t, x, generator=generator, return_dict=False)[0]
            return result

        return scheduler.timesteps, step

    return loop(case, bind)


@benchmark.contender("diffusers", requires=("diffusers",), package="diffusers")
def diffusers(case: Case) -> Run:
    """``diffusers``' schedulers, as its pipelines call them."""
    import diffusers as library

    def bind(name: str) -> tuple[Tensor, Step]:
        scheduler = getattr(library, name)(**CONFIGS[name])
        scheduler.set_timesteps(STEPS)

        def step(c: Tensor, u: Tensor, t: int, x: Tensor, generator: Generator) -> Tensor:
            result: Tensor = scheduler.step(u + GUIDANCE * (c - u), t, x, generator=generator, return_dict=False)[0]
            return result

        return scheduler.timesteps, step

    return loop(case, bind)


def bind_definition(name: str) -> tuple[Tensor, Step]:
    """The definition in float64, with the noise that the schedulers draw in float32."""
    import torch
    from aieng_kernels.diffusion import ddim_coefficients, ddpm_coefficients, schedulers

    scheduler = getattr(schedulers, name)(**CONFIGS[name])
    scheduler.set_timesteps(STEPS)
    timesteps = scheduler.timesteps
    signal = dict(zip(timesteps.tolist(), scheduler.alphas_cumprod[timesteps].double().tolist(), strict=True))
    before = dict(zip(signal, [*signal.values(), 1.0][1:], strict=True))

    def step(c: Tensor, u: Tensor, t: int, x: Tensor, generator: Generator) -> Tensor:
        if name == "DDIMScheduler":
            coefficients, noise = ddim_coefficients(signal[t], before[t]), None
        else:
            coefficients = ddpm_coefficients(signal[t], before[t], clip=1.0, last=t == 0)
            noise = torch.randn(x.shape, generator=generator, device=x.device) if t > 0 else None
        inputs = {"sample": x, "model_output": c, "uncond": u}
        result: Tensor = shared.definition(coefficients, GUIDANCE, inputs, noise)["prev_sample"]
        return result

    return timesteps, step


def loop(case: Case, bind: Bind) -> Run:
    """The loop with one scheduler, its first steps once untimed before; then the definition's, to be compared with."""
    import torch

    shape = tuple(map(int, str(case.shape).split("x")))

    def run(seed: int) -> dict[str, float]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = NETWORKS[case.network](shape).eval().to(case.device)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(case.device)
        sampled(network, *bind(case.scheduler), noise, seed, case.device, most=3)
        last, loop_s, steps = sampled(network, *bind(case.scheduler), noise, seed, case.device)
        exact = sampled(network.double(), *bind_definition(case.scheduler), noise.double(), seed, case.device)[0]
        return {
            "loop_s": loop_s,
            "step_us": 1e6 * sorted(steps)[len(steps) // 2],
            "step_share_percent": 100 * sum(steps) / loop_s,
            "difference": float((last.double() - exact).norm() / exact.norm()),
            "_parameters": float(sum(p.numel() for p in network.parameters())),
        }

    return run


def sampled(
    network: Any, timesteps: Tensor, step: Step, noise: Tensor, seed: int, device: str, most: int = STEPS
) -> tuple[Tensor, float, list[float]]:
    """The sample after ``most`` steps, seconds of the loop and of each step. A device is waited for before each reading."""
    import torch

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    generator = torch.Generator(device).manual_seed(seed)
    x, seconds = noise, []
    labels = torch.arange(2 * len(x), device=device) % CLASSES
    labels[len(x) :] = CLASSES  # no class
    with torch.inference_mode():
        begun = now()
        for t in timesteps.tolist()[:most]:
            times = torch.full((2 * len(x),), t, device=device)
            c, u = network(torch.cat((x, x)), times, class_labels=labels).sample.chunk(2)
            before = now()
            x = step(c, u, t, x, generator)
            seconds.append(now() - before)
        return x, now() - begun, seconds


def dit(shape: tuple[int, ...]) -> Any:
    """Diffusion transformer (arXiv:2212.09748), 4 blocks of width 256."""
    from diffusers import DiTTransformer2DModel

    return DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=64,
        in_channels=shape[1],
        out_channels=shape[1],
        num_layers=4,
        patch_size=4,
        sample_size=shape[-1],
        num_embeds_ada_norm=CLASSES,
    )


def unet(shape: tuple[int, ...]) -> Any:
    """U-Net of arXiv:2006.11239 with two resolutions, attention in the lower."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=shape[-1],
        in_channels=shape[1],
        out_channels=shape[1],
        layers_per_block=1,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        num_class_embeds=CLASSES + 1,
    )


NETWORKS: dict[str, Callable[[tuple[int, ...]], Any]] = {"dit": dit, "unet": unet}
