"""What the options of attention (:class:`options.Options`) ask of a tile: which keys, in what blocks, with what mask and dropout.

Each is behind a constant, so that the code of a kernel that is asked for none of them has nothing of them. Row i of a sequence
sees the keys from i + behind to i + ahead, where there is a window. Tiles are of rows and keys in either order: i and j are their
numbers within the sequence, of shapes that broadcast. Not yet run on a chip: interpreted, and compiled for sm_90.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# (a kernel's parameters are Triton's own types, which Python does not check)

from __future__ import annotations

import triton
import triton.language as tl

from aieng_kernels._triton_philox import philox4x32_10
from aieng_kernels.attention.triton_tiles import exponential

UNSPECIALIZED = ["H", "S", "T", "bucket", "last_dropped", "longest_q", "longest_k", "left", "right", "bottom"]
"""Arguments whose values ask for no code of their own."""

NO_MASK = tl.constexpr(0)
BOOL_MASK = tl.constexpr(1)
"""uint8: other than 0 where a key is seen."""
ADDED_MASK = tl.constexpr(2)
"""float32 or of q's dtype. The exponent is then in base e for every dtype: a factor would make -inf of the lowest numbers."""
SLOPES = tl.constexpr(3)
"""No tensor, but what a slope for each head and sequence adds; in base e too."""


@triton.jit
def extents(b, S, T, q_starts_ptr, k_starts_ptr, k_lengths_ptr, VARLEN: tl.constexpr, LENGTHS: tl.constexpr):
    """(b, first row, first key, S, T) of batch b, T being its own if LENGTHS; if VARLEN, of sequence b, which lies in batch 0."""
    first_q, first_k = 0, 0
    if VARLEN:
        first_q, first_k = tl.load(q_starts_ptr + b), tl.load(k_starts_ptr + b)
        S, T = tl.load(q_starts_ptr + b + 1) - first_q, tl.load(k_starts_ptr + b + 1) - first_k
        first_q, first_k, b = first_q.to(tl.int64), first_k.to(tl.int64), b * 0
    if LENGTHS:
        T = tl.load(k_lengths_ptr + b)
    return b, first_q, first_k, S, T


@triton.jit
def sides(S, T, left, right, bottom, WINDOW: tl.constexpr):
    """(behind, ahead): bottom is 1 where the last row stands at the last key, else 0."""
    behind, ahead = 0, 0
    if WINDOW:
        behind, ahead = bottom * (T - S) - left, bottom * (T - S) + right
    return behind, ahead


@triton.jit
def keys_of_rows(
    block, S, T, behind, ahead, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr
):  # fmt: skip
    """(free, bound, lo, hi): every row of the block sees all keys free..bound; lo..hi, with a step over those where there is a
    window (:func:`over`), are the blocks of the other keys that some row sees."""
    free = 0
    if WINDOW:
        row = block * BLOCK_M
        last = tl.minimum(row + BLOCK_M, S) - 1
        free = tl.cdiv(tl.maximum(last + behind, 0), BLOCK_N) * BLOCK_N
        bound = tl.maximum(tl.minimum(T, row + ahead + 1) // BLOCK_N * BLOCK_N, free)
        lo = tl.maximum(row + behind, 0) // BLOCK_N * BLOCK_N
        hi = tl.minimum(T, last + ahead + 1) - (bound - free)
    else:
        hi = tl.minimum(T, (block + 1) * BLOCK_M) if CAUSAL else T
        bound = (tl.minimum(T, block * BLOCK_M) if CAUSAL else T) // BLOCK_N * BLOCK_N
        lo = bound
    return free, bound, lo, hi


@triton.jit
def over(start, free, bound):
    """A start in lo..hi as a key."""
    return start + tl.where(start >= free, bound - free, 0)


@triton.jit
def rows_of_keys(
    key, S, T, behind, ahead, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, LENGTHS: tl.constexpr,
):  # fmt: skip
    """(first, last): the blocks of rows from first to last are those of which some row sees a key of the block from ``key`` on."""
    first, last = 0, S
    if CAUSAL:
        first = key // BLOCK_M * BLOCK_M
    if WINDOW:
        first = tl.maximum(key - ahead, 0) // BLOCK_M * BLOCK_M
        last = tl.minimum(S, tl.minimum(key + BLOCK_N, T) - behind)
    if LENGTHS:
        last = tl.where(key < T, last, 0)
    return first, last


@triton.jit
def mask_of(mask_ptr, at, b, h, S, T, stride_mb, stride_mh, stride_ms, stride_mt, MASK: tl.constexpr):
    """What :func:`mask_tile` takes for head h of batch b, ``at`` being its number among the heads of all sequences."""
    if MASK == NO_MASK:
        return 0
    elif MASK == SLOPES:
        return tl.load(mask_ptr + at), T - S
    else:
        return mask_ptr + b * stride_mb + h * stride_mh, stride_ms, stride_mt


@triton.jit
def mask_tile(mask, i, j, S, T, MASK: tl.constexpr, MASKED: tl.constexpr):
    """The tile of a mask (pointer, stride of rows, stride of keys), 0 beyond row S and, if MASKED, beyond key T; or of what is
    added by (slope, T - S).

    A comparison of keys would have every element loaded by itself.
    """
    if MASK == SLOPES:
        slope, own = mask
        return -slope * tl.abs(i + own - j).to(tl.float32)
    else:
        ptr, stride_s, stride_t = mask
        there = (i < S) & (j < T) if MASKED else i < S
        return tl.load(ptr + i.to(tl.int64) * stride_s + j.to(tl.int64) * stride_t, mask=there, other=0)


@triton.jit
def tanh(x):
    """tanh x to 3e-7 of itself, with exact exponentials: by an odd polynomial near 0, where the other way would cancel."""
    z = x * x
    near = x + x * z * (-0.33332341 + z * (0.13308175 + z * (-0.0519479 + z * 0.01519537)))
    far = 1.0 - 2.0 / (tl.exp2(x * 2.8853900817779268) + 1.0)
    return tl.where(z < 0.390625, near, far)


@triton.jit
def probability(
    score, scale, shift, cap, mask, i, j, S, T,
    dtype: tl.constexpr, CAPPED: tl.constexpr, MASK: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """(P, slope of the soft cap) of a tile of scores, before any comparison of rows and keys; arguments as in the forward pass."""
    slope = 1.0
    if CAPPED:
        score = tanh(score * cap)
        slope = 1.0 - score * score
    if MASK == NO_MASK:
        p = exponential(score, scale, shift, dtype)
    else:
        given = mask_tile(mask, i, j, S, T, MASK, MASKED)
        if MASK == BOOL_MASK:
            p = tl.where(given != 0, exponential(score, scale, shift, dtype), 0.0)
        else:
            p = exponential(tl.fma(score, scale, given.to(tl.float32)), 1.0, shift, tl.float32)
    return p, slope


@triton.jit
def kept(dropout, key, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Which weights dropout leaves, [BLOCK_M, BLOCK_N] bool, for the keys from ``key``, a multiple of 4, on.

    dropout is (each row's first Philox block, the seed, the largest word that is dropped as int32 bits).
    """
    first, seed, last_dropped = dropout
    block = first[:, None] + (key // 4 + tl.arange(0, BLOCK_N // 4))[None, :]
    zero = tl.full([], 0, tl.uint32)
    w0, w1, w2, w3 = philox4x32_10(
        (block & 0xFFFFFFFF).to(tl.uint32), (block >> 32).to(tl.uint32), zero, zero,
        (seed & 0xFFFFFFFF).to(tl.uint32), (seed >> 32 & 0xFFFFFFFF).to(tl.uint32),
    )  # fmt: skip
    last = last_dropped.to(tl.uint32, bitcast=True)
    even = tl.interleave((w0 > last).to(tl.int8), (w2 > last).to(tl.int8))
    odd = tl.interleave((w1 > last).to(tl.int8), (w3 > last).to(tl.int8))
    return tl.interleave(even, odd) != 0
