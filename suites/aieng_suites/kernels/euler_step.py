"""One step of Euler's method: ours, ``diffusers``, and plain torch, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aieng_bench.define import Case, KernelBenchmark, Work, grid
from aieng_suites.kernels import _diffusion as shared
from aieng_suites.kernels._ours import add_ours

CONFIG: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
"""The scheduler of Stable Diffusion XL (arXiv:2307.01952)."""


def inputs(case: Case, generator: Any) -> dict[str, Any]:
    return shared.tensors(case, generator, ["sample", "model_output", *(["uncond"] if case.guidance != 1 else [])])


def prepared(scheduler_class: Any) -> tuple[Any, Any]:
    """A scheduler of the benchmark's run, and the timestep that is timed."""
    scheduler = scheduler_class(**CONFIG)
    scheduler.set_timesteps(shared.STEPS)
    scheduler.is_scale_input_called = True
    return scheduler, scheduler.timesteps[shared.AT]


def coefficients(case: Case) -> Any:
    """x0 = x − σ·e and prev = x + (σ_to − σ)·e, of the levels in the schedule."""
    from aieng_kernels.diffusion import Coefficients
    from aieng_kernels.diffusion.schedulers import EulerDiscreteScheduler

    scheduler, _ = prepared(EulerDiscreteScheduler)
    sigma, to = scheduler.sigmas[shared.AT : shared.AT + 2].tolist()
    return Coefficients(1.0, -sigma, 0.0, 1.0, to - sigma, 0.0)


def oracle(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return shared.definition(coefficients(case), case.guidance, inputs, None)


def framework(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return dict(zip(shared.OUTPUTS, shared.plain(coefficients(case), case.guidance, **inputs), strict=True))


def work(case: Case) -> Work:
    guided = case.guidance != 1
    return shared.work_of(case, read=2 + guided, flops=4 + 3 * guided)


AXES: dict[str, Any] = {"guidance": [1.0, 7.5]}
QUICK = grid(shape=shared.LATENTS, dtype="float32", guidance=7.5)

benchmark = KernelBenchmark(
    name="diffusion/euler_step",
    title="Euler step",
    summary="One step of Euler's method (arXiv:2206.00364) with Stable Diffusion XL's schedule, from the model's output to the "
    "previous sample and the predicted original. guidance 1 has no unconditional output.",
    baseline="diffusers",
    full={"cpu": shared.points(**AXES), "cuda": shared.points_on_cuda(**AXES)},
    quick={"cpu": QUICK, "cuda": QUICK},
    outputs=shared.OUTPUTS,
    inputs=inputs,
    oracle=oracle,
    framework=framework,
    work=work,
)


@benchmark.contender("diffusers", requires=("diffusers",), package="diffusers")
def diffusers(case: Case) -> Callable[..., Any]:
    from diffusers import EulerDiscreteScheduler

    scheduler, t = prepared(EulerDiscreteScheduler)
    guidance = case.guidance

    def step(sample: Any, model_output: Any, uncond: Any = None) -> Any:
        if uncond is not None:
            model_output = uncond + guidance * (model_output - uncond)
        scheduler._step_index = shared.AT  # each call is the same step of the run
        previous, original = scheduler.step(model_output, t, sample, return_dict=False)
        return previous, original.to(previous.dtype)  # always float32 there; all others return the sample's type

    return step


@benchmark.contender("torch_eager", package="torch")
def torch_eager(case: Case) -> Callable[..., Any]:
    k, guidance = coefficients(case), case.guidance
    return lambda **tensors: shared.plain(k, guidance, **tensors)


@benchmark.contender("torch_compile", requires=("compiler",), package="torch")
def torch_compile(case: Case) -> Callable[..., Any]:
    import torch

    return torch.compile(torch_eager(case), fullgraph=True)


def ours(case: Case, backend: str) -> Callable[..., Any]:
    from aieng_kernels.diffusion.schedulers import EulerDiscreteScheduler

    scheduler, t = prepared(EulerDiscreteScheduler)
    guidance = case.guidance

    def step(sample: Any, model_output: Any, uncond: Any = None) -> Any:
        scheduler._step_index = shared.AT
        return scheduler.guided_step(model_output, uncond, guidance, t, sample, return_dict=False, backend=backend)

    return step


add_ours(benchmark, "diffusion", ours)
