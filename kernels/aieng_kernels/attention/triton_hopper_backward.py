"""Gluon kernels of the attention backward pass on Hopper: dk and dv by key block, then dq by query block.

The two passes of ``triton_backward``, and as deterministic, with the roles of ``triton_hopper_forward``: one warp copies tiles by
TMA, two warpgroups multiply. P and dS are computed in the layout in which they are an operand of the next product (for dk and dv,
transposed), so they stay in registers. δ and the lse in base 2 are rows of S rounded up; beyond S the lse is +inf. The scale is
positive.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# (a kernel's parameters are Triton's own types, which Python does not check)

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma, warpgroup_mma, warpgroup_mma_wait

ROWS = gl.constexpr(64)
"""Rows of a warpgroup: the height of its matrix instruction."""


@gluon.jit
def _copy_queries(
    q_desc, dout_desc, k_desc, v_desc, shift_desc, delta_desc, k_tiles, v_tiles, kv_full, rings,
    b, h, first, lo, count, GROUP: gl.constexpr,
):  # fmt: skip
    """The copying warp of dk and dv: the keys and values, then ``count`` query blocks from block ``lo`` of each head of a group."""
    q_ring, q_full, dout_ring, dout_full, shift_ring, delta_ring, free = rings
    STAGES: gl.constexpr = q_ring.shape[0]
    BLOCK_M: gl.constexpr = q_ring.shape[3]
    mbarrier.expect(kv_full.index(0), 4 * k_desc.block_type.nbytes)
    for i in gl.static_range(2):
        tma.async_copy_global_to_shared(k_desc, [b, h, first + i * ROWS, 0], kv_full.index(0), k_tiles.index(i))
        tma.async_copy_global_to_shared(v_desc, [b, h, first + i * ROWS, 0], kv_full.index(0), v_tiles.index(i))
    for i in range(count * GROUP):
        stage = i % STAGES
        lap = i // STAGES & 1
        head = h * GROUP + i // count
        start = (lo + i % count) * BLOCK_M
        mbarrier.wait(free.index(stage), lap ^ 1)
        mbarrier.expect(q_full.index(stage), q_desc.block_type.nbytes + shift_desc.block_type.nbytes)
        tma.async_copy_global_to_shared(q_desc, [b, head, start, 0], q_full.index(stage), q_ring.index(stage))
        tma.async_copy_global_to_shared(shift_desc, [b, head, start], q_full.index(stage), shift_ring.index(stage))
        mbarrier.expect(dout_full.index(stage), dout_desc.block_type.nbytes + delta_desc.block_type.nbytes)
        tma.async_copy_global_to_shared(dout_desc, [b, head, start, 0], dout_full.index(stage), dout_ring.index(stage))
        tma.async_copy_global_to_shared(delta_desc, [b, head, start], dout_full.index(stage), delta_ring.index(stage))


@gluon.jit
def _key_warpgroup(
    dk_desc, dv_desc, k_tile, v_tile, kv_full, rings, b, h, first, lo, count, scale, CAUSAL: gl.constexpr, GROUP: gl.constexpr
):  # fmt: skip
    """dk and dv of the 64 keys from ``first``."""
    q_ring, q_full, dout_ring, dout_full, shift_ring, delta_ring, free = rings
    STAGES: gl.constexpr = q_ring.shape[0]
    BLOCK_M: gl.constexpr = q_ring.shape[3]
    D: gl.constexpr = q_ring.shape[4]
    dtype: gl.constexpr = q_ring.dtype
    score_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_M, 16])
    acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    operand_layout: gl.constexpr = gl.DotOperandLayout(0, acc_layout, 2)
    column_layout: gl.constexpr = gl.SliceLayout(0, score_layout)
    k = k_tile.reshape([ROWS, D])
    v = v_tile.reshape([ROWS, D])
    dk = gl.zeros([ROWS, D], gl.float32, acc_layout)
    dv = gl.zeros([ROWS, D], gl.float32, acc_layout)
    keys = first + gl.arange(0, ROWS, gl.SliceLayout(1, score_layout))
    factor = scale * 1.4426950408889634
    mbarrier.wait(kv_full.index(0), 0)
    for i in range(count * GROUP):
        stage = i % STAGES
        lap = i // STAGES & 1
        q = q_ring.index(stage).reshape([BLOCK_M, D])
        dout = dout_ring.index(stage).reshape([BLOCK_M, D])
        zeros = gl.zeros([ROWS, BLOCK_M], gl.float32, score_layout)
        mbarrier.wait(q_full.index(stage), lap)
        score_token = warpgroup_mma(k, q.permute([1, 0]), zeros, use_acc=False, is_async=True)
        mbarrier.wait(dout_full.index(stage), lap)
        dp_token = warpgroup_mma(v, dout.permute([1, 0]), zeros, use_acc=False, is_async=True)
        shift = shift_ring.index(stage).reshape([BLOCK_M]).load(column_layout)
        score = warpgroup_mma_wait(1, deps=[score_token])
        if CAUSAL:
            start = (lo + i % count) * BLOCK_M
            if start < first + ROWS:
                rows = start + gl.arange(0, BLOCK_M, column_layout)
                score = gl.where(rows[None, :] >= keys[:, None], score, float("-inf"))
        p = gl.exp2(gl.fma(score, factor, -shift[None, :]))
        # A barrier that is long passed keeps the compiler from moving the exponentials behind the next wait.
        mbarrier.wait(dout_full.index(stage), lap)
        dp, p = warpgroup_mma_wait(0, deps=[dp_token, p])
        dv_token = warpgroup_mma(gl.convert_layout(p.to(dtype), operand_layout), dout, dv, is_async=True)
        delta = delta_ring.index(stage).reshape([BLOCK_M]).load(column_layout)
        ds = p * (dp - delta[None, :])
        dk_token = warpgroup_mma(gl.convert_layout(ds.to(dtype), operand_layout), q, dk, is_async=True)
        dk, dv = warpgroup_mma_wait(0, deps=[dk_token, dv_token])
        mbarrier.arrive(free.index(stage))
    # The products with k and v are done, so dk and dv take their places.
    k.store((dk * scale).to(dtype))
    v.store(dv.to(dtype))
    fence_async_shared()
    tma.async_copy_shared_to_global(dk_desc, [b, h, first, 0], k_tile)
    tma.async_copy_shared_to_global(dv_desc, [b, h, first, 0], v_tile)
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["H", "S", "T", "bucket"])
def hopper_dkdv_kernel(
    q_desc, dout_desc, k_desc, v_desc, shift_desc, delta_desc, dk_desc, dv_desc, H, S, T, scale, bucket,
    GROUP: gl.constexpr, CAUSAL: gl.constexpr, BLOCK_M: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """dk and dv (contiguous) for 128 keys, over the GROUP query heads that share them."""
    BLOCK_D: gl.constexpr = k_desc.block_shape[3]
    blocks = gl.cdiv(T, 2 * ROWS)
    first = gl.program_id(0) % blocks * (2 * ROWS)
    kv_head = gl.program_id(0) // blocks
    b, h = kv_head // (H // GROUP), kv_head % (H // GROUP)
    lo = first // BLOCK_M if CAUSAL else 0
    count = gl.maximum(gl.cdiv(S, BLOCK_M) - lo, 0)

    k_tiles = gl.allocate_shared_memory(k_desc.dtype, [2, 1, 1, ROWS, BLOCK_D], k_desc.layout)
    v_tiles = gl.allocate_shared_memory(v_desc.dtype, [2, 1, 1, ROWS, BLOCK_D], v_desc.layout)
    q_ring = gl.allocate_shared_memory(q_desc.dtype, [STAGES, 1, 1, BLOCK_M, BLOCK_D], q_desc.layout)
    dout_ring = gl.allocate_shared_memory(dout_desc.dtype, [STAGES, 1, 1, BLOCK_M, BLOCK_D], dout_desc.layout)
    shift_ring = gl.allocate_shared_memory(gl.float32, [STAGES, 1, 1, BLOCK_M], shift_desc.layout)
    delta_ring = gl.allocate_shared_memory(gl.float32, [STAGES, 1, 1, BLOCK_M], delta_desc.layout)
    kv_full = gl.allocate_shared_memory(gl.int64, [1, 1], mbarrier.MBarrierLayout())
    q_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    dout_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    mbarrier.init(kv_full.index(0), 1)
    for i in gl.static_range(STAGES):
        mbarrier.init(q_full.index(i), 1)
        mbarrier.init(dout_full.index(i), 1)
        mbarrier.init(free.index(i), 2)
    rings = (q_ring, q_full, dout_ring, dout_full, shift_ring, delta_ring, free)
    one_k, one_v, two_k, two_v = k_tiles.index(0), v_tiles.index(0), k_tiles.index(1), v_tiles.index(1)
    # The arguments are written out each time: a tuple that is given a name loses its constants.
    gl.warp_specialize(
        [
            (_key_warpgroup, (dk_desc, dv_desc, one_k, one_v, kv_full, rings, b, h, first, lo, count, scale, CAUSAL, GROUP)),
            (_key_warpgroup, (dk_desc, dv_desc, two_k, two_v, kv_full, rings, b, h, first + ROWS, lo, count, scale, CAUSAL, GROUP)),
            (_copy_queries, (
                q_desc, dout_desc, k_desc, v_desc, shift_desc, delta_desc, k_tiles, v_tiles, kv_full, rings,
                b, h, first, lo, count, GROUP,
            )),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip


@gluon.jit
def _copy_keys(
    q_desc, dout_desc, k_desc, v_desc, q_tiles, dout_tiles, q_full, rings, b, h, first, count, GROUP: gl.constexpr
):  # fmt: skip
    """The copying warp of dq: the queries and dout, then ``count`` key blocks."""
    k_ring, k_full, v_ring, v_full, free = rings
    STAGES: gl.constexpr = k_ring.shape[0]
    BLOCK_N: gl.constexpr = k_ring.shape[3]
    mbarrier.expect(q_full.index(0), 4 * q_desc.block_type.nbytes)
    for i in gl.static_range(2):
        tma.async_copy_global_to_shared(q_desc, [b, h, first + i * ROWS, 0], q_full.index(0), q_tiles.index(i))
        tma.async_copy_global_to_shared(dout_desc, [b, h, first + i * ROWS, 0], q_full.index(0), dout_tiles.index(i))
    kv_head = h // GROUP
    for i in range(count):
        stage = i % STAGES
        lap = i // STAGES & 1
        mbarrier.wait(free.index(stage), lap ^ 1)
        mbarrier.expect(k_full.index(stage), k_desc.block_type.nbytes)
        tma.async_copy_global_to_shared(k_desc, [b, kv_head, i * BLOCK_N, 0], k_full.index(stage), k_ring.index(stage))
        mbarrier.expect(v_full.index(stage), v_desc.block_type.nbytes)
        tma.async_copy_global_to_shared(v_desc, [b, kv_head, i * BLOCK_N, 0], v_full.index(stage), v_ring.index(stage))


@gluon.jit
def _query_warpgroup(
    dq_desc, shift_ptr, delta_ptr, q_tile, dout_tile, q_full, rings, b, h, H, P, first, count, unmasked, T, scale,
    CAUSAL: gl.constexpr,
):  # fmt: skip
    """dq of the 64 rows from ``first``; no mask touches the keys before block ``unmasked``."""
    k_ring, k_full, v_ring, v_full, free = rings
    STAGES: gl.constexpr = k_ring.shape[0]
    BLOCK_N: gl.constexpr = k_ring.shape[3]
    D: gl.constexpr = k_ring.shape[4]
    dtype: gl.constexpr = k_ring.dtype
    score_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    operand_layout: gl.constexpr = gl.DotOperandLayout(0, acc_layout, 2)
    row_layout: gl.constexpr = gl.SliceLayout(1, score_layout)
    q = q_tile.reshape([ROWS, D])
    dout = dout_tile.reshape([ROWS, D])
    dq = gl.zeros([ROWS, D], gl.float32, acc_layout)
    rows = first + gl.arange(0, ROWS, row_layout)
    shift = gl.load(shift_ptr + gl.cast(b * H + h, gl.int64) * P + rows)
    delta = gl.load(delta_ptr + gl.cast(b * H + h, gl.int64) * P + rows)
    factor = scale * 1.4426950408889634
    mbarrier.wait(q_full.index(0), 0)
    for i in range(count):
        stage = i % STAGES
        lap = i // STAGES & 1
        k = k_ring.index(stage).reshape([BLOCK_N, D])
        v = v_ring.index(stage).reshape([BLOCK_N, D])
        zeros = gl.zeros([ROWS, BLOCK_N], gl.float32, score_layout)
        mbarrier.wait(k_full.index(stage), lap)
        score_token = warpgroup_mma(q, k.permute([1, 0]), zeros, use_acc=False, is_async=True)
        mbarrier.wait(v_full.index(stage), lap)
        dp_token = warpgroup_mma(dout, v.permute([1, 0]), zeros, use_acc=False, is_async=True)
        score = warpgroup_mma_wait(1, deps=[score_token])
        p = gl.exp2(gl.fma(score, factor, -shift[:, None]))
        if i >= unmasked:
            # Where the lse is very negative, p overflows beyond T, and inf·0 would be NaN.
            columns = i * BLOCK_N + gl.arange(0, BLOCK_N, gl.SliceLayout(0, score_layout))
            last = gl.full([ROWS], T - 1, gl.int32, row_layout)
            if CAUSAL:
                last = gl.minimum(last, rows)
            p = gl.where(columns[None, :] <= last[:, None], p, 0.0)
        # A barrier that is long passed keeps the compiler from moving the exponentials behind the next wait.
        mbarrier.wait(v_full.index(stage), lap)
        dp, p = warpgroup_mma_wait(0, deps=[dp_token, p])
        ds = p * (dp - delta[:, None])
        dq_token = warpgroup_mma(gl.convert_layout(ds.to(dtype), operand_layout), k, dq, is_async=True)
        dq = warpgroup_mma_wait(0, deps=[dq_token])
        mbarrier.arrive(free.index(stage))
    # The products with q are done, so dq takes its place.
    q.store((dq * scale).to(dtype))
    fence_async_shared()
    tma.async_copy_shared_to_global(dq_desc, [b, h, first, 0], q_tile)
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["H", "S", "T", "bucket"])
def hopper_dq_kernel(
    q_desc, dout_desc, k_desc, v_desc, dq_desc, shift_ptr, delta_ptr, H, S, T, P, scale, bucket,
    GROUP: gl.constexpr, CAUSAL: gl.constexpr, BLOCK_N: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """dq (contiguous) for 128 rows of one head."""
    BLOCK_D: gl.constexpr = q_desc.block_shape[3]
    blocks = gl.cdiv(S, 2 * ROWS)
    block = gl.program_id(0) % blocks
    if CAUSAL:
        block = blocks - 1 - block  # the rows with most keys start first
    head = gl.program_id(0) // blocks
    b, h = head // H, head % H
    first = block * (2 * ROWS)
    last = gl.minimum(T, first + 2 * ROWS) if CAUSAL else T
    count = gl.cdiv(last, BLOCK_N)
    unmasked = (gl.minimum(T, first) if CAUSAL else T) // BLOCK_N

    q_tiles = gl.allocate_shared_memory(q_desc.dtype, [2, 1, 1, ROWS, BLOCK_D], q_desc.layout)
    dout_tiles = gl.allocate_shared_memory(dout_desc.dtype, [2, 1, 1, ROWS, BLOCK_D], dout_desc.layout)
    k_ring = gl.allocate_shared_memory(k_desc.dtype, [STAGES, 1, 1, BLOCK_N, BLOCK_D], k_desc.layout)
    v_ring = gl.allocate_shared_memory(v_desc.dtype, [STAGES, 1, 1, BLOCK_N, BLOCK_D], v_desc.layout)
    q_full = gl.allocate_shared_memory(gl.int64, [1, 1], mbarrier.MBarrierLayout())
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    mbarrier.init(q_full.index(0), 1)
    for i in gl.static_range(STAGES):
        mbarrier.init(k_full.index(i), 1)
        mbarrier.init(v_full.index(i), 1)
        mbarrier.init(free.index(i), 2)
    rings = (k_ring, k_full, v_ring, v_full, free)
    one_q, one_dout, two_q, two_dout = q_tiles.index(0), dout_tiles.index(0), q_tiles.index(1), dout_tiles.index(1)
    gl.warp_specialize(
        [
            (_query_warpgroup, (
                dq_desc, shift_ptr, delta_ptr, one_q, one_dout, q_full, rings, b, h, H, P, first, count, unmasked, T, scale, CAUSAL,
            )),
            (_query_warpgroup, (
                dq_desc, shift_ptr, delta_ptr, two_q, two_dout, q_full, rings, b, h, H, P, first + ROWS, count, unmasked, T, scale,
                CAUSAL,
            )),
            (_copy_keys, (q_desc, dout_desc, k_desc, v_desc, q_tiles, dout_tiles, q_full, rings, b, h, first, count, GROUP)),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip
