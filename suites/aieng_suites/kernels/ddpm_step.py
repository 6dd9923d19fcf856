"""One DDPM step with the noise of a generator: ours, ``diffusers``, and plain torch, eager and compiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy

from aieng_bench.define import Case, Definition, KernelBenchmark, Work, grid
from aieng_suites.kernels import _diffusion as shared
from aieng_suites.kernels._ours import add_ours

CONFIG: dict[str, Any] = {"beta_schedule": "linear", "variance_type": "fixed_small", "clip_sample": True}
"""The scheduler of arXiv:2006.11239."""


def inputs(case: Case, generator: Any) -> dict[str, Any]:
    import torch

    names = ["sample", "model_output", *(["uncond"] if case.guidance != 1 else [])]
    seed = int(torch.randint(2**62, (), generator=generator))
    return {**shared.tensors(case, generator, names), "seed": seed}


def coefficients(number: type) -> Any:
    """The step's scalars from the float32 schedule, in the arithmetic of ``number``."""
    from aieng_kernels.diffusion import ddpm_coefficients
    from aieng_kernels.diffusion.schedulers import DDPMScheduler

    scheduler = DDPMScheduler(**CONFIG)
    scheduler.set_timesteps(shared.STEPS)
    now, before = (number(scheduler.alphas_cumprod[t]) for t in scheduler.timesteps[shared.AT : shared.AT + 2])
    return ddpm_coefficients(now, before, clip=1.0)


def noise_of(case: Case, seed: int) -> Any:
    """The numbers that a generator of the case's device draws from ``seed``."""
    import torch

    device, dtype = str(case.device), getattr(torch, str(case.dtype))
    return torch.randn(shared.shape_of(case), generator=torch.Generator(device).manual_seed(seed), device=device, dtype=dtype)


def philox_of(case: Case, seed: int, number: Any) -> Any:
    """The numbers that our step makes after ``torch.manual_seed(seed)`` where no generator is given, as ``number``."""
    import torch
    from aieng_kernels.diffusion.reference import philox_normal
    from aieng_kernels.diffusion.step import draw_seed

    shape = shared.shape_of(case)
    torch.default_generator.manual_seed(seed)
    return philox_normal(math.prod(shape), draw_seed(), 0, number, str(case.device)).view(shape)


def oracle(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return shared.definition(coefficients(float), case.guidance, inputs, noise_of(case, inputs["seed"]))


def framework(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return in_plain_torch(case, noise_of(case, inputs["seed"]), inputs)


def philox_oracle(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    noise = philox_of(case, inputs["seed"], torch.float64)
    return shared.definition(coefficients(float), case.guidance, inputs, noise)


def philox_framework(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    noise = philox_of(case, inputs["seed"], torch.float32).to(inputs["sample"].dtype)
    return in_plain_torch(case, noise, inputs)


def in_plain_torch(case: Case, noise: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    tensors = {name: value for name, value in inputs.items() if name != "seed"}
    result = shared.plain(coefficients(numpy.float32), case.guidance, **tensors, noise=noise)
    return dict(zip(shared.OUTPUTS, result, strict=True))


def work(case: Case) -> Work:
    guided = case.guidance != 1
    return shared.work_of(case, read=2 + guided, flops=10 + 3 * guided)


AXES: dict[str, Any] = {"guidance": [1.0, 7.5]}
QUICK = grid(shape=shared.BATCH, dtype="float32", guidance=1.0)

benchmark = KernelBenchmark(
    name="diffusion/ddpm_step",
    title="DDPM step",
    summary="One ancestral step of DDPM (arXiv:2006.11239). Contenders draw the same noise from a generator, and drawing it is "
    "most of the time. Those named _philox are ours where no generator is given: the noise is made inside the pass, also from a "
    "seed, but it is other numbers; they are held to the same definition with those.",
    baseline="diffusers",
    full={"cpu": shared.points(**AXES), "cuda": shared.points_on_cuda(**AXES)},
    quick={"cpu": QUICK, "cuda": [*QUICK, *grid(shape=shared.IMAGES, dtype=["float32", "bfloat16"], guidance=1.0)]},
    outputs=shared.OUTPUTS,
    inputs=inputs,
    oracle=oracle,
    framework=framework,
    work=work,
)


@benchmark.contender("diffusers", requires=("diffusers",), package="diffusers")
def diffusers(case: Case) -> Callable[..., Any]:
    import torch
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(**CONFIG)
    scheduler.set_timesteps(shared.STEPS)
    t, guidance, generator = int(scheduler.timesteps[shared.AT]), case.guidance, torch.Generator(str(case.device))

    def step(sample: Any, model_output: Any, seed: int, uncond: Any = None) -> Any:
        if uncond is not None:
            model_output = uncond + guidance * (model_output - uncond)
        return scheduler.step(model_output, t, sample, generator=generator.manual_seed(seed), return_dict=False)

    return step


@benchmark.contender("torch_eager", package="torch")
def torch_eager(case: Case) -> Callable[..., Any]:
    k, guidance = coefficients(float), case.guidance
    return lambda seed, **tensors: shared.plain(k, guidance, **tensors, noise=noise_of(case, seed))


@benchmark.contender("torch_compile", requires=("compiler",), package="torch")
def torch_compile(case: Case) -> Callable[..., Any]:
    import torch

    k, guidance = coefficients(float), case.guidance
    chain = torch.compile(lambda noise, **tensors: shared.plain(k, guidance, **tensors, noise=noise), fullgraph=True)
    return lambda seed, **tensors: chain(noise_of(case, seed), **tensors)


def ours(case: Case, backend: str, philox: bool = False) -> Callable[..., Any]:
    import torch
    from aieng_kernels.diffusion.schedulers import DDPMScheduler

    scheduler = DDPMScheduler(**CONFIG)
    scheduler.set_timesteps(shared.STEPS)
    t, guidance = int(scheduler.timesteps[shared.AT]), case.guidance
    seeded = torch.default_generator if philox else torch.Generator(str(case.device))
    given = None if philox else seeded

    def step(sample: Any, model_output: Any, seed: int, uncond: Any = None) -> Any:
        seeded.manual_seed(seed)
        return scheduler.guided_step(model_output, uncond, guidance, t, sample, generator=given, return_dict=False, backend=backend)

    return step


add_ours(benchmark, "diffusion", ours)
add_ours(benchmark, "diffusion", partial(ours, philox=True), "_philox", Definition(philox_oracle, philox_framework))
