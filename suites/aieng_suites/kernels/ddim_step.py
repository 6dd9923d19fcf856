"""One DDIM step: ours, ``diffusers``, and plain torch, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy

from aieng_bench.define import Case, KernelBenchmark, Work, grid
from aieng_suites.kernels import _diffusion as shared
from aieng_suites.kernels._ours import add_ours

CONFIG: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""The scheduler of Stable Diffusion (arXiv:2112.10752)."""


def inputs(case: Case, generator: Any) -> dict[str, Any]:
    names = ["sample", "model_output", *(["uncond"] if case.guidance != 1 else []), *(["noise"] if case.eta else [])]
    return shared.tensors(case, generator, names)


def coefficients(case: Case, number: type) -> Any:
    """The step's scalars from the float32 schedule, in the arithmetic of ``number``."""
    from aieng_kernels.diffusion import ddim_coefficients
    from aieng_kernels.diffusion.schedulers import DDIMScheduler

    scheduler = DDIMScheduler(**CONFIG)
    scheduler.set_timesteps(shared.STEPS)
    now, before = (number(scheduler.alphas_cumprod[t]) for t in scheduler.timesteps[shared.AT : shared.AT + 2])
    return ddim_coefficients(now, before, eta=case.eta)


def oracle(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return shared.definition(coefficients(case, float), case.guidance, inputs, inputs.get("noise"))


def framework(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    result = shared.plain(coefficients(case, numpy.float32), case.guidance, **inputs)
    return dict(zip(shared.OUTPUTS, result, strict=True))


def work(case: Case) -> Work:
    guided, noisy = case.guidance != 1, case.eta > 0
    return shared.work_of(case, read=2 + guided + noisy, flops=6 + 3 * guided + 2 * noisy)


AXES: dict[str, Any] = {"guidance": [1.0, 7.5], "eta": [0.0, 1.0]}
QUICK = [
    *grid(shape=shared.LATENTS, dtype="float32", guidance=7.5, eta=0.0),
    *grid(shape=shared.BATCH, dtype="float32", guidance=1.0, eta=0.0),
]
QUICK_CUDA = [
    *QUICK,
    *grid(shape=shared.BATCH, dtype="float32", guidance=7.5, eta=1.0),
    *grid(shape=shared.IMAGES, dtype=["float32", "bfloat16"], guidance=1.0, eta=0.0),
]

benchmark = KernelBenchmark(
    name="diffusion/ddim_step",
    title="DDIM step",
    summary="One step of DDIM (arXiv:2010.02502) with Stable Diffusion's schedule, from the model's output to the previous sample "
    "and the predicted original. guidance 1 has no unconditional output; eta 1 adds noise that is given.",
    baseline="diffusers",
    full={"cpu": shared.points(**AXES), "cuda": shared.points_on_cuda(**AXES)},
    quick={"cpu": QUICK, "cuda": QUICK_CUDA},
    outputs=shared.OUTPUTS,
    inputs=inputs,
    oracle=oracle,
    framework=framework,
    work=work,
)


@benchmark.contender("diffusers", requires=("diffusers",), package="diffusers")
def diffusers(case: Case) -> Callable[..., Any]:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**CONFIG)
    scheduler.set_timesteps(shared.STEPS)
    t, eta, guidance = int(scheduler.timesteps[shared.AT]), case.eta, case.guidance

    def step(sample: Any, model_output: Any, uncond: Any = None, noise: Any = None) -> Any:
        if uncond is not None:
            model_output = uncond + guidance * (model_output - uncond)
        return scheduler.step(model_output, t, sample, eta=eta, variance_noise=noise, return_dict=False)

    return step


@benchmark.contender("torch_eager", package="torch")
def torch_eager(case: Case) -> Callable[..., Any]:
    k, guidance = coefficients(case, float), case.guidance
    return lambda **tensors: shared.plain(k, guidance, **tensors)


@benchmark.contender("torch_compile", requires=("compiler",), package="torch")
def torch_compile(case: Case) -> Callable[..., Any]:
    import torch

    return torch.compile(torch_eager(case), fullgraph=True)


def ours(case: Case, backend: str) -> Callable[..., Any]:
    from aieng_kernels.diffusion.schedulers import DDIMScheduler

    scheduler = DDIMScheduler(**CONFIG)
    scheduler.set_timesteps(shared.STEPS)
    t, eta, guidance = int(scheduler.timesteps[shared.AT]), case.eta, case.guidance

    def step(sample: Any, model_output: Any, uncond: Any = None, noise: Any = None) -> Any:
        return scheduler.guided_step(
            model_output, uncond, guidance, t, sample, eta=eta, variance_noise=noise, return_dict=False, backend=backend
        )

    return step


add_ours(benchmark, "diffusion", ours)
