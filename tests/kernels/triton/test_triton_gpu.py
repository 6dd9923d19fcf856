"""The same checks where the kernels are meant to run, and the shapes and the dtype that the interpreter cannot do."""

from __future__ import annotations

import pytest
from aieng_kernels._requirements import missing
from option_cases import ADDED_MASKS, BOOL_MASKS, WINDOWS
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
@pytest.mark.parametrize("bottom_right", [False, True], ids=["top-left", "bottom-right"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_window(window: tuple[int, ...], bottom_right: bool, dtype: str) -> None:
    call("triton_option_checks:check_window", *window, bottom_right, dtype, "cuda")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("same", [False, True], ids=["float32", "of q's dtype"])
@pytest.mark.parametrize("kind", [*BOOL_MASKS, *ADDED_MASKS])
def test_mask(kind: str, same: bool, dtype: str) -> None:
    call("triton_option_checks:check_mask", kind, dtype, same and kind in ADDED_MASKS, "cuda")


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_options(dtype: str) -> None:
    for added in (False, True):
        call("triton_option_checks:check_hidden", added, dtype, "cuda")
    for softcap, scale in ((0.7, 0.125), (50.0, 0.125), (2.0, -1.0)):
        call("triton_option_checks:check_softcap", softcap, scale, dtype, True, "cuda")
    for S, T, right in ((300, 70, -1), (70, 300, 0)):
        call("triton_option_checks:check_slopes", S, T, right, True, dtype, "cuda")
    for dropout, T in ((0.1, 64), (0.5, 131)):
        call("triton_option_checks:check_dropout", dropout, T, dtype, "cuda")
    for everything, bottom_right in ((False, False), (False, True), (True, True)):
        call("triton_option_checks:check_sequences", 0, bottom_right, dtype, everything, "cuda")
        call("triton_option_checks:check_room", 70, -1, 0, bottom_right, dtype, "cuda")
    for D in (40, 64, 128, 136):
        call("triton_option_checks:check_everything", dtype, D, "cuda")


@pytest.mark.parametrize("check", ["lowest_everywhere", "tanh", "dropped", "counters"])
def test_option_edges(check: str) -> None:
    call(f"triton_option_checks:check_{check}", "cuda")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("noise", ["none", "given", "made"])
@pytest.mark.parametrize("count", COUNTS)
def test_step(count: int, noise: str, dtype: str) -> None:
    call("triton_diffusion_checks:check_step", count, dtype, noise, True, 1.0, "cuda")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("noise", ["none", "given", "made"])
def test_history(noise: str, dtype: str) -> None:
    call("triton_diffusion_checks:check_step", 5002, dtype, noise, True, 1.0, "cuda", True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 3, 7, 11), (3, 4099)], ids=str)
def test_whole_samples(shape: tuple[int, ...], dtype: str) -> None:
    for rescale, threshold in ((0.0, (0.5, 1.5)), (0.0, (0.995, 100.0)), *(((0.7, None), (1.0, (1.0, 100.0))) * (shape != (1, 1)))):
        call("triton_diffusion_checks:check_whole_samples", shape, dtype, rescale, threshold, "made", "cuda")


@pytest.mark.parametrize(("seed", "offset"), SEEDS)
def test_noise(seed: int, offset: int) -> None:
    call("triton_diffusion_checks:check_noise", seed, offset, "cuda")


@pytest.mark.parametrize("check", ["noise_of_large_tensors", "in_place", "nan_and_infinity", "empty", "quantiles"])
def test_step_edges(check: str) -> None:
    call(f"triton_diffusion_checks:check_{check}", "cuda")
