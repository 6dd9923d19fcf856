"""The same checks where the kernels are meant to run, and the shapes and the dtype that the interpreter cannot do."""

from __future__ import annotations

import pytest
from aieng_kernels._requirements import missing
from triton_cases import ATTENTION_ON_A_GPU, COUNTS, SEEDS
from triton_processes import call

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(missing("triton") is not None, reason=str(missing("triton")))]
DTYPES = ["float32", "float16", "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("shape", ATTENTION_ON_A_GPU, ids=lambda s: "B{}-H{}-Hkv{}-S{}-T{}-D{}".format(*s))
def test_attention(shape: tuple[int, ...], causal: bool, dtype: str) -> None:
    call("triton_attention_checks:check_case", shape, causal, dtype, "cuda")


@pytest.mark.parametrize("check", ["strides", "unaligned", "minus_infinity"])
def test_attention_edges(check: str) -> None:
    call(f"triton_attention_checks:check_{check}", "cuda")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("noise", ["none", "given", "made"])
@pytest.mark.parametrize("count", COUNTS)
def test_step(count: int, noise: str, dtype: str) -> None:
    call("triton_diffusion_checks:check_step", count, dtype, noise, True, 1.0, "cuda")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("noise", ["none", "given", "made"])
def test_history(noise: str, dtype: str) -> None:
    call("triton_diffusion_checks:check_step", 5002, dtype, noise, True, 1.0, "cuda", True)


@pytest.mark.parametrize(("seed", "offset"), SEEDS)
def test_noise(seed: int, offset: int) -> None:
    call("triton_diffusion_checks:check_noise", seed, offset, "cuda")


@pytest.mark.parametrize("check", ["noise_of_large_tensors", "in_place", "nan_and_infinity", "empty"])
def test_step_edges(check: str) -> None:
    call(f"triton_diffusion_checks:check_{check}", "cuda")
