"""A step whose coefficients make its results copies of its inputs, beside plain copies: how near one pass comes to the memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aieng_bench.define import Case, KernelBenchmark, Unsupported, Value, Work, grid
from aieng_suites.kernels import _diffusion as shared
from aieng_suites.kernels._ours import add_ours

AXES: dict[str, Any] = {"shape": [shared.LARGE, shared.IMAGES], "dtype": ["float32", "bfloat16", "float16"]}
CASES: dict[str, list[dict[str, Value]]] = {"cpu": grid(**AXES, malloc="tuned"), "cuda": grid(**AXES)}


def inputs(case: Case, generator: Any) -> dict[str, Any]:
    return shared.tensors(case, generator, ["sample", "model_output"])


def copied(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return dict(zip(shared.OUTPUTS, (inputs["model_output"].clone(), inputs["sample"].clone()), strict=True))


def oracle(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: x.double() for name, x in copied(case, inputs).items()}


def work(case: Case) -> Work:
    return shared.work_of(case, read=2, flops=6)


benchmark = KernelBenchmark(
    name="diffusion/copy_step",
    title="Diffusion step beside a copy",
    summary="A step without guidance or noise whose coefficients are such that it returns its inputs: it moves what any such step "
    "moves, computes what any computes, and can be timed in the same rounds as a copy. On a machine whose memory others use too, "
    "that says more than a share of the best bandwidth ever seen.",
    baseline="torch_clone",
    full=CASES,
    quick={"cpu": grid(shape=shared.LARGE, dtype="float32", malloc="tuned"), "cuda": grid(shape=shared.IMAGES, dtype="float32")},
    outputs=shared.OUTPUTS,
    inputs=inputs,
    oracle=oracle,
    framework=copied,
    work=work,
)


@benchmark.contender("torch_clone", package="torch")
def torch_clone(case: Case) -> Callable[..., Any]:
    return lambda sample, model_output: (model_output.clone(), sample.clone())


@benchmark.contender("streaming_copy", devices=("cpu",))
def streaming_copy(case: Case) -> Callable[..., Any]:
    """The copy by which the ceilings measure main memory, into memory like that of our results."""
    import torch
    from aieng_kernels._memory import empty_like

    from aieng_bench import ceilings_cpu

    try:
        copy = ceilings_cpu.load().copy
    except RuntimeError as error:
        raise Unsupported(str(error)) from error

    def copies(sample: Any, model_output: Any) -> tuple[Any, ...]:
        results = tuple(empty_like(x) for x in (model_output, sample))
        for x, result in zip((model_output, sample), results, strict=True):
            copy(x.data_ptr(), result.data_ptr(), x.nbytes, torch.get_num_threads())
        return results

    return copies


def ours(case: Case, backend: str) -> Callable[..., Any]:
    from aieng_kernels.diffusion import Coefficients, diffusion_step

    same = Coefficients(p=1.0, q=0.0, r=0.0, s=0.0, t=1.0, sigma=0.0, clip=None)
    return lambda sample, model_output: diffusion_step(sample, model_output, same, backend=backend)


add_ours(benchmark, "diffusion", ours)
