"""One second-order step of DPM-Solver++: ours, ``diffusers``, and plain torch, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aieng_bench.define import Case, Definition, KernelBenchmark, Work, grid
from aieng_suites.kernels import _diffusion as shared
from aieng_suites.kernels._ours import add_ours

CONFIG: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
"""The schedule of Stable Diffusion (arXiv:2112.10752)."""
OUTPUTS = ("prev_sample",)


def inputs(case: Case, generator: Any) -> dict[str, Any]:
    names = ["sample", "model_output", "history", *(["uncond"] if case.guidance != 1 else [])]
    return shared.tensors(case, generator, names)


def prepared(scheduler_class: Any) -> tuple[Any, Any]:
    """A scheduler of the benchmark's run, and the timestep that is timed."""
    scheduler = scheduler_class(**CONFIG)
    scheduler.set_timesteps(shared.STEPS)
    return scheduler, scheduler.timesteps[shared.AT]


def at_the_step(scheduler: Any, history: Any) -> None:
    """Each call is the same step of the run, after one that predicted ``history``."""
    scheduler._step_index, scheduler.lower_order_nums = shared.AT, 1
    scheduler.model_outputs = [None, history]


def coefficients() -> Any:
    from aieng_kernels.diffusion.schedulers import DPMSolverMultistepScheduler

    scheduler, _ = prepared(DPMSolverMultistepScheduler)
    return scheduler._coefficients(shared.AT, 2)[0]


def rounded_coefficients() -> Any:
    """The same by arithmetic in float32, as ``diffusers`` has it: e⁻ʰ − 1 of a small h is 1e-6 off there."""
    from aieng_kernels.diffusion.schedulers import DPMSolverMultistepScheduler

    scheduler, _ = prepared(DPMSolverMultistepScheduler)
    levels = scheduler.sigmas[shared.AT - 1 : shared.AT + 2]
    alpha = 1 / (levels**2 + 1) ** 0.5
    sigma = levels * alpha
    before, now, after = alpha.log() - sigma.log()
    h = after - now
    weight, ratio = alpha[2] * ((-h).exp() - 1), (now - before) / h
    change = 0.5 * weight / ratio
    scalars = {"p": 1 / alpha[1], "q": -sigma[1] / alpha[1], "r": -weight - change, "s": sigma[2] / sigma[1], "h": change}
    return coefficients()._replace(**{name: float(value) for name, value in scalars.items()})


def exact(k: Any, case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    previous = shared.definition(k, case.guidance, inputs, None)["prev_sample"]
    return {"prev_sample": previous + k.h * inputs["history"].double()}


def oracle(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return exact(coefficients(), case, inputs)


def plain(k: Any, guidance: float, sample: Any, model_output: Any, history: Any, uncond: Any = None) -> tuple[Any, Any]:
    previous, original = shared.plain(k, guidance, sample, model_output, uncond)
    return previous.add_(history, alpha=k.h), original


def framework(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"prev_sample": plain(coefficients(), case.guidance, **inputs)[0]}


ROUNDED = Definition(
    oracle=lambda case, inputs: exact(rounded_coefficients(), case, inputs),
    framework=lambda case, inputs: {"prev_sample": plain(rounded_coefficients(), case.guidance, **inputs)[0]},
)


def work(case: Case) -> Work:
    guided = case.guidance != 1
    return shared.work_of(case, read=3 + guided, flops=8 + 3 * guided)


AXES: dict[str, Any] = {"guidance": [1.0, 7.5]}
QUICK = grid(shape=shared.LATENTS, dtype="float32", guidance=7.5)

benchmark = KernelBenchmark(
    name="diffusion/dpm_step",
    title="DPM-Solver++ step",
    summary="One second-order multistep step of DPM-Solver++ (arXiv:2211.01095) with Stable Diffusion's schedule, from the model's "
    "output and the original predicted in the step before to the previous sample; the predicted original is kept for the next "
    "step. guidance 1 has no unconditional output. diffusers is held to the scalars that it has, in float32, the others to theirs.",
    baseline="diffusers",
    full={"cpu": shared.points(**AXES), "cuda": shared.points_on_cuda(**AXES)},
    quick={"cpu": QUICK, "cuda": QUICK},
    outputs=OUTPUTS,
    inputs=inputs,
    oracle=oracle,
    framework=framework,
    work=work,
)


@benchmark.contender("diffusers", requires=("diffusers",), package="diffusers", definition=ROUNDED)
def diffusers(case: Case) -> Callable[..., Any]:
    from diffusers import DPMSolverMultistepScheduler

    scheduler, t = prepared(DPMSolverMultistepScheduler)
    guidance = case.guidance

    def step(sample: Any, model_output: Any, history: Any, uncond: Any = None) -> Any:
        if uncond is not None:
            model_output = uncond + guidance * (model_output - uncond)
        at_the_step(scheduler, history)
        return scheduler.step(model_output, t, sample, return_dict=False)

    return step


@benchmark.contender("torch_eager", package="torch")
def torch_eager(case: Case) -> Callable[..., Any]:
    k, guidance = coefficients(), case.guidance
    return lambda **tensors: plain(k, guidance, **tensors)[:1]


@benchmark.contender("torch_compile", requires=("compiler",), package="torch")
def torch_compile(case: Case) -> Callable[..., Any]:
    import torch

    # Both results, so that the compiler does not leave out the original that the next step needs.
    k, guidance = coefficients(), case.guidance
    compiled = torch.compile(lambda **tensors: plain(k, guidance, **tensors), fullgraph=True)
    return lambda **tensors: compiled(**tensors)[:1]


def ours(case: Case, backend: str) -> Callable[..., Any]:
    from aieng_kernels.diffusion.schedulers import DPMSolverMultistepScheduler

    scheduler, t = prepared(DPMSolverMultistepScheduler)
    guidance = case.guidance

    def step(sample: Any, model_output: Any, history: Any, uncond: Any = None) -> Any:
        at_the_step(scheduler, history)
        return scheduler.guided_step(model_output, uncond, guidance, t, sample, return_dict=False, backend=backend)

    return step


add_ours(benchmark, "diffusion", ours)
