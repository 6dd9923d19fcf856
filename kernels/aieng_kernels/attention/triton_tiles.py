"""What the attention kernels share: tiles of rows read and written, and the product of two of them over the head dimension.

Strides are in units of 8 elements, which tells the compiler that rows start at 16 bytes; offsets are int64. Not yet measured
on a chip.
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
