"""Triton kernels of the attention backward pass: the statistics of each row, then dk and dv by key block, then dq by query block.

With δ = rowsum(out∘dout) and P = exp(scale·q·kᵀ − lse):
dv = Pᵀ·dout,  dS = P∘(dout·vᵀ − δ),  dq = scale·dS·k,  dk = scale·dSᵀ·q.
FlashAttention-2 (Dao 2023, arXiv:2307.08691, algorithm 2) in two passes: every result has one writer, so there are no atomics
and the same bits come each time; the heads of a group are summed in registers.

The statistics δ and lse, in the exponent's base, lie in scratch rows of S rounded up: beyond S, lse = +inf makes P zero with no
comparison.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# (a kernel's parameters are Triton's own types, which Python does not check)

from __future__ import annotations

import triton
import triton.language as tl

from aieng_kernels.attention.triton_tiles import based_lse, dot_rows, exponent_scale, exponential, load_rows, store_rows


@triton.jit(do_not_specialize=["H", "S"])
def statistics_kernel(
    out_ptr, dout_ptr, lse_ptr, delta_ptr, shift_ptr, stride_ob, stride_oh, stride_os, stride_gb, stride_gh, stride_gs, H, S, P,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """delta[b, h, s] = Σ_d out·dout and shift = lse in the exponent's base for BLOCK_M rows of one head, 0 and +inf beyond S."""
    blocks = P // BLOCK_M
    head = (tl.program_id(0) // blocks).to(tl.int64)
    b, h = head // H, head % H
    rows = tl.program_id(0) % blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    out = load_rows(out_ptr + (b * stride_ob + h * stride_oh) * 8, rows, stride_os, S, 0, D, BLOCK_D, True)
    dout = load_rows(dout_ptr + (b * stride_gb + h * stride_gh) * 8, rows, stride_gs, S, 0, D, BLOCK_D, True)
    tl.store(delta_ptr + head * P + rows, tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1))
    lse = tl.load(lse_ptr + head * S + rows, mask=rows < S, other=float("inf"))
    # A row that saw no key has lse -inf and no gradient.
    shift = tl.where(lse == float("-inf"), float("inf"), based_lse(lse, out_ptr.dtype.element_ty))
    tl.store(shift_ptr + head * P + rows, shift)


@triton.jit(do_not_specialize=["H", "S", "T", "bucket"])
def dkdv_kernel(
    q_ptr, k_ptr, v_ptr, dout_ptr, delta_ptr, shift_ptr, dk_ptr, dv_ptr,
    stride_qb, stride_qh, stride_qs, stride_kb, stride_kh, stride_kt, stride_vb, stride_vh, stride_vt,
    stride_gb, stride_gh, stride_gs,
    H, S, T, P, scale, bucket, GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, CAUSAL: tl.constexpr,
    WANT_DK: tl.constexpr, WANT_DV: tl.constexpr, CHUNK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """dk and dv (contiguous; one of them where both would not fit in the registers) for BLOCK_N keys, over GROUP query heads."""
    blocks = tl.cdiv(T, BLOCK_N)
    block = tl.program_id(0) % blocks
    kv_head = (tl.program_id(0) // blocks).to(tl.int64)
    b, hk = kv_head // (H // GROUP), kv_head % (H // GROUP)
    k_ptr += (b * stride_kb + hk * stride_kh) * 8
    v_ptr += (b * stride_vb + hk * stride_vh) * 8
    columns = block * BLOCK_N + tl.arange(0, BLOCK_N)
    k = load_rows(k_ptr, columns, stride_kt, T, 0, D, BLOCK_D, True)
    v = load_rows(v_ptr, columns, stride_vt, T, 0, D, BLOCK_D, True)
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    factor = exponent_scale(scale, q_ptr.dtype.element_ty)
    for member in range(GROUP):
        h = hk * GROUP + member
        q_head = q_ptr + (b * stride_qb + h * stride_qh) * 8
        dout_head = dout_ptr + (b * stride_gb + h * stride_gh) * 8
        statistics = (b * H + h) * P
        # One loop, compared throughout if CAUSAL: a second, free one would hold the accumulators twice and spill.
        for start in range(block * BLOCK_N // BLOCK_M * BLOCK_M if CAUSAL else 0, S, BLOCK_M):
            rows = start + tl.arange(0, BLOCK_M)
            q = load_rows(q_head, rows, stride_qs, S, 0, D, BLOCK_D, True)
            dout = load_rows(dout_head, rows, stride_gs, S, 0, D, BLOCK_D, True)
            if CHUNK == BLOCK_D:
                score = tl.dot(k, tl.trans(q), input_precision="ieee")
            else:
                score = dot_rows(k_ptr, columns, stride_kt, T, q_head, rows, stride_qs, S, BLOCK_N, BLOCK_M, D, BLOCK_D, CHUNK)
            # Columns beyond T hold anything: they only reach rows of dk and dv that are not stored.
            p = exponential(score, factor, tl.load(shift_ptr + statistics + rows)[None, :], q_ptr.dtype.element_ty)
            if CAUSAL:
                p = tl.where(rows[None, :] >= columns[:, None], p, 0.0)
            if WANT_DV:
                dv = tl.dot(p.to(dout.dtype), dout, dv, input_precision="ieee")
            if WANT_DK:
                if CHUNK == BLOCK_D:
                    dp = tl.dot(v, tl.trans(dout), input_precision="ieee")
                else:
                    dp = dot_rows(v_ptr, columns, stride_vt, T, dout_head, rows, stride_gs, S, BLOCK_N, BLOCK_M, D, BLOCK_D, CHUNK)
                ds = p * (dp - tl.load(delta_ptr + statistics + rows)[None, :])
                dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")
    if WANT_DK:
        store_rows(dk_ptr + kv_head * T * D, columns, D // 8, T, dk * scale, D, BLOCK_D)
    if WANT_DV:
        store_rows(dv_ptr + kv_head * T * D, columns, D // 8, T, dv, D, BLOCK_D)


@triton.jit
def _gather(
    dq, q, dout, shift, delta, q_ptr, k_ptr, v_ptr, dout_ptr, stride_qs, stride_kt, stride_vt, stride_gs,
    rows, lo, hi, S, T, factor,
    D: tl.constexpr, BLOCK_D: tl.constexpr, CHUNK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add what the keys lo..hi give to dq/scale; MASKED compares columns with T and, if CAUSAL, with rows."""
    for start in range(lo, hi, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        k = load_rows(k_ptr, columns, stride_kt, T, 0, D, BLOCK_D, MASKED)
        if CHUNK == BLOCK_D:
            v = load_rows(v_ptr, columns, stride_vt, T, 0, D, BLOCK_D, MASKED)
            score = tl.dot(q, tl.trans(k), input_precision="ieee")
            dp = tl.dot(dout, tl.trans(v), input_precision="ieee")
        else:
            score = dot_rows(q_ptr, rows, stride_qs, S, k_ptr, columns, stride_kt, T, BLOCK_M, BLOCK_N, D, BLOCK_D, CHUNK)
            dp = dot_rows(dout_ptr, rows, stride_gs, S, v_ptr, columns, stride_vt, T, BLOCK_M, BLOCK_N, D, BLOCK_D, CHUNK)
        p = exponential(score, factor, shift[:, None], q_ptr.dtype.element_ty)
        if MASKED:
            # Where lse is very negative, p overflows beyond T, and inf·0 would be NaN.
            keep = (columns < T)[None, :]
            if CAUSAL:
                keep = keep & (rows[:, None] >= columns[None, :])
            p = tl.where(keep, p, 0.0)
        ds = p * (dp - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee")
    return dq


@triton.jit(do_not_specialize=["H", "S", "T", "bucket"])
def dq_kernel(
    q_ptr, k_ptr, v_ptr, dout_ptr, delta_ptr, shift_ptr, dq_ptr,
    stride_qb, stride_qh, stride_qs, stride_kb, stride_kh, stride_kt, stride_vb, stride_vh, stride_vt,
    stride_gb, stride_gh, stride_gs,
    H, S, T, P, scale, bucket, GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, CAUSAL: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """dq (contiguous) for BLOCK_M rows of one head."""
    blocks = tl.cdiv(S, BLOCK_M)
    block = tl.program_id(0) % blocks
    if CAUSAL:
        block = blocks - 1 - block  # the rows with most keys start first
    head = (tl.program_id(0) // blocks).to(tl.int64)
    b, h = head // H, head % H
    q_ptr += (b * stride_qb + h * stride_qh) * 8
    k_ptr += (b * stride_kb + h // GROUP * stride_kh) * 8
    v_ptr += (b * stride_vb + h // GROUP * stride_vh) * 8
    dout_ptr += (b * stride_gb + h * stride_gh) * 8
    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    q = load_rows(q_ptr, rows, stride_qs, S, 0, D, BLOCK_D, True)
    dout = load_rows(dout_ptr, rows, stride_gs, S, 0, D, BLOCK_D, True)
    shift = tl.load(shift_ptr + head * P + rows)
    delta = tl.load(delta_ptr + head * P + rows)
    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    last = tl.minimum(T, (block + 1) * BLOCK_M) if CAUSAL else T
    free = (tl.minimum(T, block * BLOCK_M) if CAUSAL else T) // BLOCK_N * BLOCK_N
    factor = exponent_scale(scale, q_ptr.dtype.element_ty)
    dq = _gather(
        dq, q, dout, shift, delta, q_ptr, k_ptr, v_ptr, dout_ptr, stride_qs, stride_kt, stride_vt, stride_gs,
        rows, 0, free, S, T, factor, D, BLOCK_D, CHUNK, BLOCK_M, BLOCK_N, CAUSAL, False,
    )  # fmt: skip
    dq = _gather(
        dq, q, dout, shift, delta, q_ptr, k_ptr, v_ptr, dout_ptr, stride_qs, stride_kt, stride_vt, stride_gs,
        rows, free, last, S, T, factor, D, BLOCK_D, CHUNK, BLOCK_M, BLOCK_N, CAUSAL, True,
    )  # fmt: skip
    store_rows(dq_ptr + head * S * D, rows, D // 8, S, dq * scale, D, BLOCK_D)
