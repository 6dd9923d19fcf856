"""The Triton diffusion step in the interpreter against the definition in float64, and its noise against the definition's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from triton_cases import COUNTS, NO_BFLOAT16, SEEDS

Interpreted = Callable[..., None]
CHECKS = "triton_diffusion_checks"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("noise", ["none", "given", "made"])
@pytest.mark.parametrize(("guided", "clip"), [(False, None), (True, 1.0)], ids=["plain", "guided-clipped"])
@pytest.mark.parametrize("count", COUNTS)
def test_values(interpreted: Interpreted, count: int, guided: bool, clip: float | None, noise: str, dtype: str) -> None:
    interpreted(f"{CHECKS}:check_step", count, dtype, noise, guided, clip)


@pytest.mark.parametrize("noise", ["none", "given", "made"])
@pytest.mark.parametrize("count", [3, 1024, 1500])
def test_history(interpreted: Interpreted, count: int, noise: str) -> None:
    interpreted(f"{CHECKS}:check_step", count, "float32", noise, True, 1.0, "cpu", True)


@pytest.mark.parametrize("noise", ["given", "made"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 3, 7, 11), (3, 4099)], ids=str)
@pytest.mark.parametrize(("rescale", "threshold"), [(0.7, None), (0.0, (0.5, 1.5)), (0.0, (0.995, 100.0)), (1.0, (1.0, 100.0))])
def test_whole_samples(
    interpreted: Interpreted, shape: tuple[int, ...], rescale: float, threshold: tuple[float, float] | None, noise: str
) -> None:
    if shape == (1, 1) and rescale:
        pytest.skip("one element has no deviation")
    for dtype in ("float32", "float16"):
        interpreted(f"{CHECKS}:check_whole_samples", shape, dtype, rescale, threshold, noise)


@pytest.mark.skip(reason=NO_BFLOAT16)
def test_values_in_bfloat16(interpreted: Interpreted) -> None:
    interpreted(f"{CHECKS}:check_step", 5002, "bfloat16", "made", True, 1.0)


@pytest.mark.parametrize(("seed", "offset"), SEEDS)
def test_noise(interpreted: Interpreted, seed: int, offset: int) -> None:
    interpreted(f"{CHECKS}:check_noise", seed, offset)


def test_noise_of_large_tensors(interpreted: Interpreted) -> None:
    interpreted(f"{CHECKS}:check_noise_of_large_tensors")


@pytest.mark.parametrize("check", ["in_place", "nan_and_infinity", "empty", "quantiles"])
def test_edges(interpreted: Interpreted, check: str) -> None:
    interpreted(f"{CHECKS}:check_{check}")
