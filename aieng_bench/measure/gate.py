"""The correctness gate: an output against the float64 oracle, measured in units of the framework's own error in the same dtype.

``rmse(out) = ‖out − oracle‖ / ‖oracle‖`` must not exceed ``m · rmse(framework) + floor``, and so must not the worst row. There is
no ``allclose``: a tolerance wide enough for bf16 lets an output of small values be all zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
BLOCK = {"cpu": 1 << 17, "cuda": 1 << 24}
"""Elements compared at once: in a processor's cache what is made of them costs a thirtieth of fresh pages for the whole."""


@dataclass(frozen=True)
class Error:
    rmse: float
    worst_row: float
    max_abs: float


@dataclass(frozen=True)
class Reference:
    """What one output is judged by: the oracle, the framework's result, and what follows from the two alone."""

    oracle: Tensor
    framework: Tensor
    count: int
    """Elements of the oracle that are finite in the framework's dtype."""
    sizes: Tensor
    """Norm of each row of the oracle, float64."""
    resolved: Tensor
    """Rows that are not zero, and that the framework tells from zero."""
    error: Error
    multiple: float
    floor: float

    @property
    def finite(self) -> bool:
        return self.count == self.oracle.numel()

    @property
    def root_mean_square(self) -> float:
        """Of the oracle's finite elements; 1 if they are zero."""
        return math.sqrt(float(self.sizes.square().sum()) / max(self.count, 1)) or 1.0

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
    count = sum(int(_finite(x, y).sum()) for x, y in _blocks(framework, oracle))
    finite = count == oracle.numel()
    of_oracle, found = _differ(torch.zeros_like(framework), oracle, finite), _differ(framework, oracle, finite)
    sizes = of_oracle.rows.sqrt()
    resolved = (found.rows.sqrt() < 0.1 * sizes) & (sizes > 0)
    if not exact:  # below this, flushing subnormals to zero is the hardware's choice
        resolved &= of_oracle.largest >= torch.finfo(framework.dtype).tiny
    error = found.relative_to(sizes)
    return Reference(oracle, framework, count, sizes, resolved, error, 3.0 if loose else 2.0, FLOOR_EPS * eps)


def judge(name: str, out: Tensor, by: Reference) -> tuple[OutputError, str]:
    """The error of one output and, if it does not pass, why. Shape and dtype must have been checked (:func:`contract`)."""
    found = _differ(out, by.oracle, by.finite, by.bound * by.root_mean_square)
    error = found.relative_to(by.sizes)
    if not math.isfinite(error.rmse) or not (by.finite or same_non_finite(out, by.oracle)):
        return no_figure(name, by), f"{name} has values that are not finite where the result is"
    figures = OutputError(
        output=name,
        rmse=error.rmse,
        framework_rmse=by.error.rmse,
        rmse_ratio=ratio(error.rmse, by.error.rmse, by.floor),
        worst_row_ratio=ratio(error.worst_row, by.error.worst_row, by.floor),
        max_abs_error=error.max_abs,
        out_of_tolerance=found.beyond / max(by.count, 1),
    )
    if error.rmse > by.bound:
        return figures, f"{name}: relative RMSE {error.rmse:.3g} is over {by.bound:.3g} (framework: {by.error.rmse:.3g})"
    if error.worst_row > by.row_bound:
        return figures, f"{name}: the worst row is {error.worst_row:.3g} off, over {by.row_bound:.3g}"
    # Rows that are exactly zero although the framework resolves them: perhaps too small for the worst row's error, but lost.
    if lost := int((found.zero & by.resolved).sum()):
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


@dataclass(frozen=True)
class _Difference:
    """Of an output from the oracle, row by row (along the last dimension), where both are finite."""

    rows: Tensor
    """Sum of squares."""
    largest: Tensor
    """Absolute value."""
    zero: Tensor
    """Whether the output's row is exactly zero."""
    beyond: int
    """Elements, of all rows, that are further off than the bound."""

    def relative_to(self, sizes: Tensor) -> Error:
        """Relative RMSE of the whole and of the worst row, and the largest absolute error.

        A row's error is relative to ``hypot(its norm, the typical row norm)``: a row whose exact result is zero by cancellation
        carries rounding errors of its terms, which are of the size of the other rows'.
        """
        if not self.rows.numel():
            return Error(0.0, 0.0, 0.0)
        squares = sizes.square()
        norm = math.sqrt(float(squares.sum()))
        scale = torch.hypot(sizes, squares.mean().sqrt()) if norm else torch.ones_like(sizes)
        worst = float((self.rows.sqrt() / scale).max())
        return Error(math.sqrt(float(self.rows.sum())) / (norm or 1.0), worst, float(self.largest.max()))


def _differ(out: Tensor, oracle: Tensor, finite: bool, bound: float = math.inf) -> _Difference:
    """``finite``: all values due are; then one that is not makes its row's sum so."""
    parts: list[tuple[Tensor, ...]] = []
    for x, exact in _blocks(out, oracle):
        difference = x.double() - exact
        if not finite:
            difference = torch.where(_finite(x, exact), difference, 0.0)
        size = difference.abs()
        largest = size.amax(dim=-1) if size.numel() else size.sum(dim=-1)
        parts.append((difference.square().sum(dim=-1), largest, (x == 0).all(dim=-1), (size > bound).sum()[None]))
    rows, largest, zero, beyond = (torch.cat(part) for part in zip(*parts, strict=True))
    return _Difference(rows, largest, zero, int(beyond.sum()))


def same_non_finite(out: Tensor, oracle: Tensor) -> bool:
    """Whether NaN and ±Inf are exactly where they belong: where the oracle has them once it is rounded to the output's dtype."""
    return not out.dtype.is_floating_point or all(_same_non_finite(x, exact) for x, exact in _blocks(out, oracle))


def _same_non_finite(out: Tensor, oracle: Tensor) -> bool:
    rounded = oracle.to(out.dtype)
    there, due = ~torch.isfinite(out), ~torch.isfinite(rounded)
    return torch.equal(there, due) and torch.equal(out[due].double().nan_to_num(0.5), rounded[due].double().nan_to_num(0.5))


def _finite(out: Tensor, oracle: Tensor) -> Tensor:
    return torch.isfinite(out) & torch.isfinite(oracle.to(out.dtype))


def _blocks(out: Tensor, oracle: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The same rows of both, as (rows, elements), one block at least."""
    x, exact = _rows(out), _rows(oracle)
    count = max(1, BLOCK[out.device.type] // max(1, x.shape[-1]))
    return zip(torch.split(x, count), torch.split(exact, count), strict=True)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1]) if x.ndim > 1 else x.reshape(1, -1)
