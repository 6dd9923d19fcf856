"""Triton kernel of a diffusion step and of its Philox noise: every element is read and written once. Not yet measured on a chip."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# (a kernel's parameters are Triton's own types, which Python does not check)

from __future__ import annotations

import triton
import triton.language as tl

NO_NOISE = tl.constexpr(0)
GIVEN_NOISE = tl.constexpr(1)
MADE_NOISE = tl.constexpr(2)


@triton.jit
def _cos_sin_turns(turns):
    """cos 2πt and sin 2πt for t in [0, 1]: reduced to an eighth of a turn, then Taylor series to within float32 rounding.

    The library's functions reduce huge angles through an array in local memory; here the quarter turn is exact.
    """
    quarter = tl.floor(turns * 4.0 + 0.5)
    x = (turns * 4.0 - quarter) * 1.5707963267948966
    square = x * x
    sine = x * (1.0 + square * (-1.0 / 6 + square * (1.0 / 120 + square * (-1.0 / 5040 + square * (1.0 / 362880)))))
    cosine = 1.0 + square * (-0.5 + square * (1.0 / 24 + square * (-1.0 / 720 + square * (1.0 / 40320))))
    quadrant = quarter.to(tl.int32)
    odd = (quadrant & 1) == 1
    c, s = tl.where(odd, sine, cosine), tl.where(odd, cosine, sine)
    return tl.where(((quadrant + 1) & 2) == 2, -c, c), tl.where((quadrant & 2) == 2, -s, s)


@triton.jit
def _normal_pair(word0, word1):
    """Two standard normals of two Philox words: Box and Muller (1958)."""
    u0 = word0.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    u1 = word1.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    radius = tl.sqrt(-2.0 * tl.log(u0))
    cosine, sine = _cos_sin_turns(u1)
    return radius * cosine, radius * sine


@triton.jit
def philox_normal(first_block, seed_low, seed_high, offset_low, offset_high, BLOCKS: tl.constexpr):
    """4·BLOCKS standard normals in order, from Philox block ``first_block`` on; halves of seed and offset as int32 bits."""
    block = first_block + tl.arange(0, BLOCKS)
    low, high = (block & 0xFFFFFFFF).to(tl.uint32), (block >> 32).to(tl.uint32)
    zero = tl.zeros([BLOCKS], tl.uint32)
    w0, w1, w2, w3 = tl.philox_impl(
        low, high, zero + offset_low.to(tl.uint32, bitcast=True), zero + offset_high.to(tl.uint32, bitcast=True),
        zero + seed_low.to(tl.uint32, bitcast=True), zero + seed_high.to(tl.uint32, bitcast=True),
    )  # fmt: skip
    z0, z1 = _normal_pair(w0, w1)
    z2, z3 = _normal_pair(w2, w3)
    return tl.interleave(tl.interleave(z0, z2), tl.interleave(z1, z3))


@triton.jit
def _step(
    sample_ptr, cond_ptr, uncond_ptr, noise_ptr, out_ptr, x0_ptr, count, start,
    p, q, r, s, t, sigma, clip, guidance, seed_low, seed_high, offset_low, offset_high,
    GUIDED: tl.constexpr, CLIPPED: tl.constexpr, NOISE: tl.constexpr, KEEP_X0: tl.constexpr,
    BLOCK: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """The step for the BLOCK elements from ``start`` on; MASKED leaves those from ``count`` on alone."""
    i = start + tl.arange(0, BLOCK)
    mask = i < count if MASKED else None
    x = tl.load(sample_ptr + i, mask=mask).to(tl.float32)
    e = tl.load(cond_ptr + i, mask=mask).to(tl.float32)
    if GUIDED:
        u = tl.load(uncond_ptr + i, mask=mask).to(tl.float32)
        e = u + guidance * (e - u)
    original = p * x + q * e
    if CLIPPED:  # by comparisons, which leave NaN as it is
        original = tl.where(original > clip, clip, tl.where(original < -clip, -clip, original))
    previous = r * original + s * x + t * e
    if NOISE == GIVEN_NOISE:
        previous += sigma * tl.load(noise_ptr + i, mask=mask).to(tl.float32)
    elif NOISE == MADE_NOISE:
        previous += sigma * philox_normal(start // 4, seed_low, seed_high, offset_low, offset_high, BLOCK // 4)
    tl.store(out_ptr + i, previous.to(out_ptr.dtype.element_ty), mask=mask)
    if KEEP_X0:
        tl.store(x0_ptr + i, original.to(x0_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["count", "seed_low", "seed_high", "offset_low", "offset_high"])
def step_kernel(
    sample_ptr, cond_ptr, uncond_ptr, noise_ptr, out_ptr, x0_ptr, count,
    p, q, r, s, t, sigma, clip, guidance, seed_low, seed_high, offset_low, offset_high,
    GUIDED: tl.constexpr, CLIPPED: tl.constexpr, NOISE: tl.constexpr, KEEP_X0: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """prev = r·x0 + s·x + t·e + σ·z with e = u + g(c − u) and x0 = clip(p·x + q·e), for BLOCK elements in float32."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    if start + BLOCK <= count:  # whole blocks compare nothing, and so move 16 bytes at a time whatever the count
        _step(
            sample_ptr, cond_ptr, uncond_ptr, noise_ptr, out_ptr, x0_ptr, count, start,
            p, q, r, s, t, sigma, clip, guidance, seed_low, seed_high, offset_low, offset_high,
            GUIDED, CLIPPED, NOISE, KEEP_X0, BLOCK, False,
        )  # fmt: skip
    else:
        _step(
            sample_ptr, cond_ptr, uncond_ptr, noise_ptr, out_ptr, x0_ptr, count, start,
            p, q, r, s, t, sigma, clip, guidance, seed_low, seed_high, offset_low, offset_high,
            GUIDED, CLIPPED, NOISE, KEEP_X0, BLOCK, True,
        )  # fmt: skip
