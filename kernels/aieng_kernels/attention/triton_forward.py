"""Triton kernel of the attention forward pass: online softmax over key blocks, one program per block of query rows.

FlashAttention-2 (Dao 2023, arXiv:2307.08691, algorithm 1). Key blocks that every row sees whole are done first by a loop without
comparisons; those at the sides of what the rows see and the last, partial block follow. What multiplies the scores is positive:
maxima and masks come before it.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# (a kernel's parameters are Triton's own types, which Python does not check)

from __future__ import annotations

import triton
import triton.language as tl

from aieng_kernels.attention.triton_options import (
    ADDED_MASK,
    BOOL_MASK,
    NO_MASK,
    UNSPECIALIZED,
    extents,
    kept,
    keys_of_rows,
    mask_of,
    mask_tile,
    over,
    sides,
    tanh,
)
from aieng_kernels.attention.triton_tiles import dot_rows, exponent_scale, exponential, load_rows, natural_lse, power, store_rows


@triton.jit
def _attend(
    acc, row_sum, row_max, q, q_ptr, k_ptr, v_ptr, stride_qs, stride_kt, stride_vt, rows, lo, hi, S, T, scale,
    window, cap, mask, dropout,
    D: tl.constexpr, BLOCK_D: tl.constexpr, CHUNK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, CAPPED: tl.constexpr, MASK: tl.constexpr, DROPOUT: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """Fold the keys lo..hi into the running (acc, row_sum, row_max); MASKED compares columns with T and, if asked, with rows.

    window is (behind, ahead, free, bound); cap the factor on scores before tanh, ``scale`` being the factor after it.
    """
    behind, ahead, free, bound = window
    base: tl.constexpr = tl.float32 if MASK >= ADDED_MASK else q_ptr.dtype.element_ty
    for step in range(lo, hi, BLOCK_N):
        start = over(step, free, bound) if WINDOW and MASKED else step
        columns = start + tl.arange(0, BLOCK_N)
        if CHUNK == BLOCK_D:
            k = load_rows(k_ptr, columns, stride_kt, T, 0, D, BLOCK_D, MASKED)
            score = tl.dot(q, tl.trans(k), input_precision="ieee")
        else:
            score = dot_rows(q_ptr, rows, stride_qs, S, k_ptr, columns, stride_kt, T, BLOCK_M, BLOCK_N, D, BLOCK_D, CHUNK)
        if CAPPED:
            score = tanh(score * cap)
        factor = scale
        if MASK != NO_MASK:
            given = mask_tile(mask, rows[:, None], columns[None, :], S, T, MASK, MASKED)
            if MASK == BOOL_MASK:
                score = tl.where(given != 0, score, float("-inf"))
            else:
                score = tl.fma(score, scale, given.to(tl.float32))
                factor = 1.0
        if MASKED:
            reach = rows + ahead if WINDOW else rows
            last = tl.minimum(reach, T - 1) if CAUSAL or WINDOW else rows * 0 + (T - 1)
            score = tl.where(columns[None, :] <= last[:, None], score, float("-inf"))
            if WINDOW:
                score = tl.where(columns[None, :] >= (rows + behind)[:, None], score, float("-inf"))
        new_max = tl.maximum(row_max, tl.max(score, 1) * factor)
        # A row whose scores are all -inf so far would give -inf - -inf; any finite number in its place keeps its sum at 0.
        finite = tl.where(new_max == float("-inf"), 0.0, new_max)
        p = exponential(score, factor, finite[:, None], base)
        shrink = power(row_max - finite, base)
        row_sum = row_sum * shrink + tl.sum(p, 1)
        if DROPOUT:
            p = tl.where(kept(dropout, start, BLOCK_M, BLOCK_N), p, 0.0)
        v = load_rows(v_ptr, columns, stride_vt, T, 0, D, BLOCK_D, MASKED)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
        row_max = new_max
    return acc, row_sum, row_max


@triton.jit(do_not_specialize=UNSPECIALIZED)
def forward_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr,
    stride_qb, stride_qh, stride_qs, stride_kb, stride_kh, stride_kt, stride_vb, stride_vh, stride_vt,
    stride_ob, stride_oh, stride_os, H, S, T, scale, bucket,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, CAUSAL: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    softcap=None, mask_ptr=None, stride_mb=None, stride_mh=None, stride_ms=None, stride_mt=None,
    seed_ptr=None, last_dropped=None, undropped=None, q_starts_ptr=None, k_starts_ptr=None, k_lengths_ptr=None,
    longest_q=None, longest_k=None, left=None, right=None, bottom=None,
    WINDOW: tl.constexpr = False, CAPPED: tl.constexpr = False, MASK: tl.constexpr = 0, DROPOUT: tl.constexpr = False,
    VARLEN: tl.constexpr = False, LENGTHS: tl.constexpr = False,
):  # fmt: skip
    """out = softmax(scale·q·kᵀ)·v and lse (contiguous) for BLOCK_M rows of one head; ``bucket`` only keys the autotuner."""
    blocks = tl.cdiv(longest_q if VARLEN else S, BLOCK_M)
    block = tl.program_id(0) % blocks
    if CAUSAL or WINDOW:
        block = blocks - 1 - block  # the rows with most keys start first
    head = (tl.program_id(0) // blocks).to(tl.int64)
    b, h = head // H, head % H
    whole = S
    b, first_q, first_k, S, T = extents(b, S, T, q_starts_ptr, k_starts_ptr, k_lengths_ptr, VARLEN, LENGTHS)
    if VARLEN and block * BLOCK_M >= S:
        return
    q_ptr += (b * stride_qb + h * stride_qh + first_q * stride_qs) * 8
    k_ptr += (b * stride_kb + h // GROUP * stride_kh + first_k * stride_kt) * 8
    v_ptr += (b * stride_vb + h // GROUP * stride_vh + first_k * stride_vt) * 8
    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    q = load_rows(q_ptr, rows, stride_qs, S, 0, D, BLOCK_D, True)

    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    row_sum = tl.zeros([BLOCK_M], tl.float32)
    row_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    behind, ahead = sides(S, T, left, right, bottom, WINDOW)
    free, bound, lo, hi = keys_of_rows(block, S, T, behind, ahead, BLOCK_M, BLOCK_N, CAUSAL, WINDOW)
    window, cap = (behind, ahead, free, bound), 0.0
    if CAPPED:
        cap = scale / softcap
        scale = softcap
    base: tl.constexpr = tl.float32 if MASK >= ADDED_MASK else q_ptr.dtype.element_ty
    scale = exponent_scale(scale, base)
    mask = mask_of(mask_ptr, head, b, h, S, T, stride_mb, stride_mh, stride_ms, stride_mt, MASK)
    dropout = ((head * longest_q + rows) * tl.cdiv(longest_k, 4), tl.load(seed_ptr), last_dropped) if DROPOUT else 0
    acc, row_sum, row_max = _attend(
        acc, row_sum, row_max, q, q_ptr, k_ptr, v_ptr, stride_qs, stride_kt, stride_vt, rows, free, bound, S, T, scale,
        window, cap, mask, dropout, D, BLOCK_D, CHUNK, BLOCK_M, BLOCK_N, CAUSAL, WINDOW, CAPPED, MASK, DROPOUT, False,
    )  # fmt: skip
    acc, row_sum, row_max = _attend(
        acc, row_sum, row_max, q, q_ptr, k_ptr, v_ptr, stride_qs, stride_kt, stride_vt, rows, lo, hi, S, T, scale,
        window, cap, mask, dropout, D, BLOCK_D, CHUNK, BLOCK_M, BLOCK_N, CAUSAL, WINDOW, CAPPED, MASK, DROPOUT, True,
    )  # fmt: skip
    total = tl.where(row_sum == 0.0, 1.0, row_sum)
    place = (h if VARLEN else head) * whole + first_q
    tl.store(lse_ptr + place + rows, natural_lse(row_max, total, base), mask=rows < S)
    acc = acc / total[:, None] if q_ptr.dtype.element_ty == tl.float32 else acc * (1.0 / total)[:, None]
    if DROPOUT:
        acc *= undropped
    store_rows(out_ptr + (b * stride_ob + h * stride_oh + first_q * stride_os) * 8, rows, stride_os, S, acc, D, BLOCK_D)
