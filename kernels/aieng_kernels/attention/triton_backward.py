"""Triton kernels of the attention backward pass: the statistics of each row, then dk and dv by key block, then dq by query block.

With δ = rowsum(out∘dout) and P = exp(scale·q·kᵀ − lse):
dv = Pᵀ·dout,  dS = P∘(dout·vᵀ − δ),  dq = scale·dS·k,  dk = scale·dSᵀ·q.
FlashAttention-2 (Dao 2023, arXiv:2307.08691, algorithm 2) in two passes: every result has one writer, so there are no atomics
and the same bits come each time; the heads of a group are summed in registers.

With the slope 1 − tanh² of a soft cap, dS has it as a factor; with dropout Z, of 0 and 1/(1 − dropout), dv = (P∘Z)ᵀ·dout and
dS = P∘((dout·vᵀ)∘Z − δ), δ being the same.

The statistics δ and lse, in the exponent's base, lie in scratch rows of S rounded up: beyond S, lse = +inf makes P zero with no
comparison.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# (a kernel's parameters are Triton's own types, which Python does not check)

from __future__ import annotations

import triton
import triton.language as tl

from aieng_kernels.attention.triton_options import (
    ADDED_MASK,
    UNSPECIALIZED,
    extents,
    kept,
    keys_of_rows,
    mask_of,
    over,
    probability,
    rows_of_keys,
    sides,
)
from aieng_kernels.attention.triton_tiles import based_lse, dot_rows, exponent_scale, load_rows, store_rows


@triton.jit(do_not_specialize=["H", "S"])
def statistics_kernel(
    out_ptr, dout_ptr, lse_ptr, delta_ptr, shift_ptr, stride_ob, stride_oh, stride_os, stride_gb, stride_gh, stride_gs, H, S, P,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, NATURAL: tl.constexpr = False,
):  # fmt: skip
    """delta[b, h, s] = Σ_d out·dout and shift = lse in the exponent's base (e if NATURAL) for BLOCK_M rows, 0 and +inf beyond S."""
    blocks = P // BLOCK_M
    head = (tl.program_id(0) // blocks).to(tl.int64)
    b, h = head // H, head % H
    rows = tl.program_id(0) % blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    out = load_rows(out_ptr + (b * stride_ob + h * stride_oh) * 8, rows, stride_os, S, 0, D, BLOCK_D, True)
    dout = load_rows(dout_ptr + (b * stride_gb + h * stride_gh) * 8, rows, stride_gs, S, 0, D, BLOCK_D, True)
    tl.store(delta_ptr + head * P + rows, tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1))
    lse = tl.load(lse_ptr + head * S + rows, mask=rows < S, other=float("inf"))
    # A row that saw no key has lse -inf and no gradient.
    base: tl.constexpr = tl.float32 if NATURAL else out_ptr.dtype.element_ty
    shift = tl.where(lse == float("-inf"), float("inf"), based_lse(lse, base))
    tl.store(shift_ptr + head * P + rows, shift)


@triton.jit(do_not_specialize=UNSPECIALIZED)
def dkdv_kernel(
    q_ptr, k_ptr, v_ptr, dout_ptr, delta_ptr, shift_ptr, dk_ptr, dv_ptr,
    stride_qb, stride_qh, stride_qs, stride_kb, stride_kh, stride_kt, stride_vb, stride_vh, stride_vt,
    stride_gb, stride_gh, stride_gs,
    H, S, T, P, scale, bucket, GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, CAUSAL: tl.constexpr,
    WANT_DK: tl.constexpr, WANT_DV: tl.constexpr, CHUNK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    softcap=None, mask_ptr=None, stride_mb=None, stride_mh=None, stride_ms=None, stride_mt=None,
    seed_ptr=None, last_dropped=None, undropped=None, q_starts_ptr=None, k_starts_ptr=None, k_lengths_ptr=None,
    longest_q=None, longest_k=None, left=None, right=None, bottom=None,
    WINDOW: tl.constexpr = False, CAPPED: tl.constexpr = False, MASK: tl.constexpr = 0, DROPOUT: tl.constexpr = False,
    VARLEN: tl.constexpr = False, LENGTHS: tl.constexpr = False,
):  # fmt: skip
    """dk and dv (contiguous; one of them where both would not fit in the registers) for BLOCK_N keys, over GROUP query heads."""
    blocks = tl.cdiv(longest_k if VARLEN else T, BLOCK_N)
    block = tl.program_id(0) % blocks
    kv_head = (tl.program_id(0) // blocks).to(tl.int64)
    sequence, hk = kv_head // (H // GROUP), kv_head % (H // GROUP)
    room = T
    b, first_q, first_k, S, T = extents(sequence, S, T, q_starts_ptr, k_starts_ptr, k_lengths_ptr, VARLEN, LENGTHS)
    if VARLEN and block * BLOCK_N >= T:
        return
    k_ptr += (b * stride_kb + hk * stride_kh + first_k * stride_kt) * 8
    v_ptr += (b * stride_vb + hk * stride_vh + first_k * stride_vt) * 8
    columns = block * BLOCK_N + tl.arange(0, BLOCK_N)
    k = load_rows(k_ptr, columns, stride_kt, T, 0, D, BLOCK_D, True)
    v = load_rows(v_ptr, columns, stride_vt, T, 0, D, BLOCK_D, True)
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    behind, ahead = sides(S, T, left, right, bottom, WINDOW)
    first, last = rows_of_keys(block * BLOCK_N, S, T, behind, ahead, BLOCK_M, BLOCK_N, CAUSAL, WINDOW, LENGTHS)
    base: tl.constexpr = tl.float32 if MASK >= ADDED_MASK else q_ptr.dtype.element_ty
    cap = 0.0
    factor = exponent_scale(scale, base)
    if CAPPED:
        cap = scale / softcap
        factor = exponent_scale(softcap, base)
    for member in range(GROUP):
        h = hk * GROUP + member
        q_head = q_ptr + (b * stride_qb + h * stride_qh + first_q * stride_qs) * 8
        dout_head = dout_ptr + (b * stride_gb + h * stride_gh + first_q * stride_gs) * 8
        statistics = (b * H + h) * P + first_q
        mask = mask_of(mask_ptr, sequence * H + h, b, h, S, T, stride_mb, stride_mh, stride_ms, stride_mt, MASK)
        # One loop, compared throughout if rows bound keys: a second, free one would hold the accumulators twice and spill.
        for start in range(first, last, BLOCK_M):
            rows = start + tl.arange(0, BLOCK_M)
            q = load_rows(q_head, rows, stride_qs, S, 0, D, BLOCK_D, True)
            dout = load_rows(dout_head, rows, stride_gs, S, 0, D, BLOCK_D, True)
            if CHUNK == BLOCK_D:
                score = tl.dot(k, tl.trans(q), input_precision="ieee")
            else:
                score = dot_rows(k_ptr, columns, stride_kt, T, q_head, rows, stride_qs, S, BLOCK_N, BLOCK_M, D, BLOCK_D, CHUNK)
            # Columns beyond T hold anything: they only reach rows of dk and dv that are not stored.
            shift = _statistic(shift_ptr + statistics, rows, S, float("inf"), VARLEN)
            p, slope = probability(
                score, factor, shift[None, :], cap, mask, rows[None, :], columns[:, None], S, T, base, CAPPED, MASK, True
            )  # fmt: skip
            if CAUSAL:
                p = tl.where(rows[None, :] >= columns[:, None], p, 0.0)
            if WINDOW:
                p = tl.where(columns[:, None] <= (rows + ahead)[None, :], p, 0.0)
                p = tl.where(columns[:, None] >= (rows + behind)[None, :], p, 0.0)
            if LENGTHS:  # where such rows are stored
                p = tl.where((columns < T)[:, None], p, 0.0)
            drawn = p
            if DROPOUT:
                counters = ((sequence * H + h) * longest_q + rows) * tl.cdiv(longest_k, 4)
                keep = tl.trans(kept((counters, tl.load(seed_ptr), last_dropped), block * BLOCK_N, BLOCK_M, BLOCK_N))
                drawn = tl.where(keep, p, 0.0)
            if WANT_DV:
                dv = tl.dot(drawn.to(dout.dtype), dout, dv, input_precision="ieee")
            if WANT_DK:
                if CHUNK == BLOCK_D:
                    dp = tl.dot(v, tl.trans(dout), input_precision="ieee")
                else:
                    dp = dot_rows(v_ptr, columns, stride_vt, T, dout_head, rows, stride_gs, S, BLOCK_N, BLOCK_M, D, BLOCK_D, CHUNK)
                if DROPOUT:
                    dp = tl.where(keep, dp * undropped, 0.0)
                ds = p * (dp - _statistic(delta_ptr + statistics, rows, S, 0.0, VARLEN)[None, :])
                if CAPPED:
                    ds *= slope
                dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")
    place = ((hk if VARLEN else kv_head) * room + first_k) * D
    limit = room if LENGTHS else T
    if WANT_DK:
        store_rows(dk_ptr + place, columns, D // 8, limit, dk * scale, D, BLOCK_D)
    if WANT_DV:
        if DROPOUT:
            dv *= undropped
        store_rows(dv_ptr + place, columns, D // 8, limit, dv, D, BLOCK_D)


@triton.jit
def _statistic(ptr, rows, S, other, VARLEN: tl.constexpr):
    """Statistics of rows; where other sequences follow, ``other`` beyond the last row, as there is elsewhere in memory."""
    return tl.load(ptr + rows, mask=rows < S, other=other) if VARLEN else tl.load(ptr + rows)


@triton.jit
def _gather(
    dq, q, dout, shift, delta, q_ptr, k_ptr, v_ptr, dout_ptr, stride_qs, stride_kt, stride_vt, stride_gs,
    rows, lo, hi, S, T, factor, window, cap, mask, dropout, undropped,
    D: tl.constexpr, BLOCK_D: tl.constexpr, CHUNK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, CAPPED: tl.constexpr, MASK: tl.constexpr, DROPOUT: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """Add what the keys lo..hi give to dq/scale; MASKED and the options as in the forward pass."""
    behind, ahead, free, bound = window
    base: tl.constexpr = tl.float32 if MASK >= ADDED_MASK else q_ptr.dtype.element_ty
    for step in range(lo, hi, BLOCK_N):
        start = over(step, free, bound) if WINDOW and MASKED else step
        columns = start + tl.arange(0, BLOCK_N)
        k = load_rows(k_ptr, columns, stride_kt, T, 0, D, BLOCK_D, MASKED)
        if CHUNK == BLOCK_D:
            v = load_rows(v_ptr, columns, stride_vt, T, 0, D, BLOCK_D, MASKED)
            score = tl.dot(q, tl.trans(k), input_precision="ieee")
            dp = tl.dot(dout, tl.trans(v), input_precision="ieee")
        else:
            score = dot_rows(q_ptr, rows, stride_qs, S, k_ptr, columns, stride_kt, T, BLOCK_M, BLOCK_N, D, BLOCK_D, CHUNK)
            dp = dot_rows(dout_ptr, rows, stride_gs, S, v_ptr, columns, stride_vt, T, BLOCK_M, BLOCK_N, D, BLOCK_D, CHUNK)
        p, slope = probability(
            score, factor, shift[:, None], cap, mask, rows[:, None], columns[None, :], S, T, base, CAPPED, MASK, MASKED
        )  # fmt: skip
        if MASKED:
            # Where lse is very negative, p overflows beyond T, and inf·0 would be NaN.
            keep = (columns < T)[None, :]
            if CAUSAL:
                keep = keep & (rows[:, None] >= columns[None, :])
            if WINDOW:
                keep = keep & (columns[None, :] <= (rows + ahead)[:, None]) & (columns[None, :] >= (rows + behind)[:, None])
            p = tl.where(keep, p, 0.0)
        if DROPOUT:
            dp = tl.where(kept(dropout, start, BLOCK_M, BLOCK_N), dp * undropped, 0.0)
        ds = p * (dp - delta[:, None])
        if CAPPED:
            ds *= slope
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee")
    return dq


@triton.jit(do_not_specialize=UNSPECIALIZED)
def dq_kernel(
    q_ptr, k_ptr, v_ptr, dout_ptr, delta_ptr, shift_ptr, dq_ptr,
    stride_qb, stride_qh, stride_qs, stride_kb, stride_kh, stride_kt, stride_vb, stride_vh, stride_vt,
    stride_gb, stride_gh, stride_gs,
    H, S, T, P, scale, bucket, GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, CAUSAL: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    softcap=None, mask_ptr=None, stride_mb=None, stride_mh=None, stride_ms=None, stride_mt=None,
    seed_ptr=None, last_dropped=None, undropped=None, q_starts_ptr=None, k_starts_ptr=None, k_lengths_ptr=None,
    longest_q=None, longest_k=None, left=None, right=None, bottom=None,
    WINDOW: tl.constexpr = False, CAPPED: tl.constexpr = False, MASK: tl.constexpr = 0, DROPOUT: tl.constexpr = False,
    VARLEN: tl.constexpr = False, LENGTHS: tl.constexpr = False,
):  # fmt: skip
    """dq (contiguous) for BLOCK_M rows of one head."""
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
    dout_ptr += (b * stride_gb + h * stride_gh + first_q * stride_gs) * 8
    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    q = load_rows(q_ptr, rows, stride_qs, S, 0, D, BLOCK_D, True)
    dout = load_rows(dout_ptr, rows, stride_gs, S, 0, D, BLOCK_D, True)
    statistics = (h if VARLEN else head) * P + first_q
    shift = _statistic(shift_ptr + statistics, rows, S, float("inf"), VARLEN)
    delta = _statistic(delta_ptr + statistics, rows, S, 0.0, VARLEN)
    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    behind, ahead = sides(S, T, left, right, bottom, WINDOW)
    free, bound, lo, hi = keys_of_rows(block, S, T, behind, ahead, BLOCK_M, BLOCK_N, CAUSAL, WINDOW)
    window, cap = (behind, ahead, free, bound), 0.0
    base: tl.constexpr = tl.float32 if MASK >= ADDED_MASK else q_ptr.dtype.element_ty
    factor = exponent_scale(scale, base)
    if CAPPED:
        cap = scale / softcap
        factor = exponent_scale(softcap, base)
    mask = mask_of(mask_ptr, head, b, h, S, T, stride_mb, stride_mh, stride_ms, stride_mt, MASK)
    dropout = ((head * longest_q + rows) * tl.cdiv(longest_k, 4), tl.load(seed_ptr), last_dropped) if DROPOUT else 0
    dq = _gather(
        dq, q, dout, shift, delta, q_ptr, k_ptr, v_ptr, dout_ptr, stride_qs, stride_kt, stride_vt, stride_gs,
        rows, free, bound, S, T, factor, window, cap, mask, dropout, undropped,
        D, BLOCK_D, CHUNK, BLOCK_M, BLOCK_N, CAUSAL, WINDOW, CAPPED, MASK, DROPOUT, False,
    )  # fmt: skip
    dq = _gather(
        dq, q, dout, shift, delta, q_ptr, k_ptr, v_ptr, dout_ptr, stride_qs, stride_kt, stride_vt, stride_gs,
        rows, lo, hi, S, T, factor, window, cap, mask, dropout, undropped,
        D, BLOCK_D, CHUNK, BLOCK_M, BLOCK_N, CAUSAL, WINDOW, CAPPED, MASK, DROPOUT, True,
    )  # fmt: skip
    place = ((h if VARLEN else head) * whole + first_q) * D
    store_rows(dq_ptr + place, rows, D // 8, S, dq * scale, D, BLOCK_D)
