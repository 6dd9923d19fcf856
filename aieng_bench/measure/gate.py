"""The correctness gate: an output against the float64 oracle, measured in units of the framework's own error in the same dtype.

``rmse(out) = ‖out − oracle‖ / ‖oracle‖`` must not exceed ``m · rmse(framework) + floor``, and so must not the worst row. There is
no ``allclose``: a tolerance wide enough for bf16 lets an output of small values be all zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from aieng_bench.record.schema import OutputError

TINY = 1024
"""Below so many elements an error norm is a draw of few roundings and may differ by more than a factor of two by luck alone."""
FLOOR_EPS = 2.0
"""One rounding moves a value by at most eps/2 of itself. Where the framework happens to be exact, four roundings are allowed."""
LARGEST_BOUND = 0.5
"""However wrong the framework is, an output half as far off as all zeros has no figure."""


@dataclass(frozen=True)
class Error:
    rmse: float
    worst_row: float
    max_abs: float


@dataclass(frozen=True)
class Reference:
    """What one output is judged by: the oracle, the framework's result, its error, and where neither is finite."""

    oracle: Tensor
    framework: Tensor
    error: Error
    multiple: float
    floor: float

    @property
    def bound(self) -> float:
        return min(self.multiple * self.error.rmse + self.floor, LARGEST_BOUND)

    @property
    def row_bound(self) -> float:
        return min(self.multiple * self.error.worst_row + self.floor, LARGEST_BOUND)


def reference(oracle: Tensor, framework: Tensor) -> Reference:
    """The yardstick of one output. Raises ValueError if the benchmark's own two results do not belong together."""
    if oracle.shape != framework.shape:
        raise ValueError(f"the oracle's shape {tuple(oracle.shape)} is not the framework's {tuple(framework.shape)}")
    if not same_non_finite(framework, oracle):
        raise ValueError("the framework's own result is not finite where the oracle is")
    exact = not framework.dtype.is_floating_point
    eps = 0.0 if exact else torch.finfo(framework.dtype).eps
    loose = framework.dtype is torch.bfloat16 or framework.numel() < TINY
    return Reference(oracle, framework, error_of(framework, oracle), 3.0 if loose else 2.0, FLOOR_EPS * eps)


def judge(name: str, out: Tensor, by: Reference) -> tuple[OutputError, str]:
    """The error of one output and, if it does not pass, why. Shape and dtype must have been checked (:func:`contract`)."""
    error = error_of(out, by.oracle)
    if not same_non_finite(out, by.oracle) or not math.isfinite(error.rmse):
        return no_figure(name, by), f"{name} has values that are not finite where the result is"
    figures = OutputError(
        output=name,
        rmse=error.rmse,
        framework_rmse=by.error.rmse,
        rmse_ratio=ratio(error.rmse, by.error.rmse, by.floor),
        worst_row_ratio=ratio(error.worst_row, by.error.worst_row, by.floor),
        max_abs_error=error.max_abs,
        out_of_tolerance=beyond(out, by.oracle, by.bound),
    )
    if error.rmse > by.bound:
        return figures, f"{name}: relative RMSE {error.rmse:.3g} is over {by.bound:.3g} (framework: {by.error.rmse:.3g})"
    if error.worst_row > by.row_bound:
        return figures, f"{name}: the worst row is {error.worst_row:.3g} off, over {by.row_bound:.3g}"
    if lost := zeroed_rows(out, by):
        return figures, f"{name}: {lost} rows are all zero where the result is not"
    return figures, ""


def no_figure(name: str, by: Reference) -> OutputError:
    """The entry of an output whose error is no number."""
    return OutputError(
        output=name,
        rmse=None,
        framework_rmse=by.error.rmse,
        rmse_ratio=None,
        worst_row_ratio=None,
        max_abs_error=None,
        out_of_tolerance=1.0,
    )


def ratio(error: float, framework: float, floor: float) -> float:
    """Error in units of the framework's own; where that is (nearly) nil, of the smallest error the gate tells from nil."""
    return error / max(framework, floor / 2, torch.finfo(torch.float64).tiny)


def error_of(out: Tensor, oracle: Tensor) -> Error:
    """Relative RMSE of the whole and of the worst row (along the last dimension), and the largest absolute error.

    A row's error is relative to ``hypot(its norm, the typical row norm)``: a row whose exact result is zero by cancellation carries
    rounding errors of its terms, which are of the size of the other rows'.
    """
    oracle = torch.where(_finite(out, oracle), oracle.double(), 0.0)
    difference = torch.where(_finite(out, oracle), out.double(), 0.0) - oracle
    if not difference.numel():
        return Error(0.0, 0.0, 0.0)
    norm = float(oracle.norm())
    rows, row_errors = _rows(oracle).norm(dim=-1), _rows(difference).norm(dim=-1)
    scale = torch.hypot(rows, (rows.square().mean()).sqrt()) if norm else torch.ones_like(rows)
    return Error(float(difference.norm()) / (norm or 1.0), float((row_errors / scale).max()), float(difference.abs().max()))


def zeroed_rows(out: Tensor, by: Reference) -> int:
    """Rows that are exactly zero although the framework resolves them: perhaps too small for the worst row's error, but lost."""
    if not out.numel():
        return 0
    oracle = torch.where(_finite(out, by.oracle), by.oracle.double(), 0.0)
    framework = torch.where(_finite(out, by.oracle), by.framework.double(), 0.0)
    size = _rows(oracle).norm(dim=-1)
    resolved = _rows(framework - oracle).norm(dim=-1) < 0.1 * size
    if out.dtype.is_floating_point:  # below this, flushing subnormals to zero is the hardware's choice
        resolved &= _rows(oracle).abs().amax(dim=-1) >= torch.finfo(out.dtype).tiny
    return int(((_rows(out) == 0).all(dim=-1) & resolved & (size > 0)).sum())


def beyond(out: Tensor, oracle: Tensor, bound: float) -> float:
    """Fraction of elements further off than ``bound`` times the oracle's root mean square."""
    finite = _finite(out, oracle)
    if not finite.any():
        return 0.0
    exact = oracle.double()[finite]
    scale = float(exact.square().mean().sqrt()) or 1.0
    return float(((out.double()[finite] - exact).abs() > bound * scale).double().mean())


def same_non_finite(out: Tensor, oracle: Tensor) -> bool:
    """Whether NaN and ±Inf are exactly where they belong: where the oracle has them once it is rounded to the output's dtype."""
    if not out.dtype.is_floating_point:
        return True
    rounded = oracle.to(out.dtype)
    there, due = ~torch.isfinite(out), ~torch.isfinite(rounded)
    return torch.equal(there, due) and torch.equal(out[due].double().nan_to_num(0.5), rounded[due].double().nan_to_num(0.5))


def _finite(out: Tensor, oracle: Tensor) -> Tensor:
    return torch.isfinite(out) & torch.isfinite(oracle.to(out.dtype))


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1]) if x.ndim > 1 else x.reshape(1, -1)
