"""What the attention kernels share: tiles of rows read and written, the product of two of them, and exponentials of scores.

Strides are in units of 8 elements, which tells the compiler that rows start at 16 bytes; offsets are int64.

The exponent scale·score − lse is in base 2 for 16-bit inputs, where the factor log2(e) is folded into the scale and an exponential
costs one multiply-add and one exponential instruction. For float32 it is in base e: the lse of several hundred that is passed on to
the backward pass is then rounded once, and not again by a change of base, which would double the error of dv. So it is for every
dtype where a mask is added (``triton_options``).
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# (a kernel's parameters are Triton's own types, which Python does not check)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_rows(ptr, rows, stride, limit, first, D: tl.constexpr, WIDTH: tl.constexpr, MASKED: tl.constexpr):
    """Tile [rows, WIDTH] of the dimensions from ``first``; zero beyond dimension D and, if MASKED, beyond row ``limit``."""
    dims = first + tl.arange(0, WIDTH)
    mask = (dims < D)[None, :] & ((rows < limit)[:, None] if MASKED else True)
    return tl.load(ptr + rows.to(tl.int64)[:, None] * stride * 8 + dims[None, :], mask=mask, other=0.0)


@triton.jit
def store_rows(ptr, rows, stride, limit, tile, D: tl.constexpr, WIDTH: tl.constexpr):
    """Store a tile in the pointer's dtype, without what lies beyond row ``limit`` or dimension D."""
    dims = tl.arange(0, WIDTH)
    mask = (rows < limit)[:, None] & (dims < D)[None, :]
    tl.store(ptr + rows.to(tl.int64)[:, None] * stride * 8 + dims[None, :], tile.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def dot_rows(
    x_ptr, x_rows, stride_x, x_limit, y_ptr, y_rows, stride_y, y_limit,
    X: tl.constexpr, Y: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """x·yᵀ [X, Y] in float32, CHUNK dimensions at a time: a whole head of float32 operands would not fit in the registers."""
    product = tl.zeros([X, Y], tl.float32)
    for first in range(0, WIDTH, CHUNK):
        x = load_rows(x_ptr, x_rows, stride_x, x_limit, first, D, CHUNK, True)
        y = load_rows(y_ptr, y_rows, stride_y, y_limit, first, D, CHUNK, True)
        product = tl.dot(x, tl.trans(y), product, input_precision="ieee")
    return product


@triton.jit
def exponent_scale(scale, dtype: tl.constexpr):
    """The factor on scores in the exponent's base."""
    return scale if dtype == tl.float32 else scale * 1.4426950408889634


@triton.jit
def exponential(score, scale, shift, dtype: tl.constexpr):
    """exp(scale·score − shift), ``scale`` and ``shift`` in the exponent's base."""
    return power(tl.fma(score, scale, -shift), dtype)


@triton.jit
def power(exponent, dtype: tl.constexpr):
    """The base to a power of float32."""
    return tl.exp2(exponent * 1.4426950408889634 if dtype == tl.float32 else exponent)


@triton.jit
def natural_lse(row_max, row_sum, dtype: tl.constexpr):
    """log(row_sum·base^row_max)."""
    if dtype == tl.float32:
        return row_max + tl.log2(row_sum) * 0.6931471805599453
    return (row_max + tl.log2(row_sum)) * 0.6931471805599453


@triton.jit
def based_lse(lse, dtype: tl.constexpr):
    """A natural lse in the exponent's base."""
    return lse if dtype == tl.float32 else lse * 1.4426950408889634
