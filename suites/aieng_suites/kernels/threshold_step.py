"""One DDIM step with dynamic thresholding: ours, ``diffusers`` and plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy

from aieng_bench.define import Case, KernelBenchmark, Work, grid
from aieng_suites.kernels import _diffusion as shared
from aieng_suites.kernels._ours import add_ours

CONFIG: dict[str, Any] = {
    "beta_schedule": "squaredcos_cap_v2",
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.5,
}
"""As Imagen's open relatives set it, e.g. DeepFloyd IF."""
RATIO, MOST = 0.995, 1.5


def inputs(case: Case, generator: Any) -> dict[str, Any]:
    return shared.tensors(case, generator, ["sample", "model_output"])


def prepared(scheduler_class: Any) -> tuple[Any, int]:
    """A scheduler of the benchmark's run, and the timestep that is timed."""
    scheduler = scheduler_class(**CONFIG)
    scheduler.set_timesteps(shared.STEPS)
    return scheduler, int(scheduler.timesteps[shared.AT])


def coefficients(number: type) -> Any:
    from aieng_kernels.diffusion import ddim_coefficients
    from aieng_kernels.diffusion.schedulers import DDIMScheduler

    scheduler, _ = prepared(DDIMScheduler)
    now, before = (number(scheduler.alphas_cumprod[t]) for t in scheduler.timesteps[shared.AT : shared.AT + 2])
    return ddim_coefficients(now, before)


def definition(k: Any, x: Any, e: Any) -> tuple[Any, Any]:
    """In the tensors' own arithmetic; quantiles of 16-bit samples in float32, which is what torch has."""
    x0 = k.p * x + k.q * e
    magnitudes = x0.flatten(1).abs()
    wide = magnitudes if magnitudes.dtype.itemsize >= 4 else magnitudes.float()
    s = wide.quantile(RATIO, dim=1).clamp(1, MOST).to(x0.dtype).view(-1, *[1] * (x.ndim - 1))
    x0 = x0.clamp(-s, s) / s
    return k.r * x0 + k.s * x + k.t * e, x0


def oracle(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    result = definition(coefficients(float), inputs["sample"].double(), inputs["model_output"].double())
    return dict(zip(shared.OUTPUTS, result, strict=True))


def framework(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    result = definition(coefficients(numpy.float32), inputs["sample"], inputs["model_output"])
    return dict(zip(shared.OUTPUTS, result, strict=True))


def work(case: Case) -> Work:
    """Two tensors twice, as the quantile is of all of a sample before its first element is done."""
    return shared.work_of(case, read=4, flops=10)


benchmark = KernelBenchmark(
    name="diffusion/threshold_step",
    title="DDIM step with dynamic thresholding",
    summary="One step of DDIM whose predicted original is clipped to the quantile 0.995 of each sample's magnitudes and divided by "
    "it (arXiv:2205.11487, section 2.3).",
    baseline="diffusers",
    full={"cpu": shared.points(), "cuda": shared.points_on_cuda()},
    quick={device: grid(shape="4x3x64x64", dtype="float32") for device in ("cpu", "cuda")},
    outputs=shared.OUTPUTS,
    inputs=inputs,
    oracle=oracle,
    framework=framework,
    work=work,
)


@benchmark.contender("diffusers", requires=("diffusers",), package="diffusers")
def diffusers(case: Case) -> Callable[..., Any]:
    from diffusers import DDIMScheduler

    scheduler, t = prepared(DDIMScheduler)
    return lambda sample, model_output: scheduler.step(model_output, t, sample, return_dict=False)


@benchmark.contender("torch_eager", package="torch")
def torch_eager(case: Case) -> Callable[..., Any]:
    k = coefficients(float)
    return lambda sample, model_output: definition(k, sample, model_output)


def ours(case: Case, backend: str) -> Callable[..., Any]:
    from aieng_kernels.diffusion.schedulers import DDIMScheduler

    scheduler, t = prepared(DDIMScheduler)
    return lambda sample, model_output: scheduler.step(model_output, t, sample, return_dict=False, backend=backend)


add_ours(benchmark, "diffusion", ours)
