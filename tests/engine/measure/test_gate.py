"""The correctness gate: what must pass, and what must not whatever the dtype and shape."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aieng_bench.measure import gate

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
SHAPES = [(1,), (7,), (3, 5), (2, 3, 4, 8), (64, 64), (4096, 8)]


def exact(shape: tuple[int, ...], scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rounded(oracle: Tensor, dtype: torch.dtype) -> gate.Reference:
    """A framework whose result is the oracle rounded once."""
    return gate.reference(oracle, oracle.to(dtype))


def verdict(out: Tensor, by: gate.Reference) -> str:
    return gate.judge("out", out, by)[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 100.0])
def test_the_frameworks_own_result_passes_and_zeros_fail(dtype: torch.dtype, shape: tuple[int, ...], scale: float) -> None:
    by = rounded(exact(shape, scale), dtype)
    assert verdict(by.framework, by) == ""
    assert verdict(torch.zeros_like(by.framework), by)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_fail_even_where_the_framework_is_worthless(dtype: torch.dtype) -> None:
    oracle = exact((32, 32))
    by = gate.reference(oracle, (oracle + 3 * exact((32, 32), seed=1)).to(dtype))
    assert verdict(torch.zeros_like(by.framework), by)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_one_zeroed_row_among_many_fails(dtype: torch.dtype, size: float) -> None:
    """Also one a thousand times smaller than its neighbours, which neither the whole nor the worst row's error shows."""
    oracle = exact((32768, 16))
    oracle[17] *= size
    by = rounded(oracle, dtype)
    out = by.framework.clone()
    out[17] = 0
    assert verdict(out, by)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_wrong_element_in_a_row_fails(dtype: torch.dtype) -> None:
    by = rounded(exact((4096, 64)), dtype)
    out = by.framework.clone()
    out[100, 3] += 1
    assert verdict(out, by)


def test_a_row_that_is_exactly_zero_by_cancellation_may_carry_rounding_errors() -> None:
    """The first row of dq under a causal mask: the framework computes it as exactly zero, others as a small difference."""
    oracle = exact((64, 64))
    oracle[0] = 0
    by = rounded(oracle, torch.bfloat16)
    out = by.framework.clone()
    out[0] = torch.finfo(torch.bfloat16).eps * exact((64,), seed=2).to(torch.bfloat16)
    assert verdict(out, by) == ""


@pytest.mark.parametrize(("dtype", "steps"), [(torch.float32, 2), (torch.float16, 2), (torch.bfloat16, 3)])
def test_twice_the_frameworks_error_passes_and_five_times_fails(dtype: torch.dtype, steps: int) -> None:
    """Where errors are well above one rounding."""
    oracle, noise = exact((256, 64)), 8 * torch.finfo(dtype).eps * exact((256, 64), seed=3)
    by = gate.reference(oracle, (oracle + noise).to(dtype))
    assert verdict((oracle + 0.9 * steps * noise).to(dtype), by) == ""
    assert verdict((oracle + 5 * noise).to(dtype), by)


def test_computing_in_half_precision_for_a_float_result_fails() -> None:
    by = rounded(exact((256, 64)), torch.float32)
    assert verdict(by.framework.half().float(), by)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_non_finite_value_fails_and_has_no_figure(bad: float) -> None:
    by = rounded(exact((16, 16)), torch.float32)
    out = by.framework.clone()
    out[3, 3] = bad
    figures, reason = gate.judge("out", out, by)
    assert "not finite" in reason
    assert figures.rmse is None
    assert figures.out_of_tolerance == 1.0


def test_non_finite_values_belong_where_the_oracle_has_them() -> None:
    oracle = exact((8, 8))
    oracle[0, 0], oracle[1, 1], oracle[2, 2] = math.nan, math.inf, -math.inf
    by = rounded(oracle, torch.float32)
    assert verdict(by.framework, by) == ""
    for place, value in (((1, 1), -math.inf), ((0, 0), 0.0), ((0, 0), math.inf)):
        out = by.framework.clone()
        out[place] = value
        assert verdict(out, by)


def test_a_value_beyond_the_dtypes_range_is_due_as_infinite() -> None:
    oracle = exact((8, 8))
    oracle[0, 0] = 1e6
    by = rounded(oracle, torch.float16)
    assert verdict(by.framework, by) == ""
    assert verdict(by.framework.clamp(-65504, 65504), by)


def test_a_zero_oracle_wants_zeros() -> None:
    by = rounded(torch.zeros(8, 8, dtype=torch.float64), torch.float32)
    assert verdict(torch.zeros(8, 8), by) == ""
    assert verdict(torch.full((8, 8), 1e-3), by)


def test_an_empty_output_passes() -> None:
    by = rounded(torch.zeros(0, 8, dtype=torch.float64), torch.float32)
    assert verdict(torch.zeros(0, 8), by) == ""


def test_integers_must_be_equal() -> None:
    oracle = torch.arange(64, dtype=torch.float64).reshape(8, 8)
    by = gate.reference(oracle, oracle.long())
    out = by.framework.clone()
    assert verdict(out, by) == ""
    out[3, 3] += 1
    assert verdict(out, by)


def test_a_benchmark_that_contradicts_itself_is_an_error() -> None:
    with pytest.raises(ValueError, match="shape"):
        gate.reference(exact((4, 4)), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="finite"):
        gate.reference(exact((4, 4)), torch.full((4, 4), math.nan))


@pytest.mark.parametrize("bad", [None, math.nan])
def test_blocks_of_rows_make_no_difference(bad: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = exact((50, 3, 7))
    if bad is not None:
        oracle[31, 1, 2] = bad
    out = oracle.float()
    out[40, 2, 6] += 1
    found = []
    for block in (1, 64, 1 << 17):  # fewer elements than a row, some rows, all
        monkeypatch.setitem(gate.BLOCK, "cpu", block)
        by = rounded(oracle, torch.float32)
        assert verdict(by.framework, by) == ""
        found.append(gate.judge("out", out, by))
    for figures, reason in found[1:]:
        assert reason == found[0][1]
        assert figures.model_dump() == pytest.approx(found[0][0].model_dump())
    assert found[0][1]


def test_figures_say_what_they_are() -> None:
    oracle = torch.ones(4, 4, dtype=torch.float64)
    by = gate.reference(oracle, oracle.float() * (1 + 2**-20))
    out = oracle.float()
    out[0, 0] = 1.5
    figures, _ = gate.judge("out", out, by)
    assert figures.rmse == pytest.approx(0.125)
    assert figures.framework_rmse == pytest.approx(2**-20)
    assert figures.rmse_ratio == pytest.approx(0.125 * 2**20)
    assert figures.worst_row_ratio == pytest.approx(0.25 * 2**20)
    assert figures.max_abs_error == 0.5
    assert figures.out_of_tolerance == 1 / 16


@given(st.integers(1, 5), st.integers(1, 40), st.sampled_from(DTYPES), st.floats(1e-3, 1e3))
def test_zeros_never_pass(rows: int, columns: int, dtype: torch.dtype, scale: float) -> None:
    by = rounded(exact((rows, columns), scale, seed=rows * 100 + columns), dtype)
    assert verdict(torch.zeros_like(by.framework), by)
