"""Triton kernel of the attention forward pass: online softmax over key blocks, one program per block of query rows.

FlashAttention-2 (Dao 2023, arXiv:2307.08691, algorithm 1). Key blocks that no mask touches are done first by a loop without
comparisons; the diagonal and the last, partial block follow. The scale is positive: maxima and masks come before it.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# (a kernel's parameters are Triton's own types, which Python does not check)

from __future__ import annotations

import triton
import triton.language as tl

from aieng_kernels.attention.triton_tiles import dot_rows, exponent_scale, exponential, load_rows, natural_lse, power, store_rows


@triton.jit
def _attend(
    acc, row_sum, row_max, q, q_ptr, k_ptr, v_ptr, stride_qs, stride_kt, stride_vt, rows, lo, hi, S, T, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, CHUNK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Fold the keys lo..hi into the running (acc, row_sum, row_max); MASKED compares columns with T and, if CAUSAL, with rows."""
    for start in range(lo, hi, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        if CHUNK == BLOCK_D:
            k = load_rows(k_ptr, columns, stride_kt, T, 0, D, BLOCK_D, MASKED)
            score = tl.dot(q, tl.trans(k), input_precision="ieee")
        else:
            score = dot_rows(q_ptr, rows, stride_qs, S, k_ptr, columns, stride_kt, T, BLOCK_M, BLOCK_N, D, BLOCK_D, CHUNK)
        if MASKED:
            bound = tl.minimum(rows, T - 1) if CAUSAL else rows * 0 + (T - 1)
            score = tl.where(columns[None, :] <= bound[:, None], score, float("-inf"))
        new_max = tl.maximum(row_max, tl.max(score, 1) * scale)
        # A row whose scores are all -inf so far would give -inf - -inf; any finite number in its place keeps its sum at 0.
        finite = tl.where(new_max == float("-inf"), 0.0, new_max)
        p = exponential(score, scale, finite[:, None], q_ptr.dtype.element_ty)
        shrink = power(row_max - finite, q_ptr.dtype.element_ty)
        row_sum = row_sum * shrink + tl.sum(p, 1)
        v = load_rows(v_ptr, columns, stride_vt, T, 0, D, BLOCK_D, MASKED)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
        row_max = new_max
    return acc, row_sum, row_max


@triton.jit(do_not_specialize=["H", "S", "T", "bucket"])
def forward_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr,
    stride_qb, stride_qh, stride_qs, stride_kb, stride_kh, stride_kt, stride_vb, stride_vh, stride_vt,
    stride_ob, stride_oh, stride_os, H, S, T, scale, bucket,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, CAUSAL: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """out = softmax(scale·q·kᵀ)·v and lse (contiguous) for BLOCK_M rows of one head; ``bucket`` only keys the autotuner."""
    blocks = tl.cdiv(S, BLOCK_M)
    block = tl.program_id(0) % blocks
    if CAUSAL:
        block = blocks - 1 - block  # the rows with most keys start first
    head = (tl.program_id(0) // blocks).to(tl.int64)
    b, h = head // H, head % H
    q_ptr += (b * stride_qb + h * stride_qh) * 8
    k_ptr += (b * stride_kb + h // GROUP * stride_kh) * 8
    v_ptr += (b * stride_vb + h // GROUP * stride_vh) * 8
    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    q = load_rows(q_ptr, rows, stride_qs, S, 0, D, BLOCK_D, True)

    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    row_sum = tl.zeros([BLOCK_M], tl.float32)
    row_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    last = tl.minimum(T, (block + 1) * BLOCK_M) if CAUSAL else T
    free = (tl.minimum(T, block * BLOCK_M) if CAUSAL else T) // BLOCK_N * BLOCK_N
    scale = exponent_scale(scale, q_ptr.dtype.element_ty)
    acc, row_sum, row_max = _attend(
        acc, row_sum, row_max, q, q_ptr, k_ptr, v_ptr, stride_qs, stride_kt, stride_vt, rows, 0, free, S, T, scale,
        D, BLOCK_D, CHUNK, BLOCK_M, BLOCK_N, CAUSAL, False,
    )  # fmt: skip
    acc, row_sum, row_max = _attend(
        acc, row_sum, row_max, q, q_ptr, k_ptr, v_ptr, stride_qs, stride_kt, stride_vt, rows, free, last, S, T, scale,
        D, BLOCK_D, CHUNK, BLOCK_M, BLOCK_N, CAUSAL, True,
    )  # fmt: skip
    total = tl.where(row_sum == 0.0, 1.0, row_sum)
    tl.store(lse_ptr + head * S + rows, natural_lse(row_max, total, q_ptr.dtype.element_ty), mask=rows < S)
    acc = acc / total[:, None] if q_ptr.dtype.element_ty == tl.float32 else acc * (1.0 / total)[:, None]
    store_rows(out_ptr + (b * stride_ob + h * stride_oh) * 8, rows, stride_os, S, acc, D, BLOCK_D)
