"""The Triton attention in the interpreter, forward and every gradient, against the definition in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from triton_cases import ATTENTION, NO_BFLOAT16

Interpreted = Callable[..., None]
CHECKS = "triton_attention_checks"
DTYPES = [
    "float32",
    "float16",
    pytest.param("bfloat16", marks=pytest.mark.skip(reason=NO_BFLOAT16)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("shape", ATTENTION, ids=lambda s: "B{}-H{}-Hkv{}-S{}-T{}-D{}".format(*s))
def test_values(interpreted: Interpreted, shape: tuple[int, ...], causal: bool, dtype: str) -> None:
    interpreted(f"{CHECKS}:check_case", shape, causal, dtype)


def test_strided_inputs(interpreted: Interpreted) -> None:
    interpreted(f"{CHECKS}:check_strides")


def test_unaligned_inputs(interpreted: Interpreted) -> None:
    interpreted(f"{CHECKS}:check_unaligned")


@pytest.mark.parametrize(("scale", "shift"), [(0.0, 0.0), (-0.3, 0.0), (20.0, 0.0), (1.0, 6.0), (-1.0, 6.0)])
def test_scores_of_any_size(interpreted: Interpreted, scale: float, shift: float) -> None:
    interpreted(f"{CHECKS}:check_scores", scale, shift)


def test_rows_of_minus_infinity(interpreted: Interpreted) -> None:
    interpreted(f"{CHECKS}:check_minus_infinity")


@pytest.mark.parametrize("shape", [(1, 2, 1, 5, 0, 8), (1, 2, 1, 0, 5, 8), (0, 2, 1, 5, 5, 8), (1, 0, 1, 5, 5, 8)])
def test_empty(interpreted: Interpreted, shape: tuple[int, ...]) -> None:
    interpreted(f"{CHECKS}:check_empty", shape)


def test_what_it_refuses(interpreted: Interpreted) -> None:
    interpreted(f"{CHECKS}:check_refusals")
