"""Gluon kernel of the attention forward pass on Hopper: one warp copies tiles, warpgroups of 64 rows multiply and exponentiate.

FlashAttention-3 (Shah et al. 2024, arXiv:2407.08608) without its ping-pong: tiles arrive by TMA in rings that full and free
barriers guard, and a warpgroup starts the scores of the next key block before it exponentiates, so that the tensor cores have two
products in flight. Key blocks are taken from the last, masked ones to the first. Lengths and head dimensions that fill no tile
are left to the TMA, which reads zeros and writes nothing beyond a tensor's shape. The scale is positive: maxima and masks come
before it.

Gluon is Triton's language one level down, where layouts, barriers and the roles of warps are the program's.
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
def _copy(q_desc, k_desc, v_desc, q_tiles, q_full, rings, b, h, first, count, GROUP: gl.constexpr):
    """The copying warp: the queries, then ``count`` key blocks, the last one first."""
    k_ring, k_full, v_ring, v_full, free = rings
    STAGES: gl.constexpr = k_ring.shape[0]
    BLOCK_N: gl.constexpr = k_ring.shape[3]
    TILES: gl.constexpr = q_tiles.shape[0]
    mbarrier.expect(q_full.index(0), TILES * q_desc.block_type.nbytes)
    for i in gl.static_range(TILES):
        tma.async_copy_global_to_shared(q_desc, [b, h, first + i * ROWS, 0], q_full.index(0), q_tiles.index(i))
    kv_head = h // GROUP
    # Step i brings the keys of a block and the values of the one before, which are used, and released, together.
    for i in range(count + 1):
        stage = i % STAGES
        mbarrier.wait(free.index(stage), i // STAGES & 1 ^ 1)
        if i < count:
            mbarrier.expect(k_full.index(stage), k_desc.block_type.nbytes)
            start = (count - 1 - i) * BLOCK_N
            tma.async_copy_global_to_shared(k_desc, [b, kv_head, start, 0], k_full.index(stage), k_ring.index(stage))
        if i > 0:
            before = (i - 1) % STAGES
            mbarrier.expect(v_full.index(before), v_desc.block_type.nbytes)
            start = (count - i) * BLOCK_N
            tma.async_copy_global_to_shared(v_desc, [b, kv_head, start, 0], v_full.index(before), v_ring.index(before))


@gluon.jit
def _softmax(score, row_sum, row_max, first, start, T, scale, CAUSAL: gl.constexpr, MASKED: gl.constexpr):
    """(p, row_sum, row_max, shrink) after one more block of scores, in base 2."""
    if MASKED:
        columns = start + gl.arange(0, score.shape[1], gl.SliceLayout(0, score.type.layout))
        last = gl.full([score.shape[0]], T - 1, gl.int32, gl.SliceLayout(1, score.type.layout))
        if CAUSAL:
            last = gl.minimum(last, first + gl.arange(0, score.shape[0], gl.SliceLayout(1, score.type.layout)))
        score = gl.where(columns[None, :] <= last[:, None], score, float("-inf"))
    new_max = gl.maximum(row_max, gl.max(score, 1) * scale)
    # A row whose scores are all -inf so far would give -inf - -inf; any finite number in its place keeps its sum at 0.
    finite = gl.where(new_max == float("-inf"), 0.0, new_max)
    p = gl.exp2(gl.fma(score, scale, -finite[:, None]))
    shrink = gl.exp2(row_max - finite)
    return p, row_sum * shrink + gl.sum(p, 1), new_max, shrink


@gluon.jit
def _attend(
    acc, p, row_sum, row_max, q, rings, turns, base, lo, hi, count, first, T, scale,
    CAUSAL: gl.constexpr, MASKED: gl.constexpr, TURN: gl.constexpr,
):  # fmt: skip
    """For the lo-th to hi-th last key block: multiply the p and v of the one before and fold its own scores into the softmax.

    ``base`` key blocks have gone through the rings before. Warpgroups that take turns start their products one after the other, so
    that one exponentiates while another multiplies.
    """
    k_ring, k_full, v_ring, v_full, free = rings
    STAGES: gl.constexpr = k_ring.shape[0]
    BLOCK_N: gl.constexpr = k_ring.shape[3]
    D: gl.constexpr = k_ring.shape[4]
    WARPGROUPS: gl.constexpr = turns.shape[0]
    score_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    for i in range(lo, hi):
        if TURN is not None:
            mbarrier.wait(turns.index(TURN), i - 1 & 1)
        step = base + i
        stage = step % STAGES
        mbarrier.wait(k_full.index(stage), step // STAGES & 1)
        zeros = gl.zeros([ROWS, BLOCK_N], gl.float32, score_layout)
        k = k_ring.index(stage).reshape([BLOCK_N, D]).permute([1, 0])
        score_token = warpgroup_mma(q, k, zeros, use_acc=False, is_async=True)
        before = (step - 1) % STAGES
        mbarrier.wait(v_full.index(before), (step - 1) // STAGES & 1)
        acc_token = warpgroup_mma(p, v_ring.index(before).reshape([BLOCK_N, D]), acc, is_async=True)
        if TURN is not None:
            mbarrier.arrive(turns.index((TURN + 1) % WARPGROUPS))
        score = warpgroup_mma_wait(1, deps=[score_token])
        start = (count - 1 - i) * BLOCK_N
        next_p, row_sum, row_max, shrink = _softmax(score, row_sum, row_max, first, start, T, scale, CAUSAL, MASKED)
        # Naming the exponentials, and a barrier that is long passed, keep the compilers from moving them behind this wait.
        mbarrier.wait(v_full.index(before), (step - 1) // STAGES & 1)
        acc, next_p, row_sum = warpgroup_mma_wait(0, deps=[acc_token, next_p, row_sum])
        mbarrier.arrive(free.index(stage))
        acc = acc * gl.convert_layout(shrink, gl.SliceLayout(1, acc.type.layout))[:, None]
        p = gl.convert_layout(next_p.to(q.dtype), p.type.layout)
    return acc, p, row_sum, row_max


@gluon.jit
def place(tile, H, S, T, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, CAUSAL: gl.constexpr):
    """(b, h, first, count, unmasked) of a tile: the block of a head that starts at row ``first``, how many key blocks it sees, and
    how many of these no mask touches."""
    blocks = gl.cdiv(S, BLOCK_M)
    block = tile % blocks
    if CAUSAL:
        block = blocks - 1 - block  # the rows with most keys start first
    head = tile // blocks
    first = block * BLOCK_M
    last = gl.minimum(T, first + BLOCK_M) if CAUSAL else T
    unmasked = (gl.minimum(T, first) if CAUSAL else T) // BLOCK_N
    return head // H, head % H, first, gl.cdiv(last, BLOCK_N), unmasked


@gluon.jit
def _warpgroup(
    out_desc, lse_ptr, q_tiles, q_full, rings, turns, b, h, H, block_start, count, unmasked, S, T, scale,
    CAUSAL: gl.constexpr, PINGPONG: gl.constexpr, SELF: gl.constexpr,
):  # fmt: skip
    """Warpgroup SELF: out and lse of 64 rows of the block's."""
    TURN: gl.constexpr = SELF if PINGPONG else None
    attend_tile(
        out_desc, lse_ptr, q_tiles.index(SELF), q_full.index(0), 0, rings, turns, 0, b, h, H, block_start + SELF * ROWS,
        count, unmasked, S, T, scale, CAUSAL, TURN,
    )  # fmt: skip


@gluon.jit
def attend_tile(
    out_desc, lse_ptr, q_tile, q_full, q_phase, rings, turns, base, b, h, H, first, count, unmasked, S, T, scale,
    CAUSAL: gl.constexpr, TURN: gl.constexpr,
):  # fmt: skip
    """Out and lse of 64 rows from ``first`` on, of which the queries come into ``q_tile``, and out leaves it in the end."""
    k_ring, k_full, v_ring, v_full, free = rings
    STAGES: gl.constexpr = k_ring.shape[0]
    BLOCK_N: gl.constexpr = k_ring.shape[3]
    D: gl.constexpr = k_ring.shape[4]
    score_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    row_layout: gl.constexpr = gl.SliceLayout(1, score_layout)
    acc = gl.zeros([ROWS, D], gl.float32, acc_layout)
    row_sum = gl.zeros([ROWS], gl.float32, row_layout)
    row_max = gl.full([ROWS], float("-inf"), gl.float32, row_layout)

    q = q_tile.reshape([ROWS, D])
    stage = base % STAGES
    mbarrier.wait(q_full, q_phase)
    mbarrier.wait(k_full.index(stage), base // STAGES & 1)
    zeros = gl.zeros([ROWS, BLOCK_N], gl.float32, score_layout)
    k = k_ring.index(stage).reshape([BLOCK_N, D]).permute([1, 0])
    score_token = warpgroup_mma(q, k, zeros, use_acc=False, is_async=True)
    score = warpgroup_mma_wait(0, deps=[score_token])
    mbarrier.arrive(free.index(stage))
    start = (count - 1) * BLOCK_N
    first_p, row_sum, row_max, _ = _softmax(score, row_sum, row_max, first, start, T, scale, CAUSAL, True)
    p = gl.convert_layout(first_p.to(q.dtype), gl.DotOperandLayout(0, acc_layout, 2))
    masked = gl.maximum(count - unmasked, 1)
    if CAUSAL:
        acc, p, row_sum, row_max = _attend(
            acc, p, row_sum, row_max, q, rings, turns, base, 1, masked, count, first, T, scale, CAUSAL, True, TURN
        )  # fmt: skip
    acc, p, row_sum, row_max = _attend(
        acc, p, row_sum, row_max, q, rings, turns, base, masked, count, count, first, T, scale, CAUSAL, False, TURN
    )  # fmt: skip
    last = base + count - 1
    mbarrier.wait(v_full.index(last % STAGES), last // STAGES & 1)
    acc_token = warpgroup_mma(p, v_ring.index(last % STAGES).reshape([BLOCK_N, D]), acc, is_async=True)
    total = gl.where(row_sum == 0.0, 1.0, row_sum)
    rows = first + gl.arange(0, ROWS, row_layout)
    lse = (row_max + gl.log2(total)) * 0.6931471805599453
    gl.store(lse_ptr + gl.cast(b * H + h, gl.int64) * S + rows, lse, mask=rows < S)
    acc = warpgroup_mma_wait(0, deps=[acc_token])
    out = acc * gl.convert_layout(1.0 / total, gl.SliceLayout(1, acc_layout))[:, None]
    # The products with q are done, so out takes its place.
    q.store(out.to(q.dtype))
    fence_async_shared()
    tma.async_copy_shared_to_global(out_desc, [b, h, first, 0], q_tile)
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["H", "S", "T", "bucket"])
def hopper_kernel(
    q_desc, k_desc, v_desc, out_desc, lse_ptr, H, S, T, scale, bucket,
    GROUP: gl.constexpr, CAUSAL: gl.constexpr,
    BLOCK_N: gl.constexpr, STAGES: gl.constexpr, WARPGROUPS: gl.constexpr, PINGPONG: gl.constexpr,
):  # fmt: skip
    """out = softmax(scale·q·kᵀ)·v and lse (contiguous) for 64·WARPGROUPS rows of one head; ``bucket`` only keys the autotuner."""
    BLOCK_M: gl.constexpr = WARPGROUPS * ROWS
    BLOCK_D: gl.constexpr = q_desc.block_shape[3]
    b, h, first, count, unmasked = place(gl.program_id(0), H, S, T, BLOCK_M, BLOCK_N, CAUSAL)

    q_tiles = gl.allocate_shared_memory(q_desc.dtype, [WARPGROUPS, 1, 1, ROWS, BLOCK_D], q_desc.layout)
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
        mbarrier.init(free.index(i), WARPGROUPS)
    turns = gl.allocate_shared_memory(gl.int64, [WARPGROUPS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(WARPGROUPS):
        mbarrier.init(turns.index(i), 1)
    mbarrier.arrive(turns.index(0))
    rings = (k_ring, k_full, v_ring, v_full, free)
    scale = scale * 1.4426950408889634
    # The arguments are written out each time: a tuple that is given a name loses its constants.
    if WARPGROUPS == 2:
        gl.warp_specialize(
            [
                (_warpgroup, (
                    out_desc, lse_ptr, q_tiles, q_full, rings, turns, b, h, H, first, count, unmasked, S, T, scale,
                    CAUSAL, PINGPONG, 0,
                )),
                (_warpgroup, (
                    out_desc, lse_ptr, q_tiles, q_full, rings, turns, b, h, H, first, count, unmasked, S, T, scale,
                    CAUSAL, PINGPONG, 1,
                )),
                (_copy, (q_desc, k_desc, v_desc, q_tiles, q_full, rings, b, h, first, count, GROUP)),
            ],
            [4, 1],
            [240, 24],
        )  # fmt: skip
    else:
        gl.warp_specialize(
            [
                (_warpgroup, (
                    out_desc, lse_ptr, q_tiles, q_full, rings, turns, b, h, H, first, count, unmasked, S, T, scale,
                    CAUSAL, PINGPONG, 0,
                )),
                (_warpgroup, (
                    out_desc, lse_ptr, q_tiles, q_full, rings, turns, b, h, H, first, count, unmasked, S, T, scale,
                    CAUSAL, PINGPONG, 1,
                )),
                (_warpgroup, (
                    out_desc, lse_ptr, q_tiles, q_full, rings, turns, b, h, H, first, count, unmasked, S, T, scale,
                    CAUSAL, PINGPONG, 2,
                )),
                (_copy, (q_desc, k_desc, v_desc, q_tiles, q_full, rings, b, h, first, count, GROUP)),
            ],
            [4, 4, 1],
            [160, 160, 24],
        )  # fmt: skip
