"""The Gluon forward pass in blocks that stay: each takes one tile of rows after another, so that the copying warp brings the first
keys of the next while the last rows of this one are still divided and stored.

The rings turn on from tile to tile; queries have two sets of tiles, of which one is filled while the other is read.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# (a kernel's parameters are Triton's own types, which Python does not check)

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma

from aieng_kernels.attention.triton_hopper_forward import ROWS, attend_tile, place

WARPGROUPS = gl.constexpr(2)


@gluon.jit
def _copy(q_desc, k_desc, v_desc, q_tiles, q_full, q_free, rings, H, S, T, tiles, GROUP: gl.constexpr, CAUSAL: gl.constexpr):
    """The copying warp: of each tile the queries, then its key blocks, the last one first."""
    k_ring, k_full, v_ring, v_full, free = rings
    STAGES: gl.constexpr = k_ring.shape[0]
    BLOCK_N: gl.constexpr = k_ring.shape[3]
    taken = 0
    step = 0
    b_before = 0
    head_before = 0
    start_before = 0
    for tile in range(gl.program_id(0), tiles, gl.num_programs(0)):
        b, h, first, count, _ = place(tile, H, S, T, WARPGROUPS * ROWS, BLOCK_N, CAUSAL)
        half = taken % 2
        mbarrier.wait(q_free.index(half), taken // 2 & 1 ^ 1)
        mbarrier.expect(q_full.index(half), WARPGROUPS * q_desc.block_type.nbytes)
        for i in gl.static_range(WARPGROUPS):
            q_tile = q_tiles.index(half * WARPGROUPS + i)
            tma.async_copy_global_to_shared(q_desc, [b, h, first + i * ROWS, 0], q_full.index(half), q_tile)
        kv_head = h // GROUP
        # A step brings the keys of a block and the values of the one before, which are used, and released, together.
        for i in range(count):
            stage = step % STAGES
            mbarrier.wait(free.index(stage), step // STAGES & 1 ^ 1)
            mbarrier.expect(k_full.index(stage), k_desc.block_type.nbytes)
            start = (count - 1 - i) * BLOCK_N
            tma.async_copy_global_to_shared(k_desc, [b, kv_head, start, 0], k_full.index(stage), k_ring.index(stage))
            if step > 0:
                before = (step - 1) % STAGES
                mbarrier.expect(v_full.index(before), v_desc.block_type.nbytes)
                tma.async_copy_global_to_shared(
                    v_desc, [b_before, head_before, start_before, 0], v_full.index(before), v_ring.index(before)
                )
            b_before = b
            head_before = kv_head
            start_before = start
            step += 1
        taken += 1  # noqa: SIM113 (the language has no enumerate)
    stage = step % STAGES
    mbarrier.wait(free.index(stage), step // STAGES & 1 ^ 1)
    before = (step - 1) % STAGES
    mbarrier.expect(v_full.index(before), v_desc.block_type.nbytes)
    tma.async_copy_global_to_shared(v_desc, [b_before, head_before, start_before, 0], v_full.index(before), v_ring.index(before))


@gluon.jit
def _warpgroup(
    out_desc, lse_ptr, q_tiles, q_full, q_free, rings, turns, H, S, T, tiles, scale, CAUSAL: gl.constexpr, SELF: gl.constexpr
):
    """Warpgroup SELF: out and lse of its 64 rows of each tile."""
    BLOCK_N: gl.constexpr = rings[0].shape[3]
    taken = 0
    base = 0
    for tile in range(gl.program_id(0), tiles, gl.num_programs(0)):
        b, h, first, count, unmasked = place(tile, H, S, T, WARPGROUPS * ROWS, BLOCK_N, CAUSAL)
        half = taken % 2
        attend_tile(
            out_desc, lse_ptr, q_tiles.index(half * WARPGROUPS + SELF), q_full.index(half), taken // 2 & 1, rings, turns, base,
            b, h, H, first + SELF * ROWS, count, unmasked, S, T, scale, CAUSAL, None,
        )  # fmt: skip
        mbarrier.arrive(q_free.index(half))
        base += count
        taken += 1  # noqa: SIM113 (the language has no enumerate)


@gluon.jit(do_not_specialize=["H", "S", "T", "tiles", "bucket"])
def hopper_persistent_kernel(
    q_desc, k_desc, v_desc, out_desc, lse_ptr, H, S, T, tiles, scale, bucket,
    GROUP: gl.constexpr, CAUSAL: gl.constexpr, BLOCK_N: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """out = softmax(scale·q·kᵀ)·v and lse (contiguous) for every so many-th of ``tiles`` of 128 rows of a head; as many blocks as
    the device has processors, and no more than tiles. ``bucket`` only keys the autotuner."""
    BLOCK_D: gl.constexpr = q_desc.block_shape[3]
    q_tiles = gl.allocate_shared_memory(q_desc.dtype, [2 * WARPGROUPS, 1, 1, ROWS, BLOCK_D], q_desc.layout)
    k_ring = gl.allocate_shared_memory(k_desc.dtype, [STAGES, 1, 1, BLOCK_N, BLOCK_D], k_desc.layout)
    v_ring = gl.allocate_shared_memory(v_desc.dtype, [STAGES, 1, 1, BLOCK_N, BLOCK_D], v_desc.layout)
    q_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    q_free = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    # Nobody takes turns; only the number of warpgroups is read of this.
    turns = gl.allocate_shared_memory(gl.int64, [WARPGROUPS, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(2):
        mbarrier.init(q_full.index(i), 1)
        mbarrier.init(q_free.index(i), WARPGROUPS)
    for i in gl.static_range(STAGES):
        mbarrier.init(k_full.index(i), 1)
        mbarrier.init(v_full.index(i), 1)
        mbarrier.init(free.index(i), WARPGROUPS)
    rings = (k_ring, k_full, v_ring, v_full, free)
    scale = scale * 1.4426950408889634
    # The arguments are written out each time: a tuple that is given a name loses its constants.
    gl.warp_specialize(
        [
            (_warpgroup, (
                out_desc, lse_ptr, q_tiles, q_full, q_free, rings, turns, H, S, T, tiles, scale, CAUSAL, 0,
            )),
            (_warpgroup, (
                out_desc, lse_ptr, q_tiles, q_full, q_free, rings, turns, H, S, T, tiles, scale, CAUSAL, 1,
            )),
            (_copy, (q_desc, k_desc, v_desc, q_tiles, q_full, q_free, rings, H, S, T, tiles, GROUP, CAUSAL)),
        ],
        [4, 1],
        [232, 40],
    )  # fmt: skip
