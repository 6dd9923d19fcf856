"""Triton kernel of a diffusion step and of its Philox noise: every element is read and written once."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# (a kernel's parameters are Triton's own types, which Python does not check)

from __future__ import annotations

import triton
import triton.language as tl
from triton import knobs
from triton.language.extra import libdevice

from aieng_kernels._triton_philox import philox4x32_10

NO_NOISE = tl.constexpr(0)
GIVEN_NOISE = tl.constexpr(1)
MADE_NOISE = tl.constexpr(2)


# The interpreter knows no library functions, and its logarithm is exact.
FAST = tl.constexpr(not knobs.runtime.interpret)


@triton.jit
def _radius(u):
    """√(−2 ln u) for u in [2⁻³³, 1], to 2.4e-6: by the special-function unit, and near 1 by a polynomial in the exact 1 − u.

    The unit's logarithm is within 2⁻²² in absolute terms there, which the root of a small number would magnify.
    """
    w = 1.0 - u
    near = w * (1.99999903 + w * (1.00024529 + w * (0.65708548 + w * 0.61675209)))
    log2 = libdevice.fast_log2f(u) if FAST else tl.log2(u)
    return tl.sqrt(tl.where(u > 0.875, near, log2 * -1.3862943611198906))  # −2 ln 2


@triton.jit
def _normal_pair(word0, word1):
    """Two standard normals of two Philox words, to 4e-6: Box and Muller (1958).

    The angle is k half turns, which change both signs and so that of the radius, and an exact rest of up to a quarter turn,
    for which there are polynomials to 1.7e-7; the library's functions reduce huge angles through an array in local memory.
    """
    u0 = word0.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    u1 = word1.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    half_turns = u1 * 2.0 + 12582912.0  # 1.5·2²³: adding it leaves an integer in the low bits
    rest = u1 - (half_turns - 12582912.0) * 0.5
    square = rest * rest
    sine = 6.28318516 + square * (-41.34165503 + square * (81.60100407 + square * (-76.54978228 + square * 39.53670599)))
    cosine = 1.0 + square * (-19.73918207 + square * (64.93522146 + square * (-85.25400723 + square * 56.34064621)))
    sign = half_turns.to(tl.uint32, bitcast=True) << 31
    radius = tl.add(_radius(u0).to(tl.uint32, bitcast=True), sign, sanitize_overflow=False).to(tl.float32, bitcast=True)
    return radius * cosine, radius * rest * sine


@triton.jit
def _four_normals(block, seed_low, seed_high, offset_low, offset_high):
    """The normals of each Philox block, as four tensors; halves of seed and offset as int32 bits."""
    w0, w1, w2, w3 = philox4x32_10(
        (block & 0xFFFFFFFF).to(tl.uint32), (block >> 32).to(tl.uint32),
        offset_low.to(tl.uint32, bitcast=True), offset_high.to(tl.uint32, bitcast=True),
        seed_low.to(tl.uint32, bitcast=True), seed_high.to(tl.uint32, bitcast=True),
    )  # fmt: skip
    z0, z1 = _normal_pair(w0, w1)
    z2, z3 = _normal_pair(w2, w3)
    return z0, z1, z2, z3


@triton.jit
def philox_normal(
    first_block, seed_low, seed_high, offset_low, offset_high, BLOCKS: tl.constexpr, PAIRED: tl.constexpr = False
):  # fmt: skip
    """4·BLOCKS standard normals in order, from Philox block ``first_block`` on; PAIRED: eight neighbours in a thread, not four.

    A thread that holds as many neighbours as it loads at a time passes none of them through shared memory.
    """
    if PAIRED:
        block = first_block + 2 * tl.arange(0, BLOCKS // 2)
        a0, a1, a2, a3 = _four_normals(block, seed_low, seed_high, offset_low, offset_high)
        b0, b1, b2, b3 = _four_normals(block + 1, seed_low, seed_high, offset_low, offset_high)
        z0, z1, z2, z3 = tl.interleave(a0, b0), tl.interleave(a1, b1), tl.interleave(a2, b2), tl.interleave(a3, b3)
    else:
        z0, z1, z2, z3 = _four_normals(
            first_block + tl.arange(0, BLOCKS), seed_low, seed_high, offset_low, offset_high
        )  # fmt: skip
    return tl.interleave(tl.interleave(z0, z2), tl.interleave(z1, z3))


@triton.jit
def guided(cond_ptr, uncond_ptr, i, mask, guidance, GUIDED: tl.constexpr):
    """(c, e) of the elements i in float32."""
    c = tl.load(cond_ptr + i, mask=mask).to(tl.float32)
    e = c
    if GUIDED:
        u = tl.load(uncond_ptr + i, mask=mask).to(tl.float32)
        e = u + guidance * (c - u)
    return c, e


@triton.jit
def step(
    sample_ptr, cond_ptr, uncond_ptr, noise_ptr, history_ptr, out_ptr, x0_ptr, begin, end, start,
    p, q, r, s, t, sigma, clip, guidance, h, factor, bound, seed_low, seed_high, offset_low, offset_high,
    GUIDED: tl.constexpr, CLIPPED: tl.constexpr, NOISE: tl.constexpr, HISTORY: tl.constexpr, KEEP_X0: tl.constexpr,
    RESCALED: tl.constexpr, THRESHOLDED: tl.constexpr, BLOCK: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """The step for the BLOCK elements from ``start`` on; MASKED leaves those before ``begin`` and from ``end`` on alone."""
    i = start + tl.arange(0, BLOCK)
    mask = (i >= begin) & (i < end) if MASKED else None
    x = tl.load(sample_ptr + i, mask=mask).to(tl.float32)
    _, e = guided(cond_ptr, uncond_ptr, i, mask, guidance, GUIDED)
    if RESCALED:
        e *= factor
    original = p * x + q * e
    if CLIPPED:  # by comparisons, which leave NaN as it is
        original = tl.where(original > clip, clip, tl.where(original < -clip, -clip, original))
    if THRESHOLDED:
        original = tl.where(original > bound, bound, tl.where(original < -bound, -bound, original)) / bound
    previous = r * original + s * x + t * e
    if HISTORY:
        previous += h * tl.load(history_ptr + i, mask=mask).to(tl.float32)
    if NOISE == GIVEN_NOISE:
        previous += sigma * tl.load(noise_ptr + i, mask=mask).to(tl.float32)
    elif NOISE == MADE_NOISE:
        paired: tl.constexpr = sample_ptr.dtype.element_ty.primitive_bitwidth == 16
        previous += sigma * philox_normal(start // 4, seed_low, seed_high, offset_low, offset_high, BLOCK // 4, paired)
    tl.store(out_ptr + i, previous.to(out_ptr.dtype.element_ty), mask=mask)
    if KEEP_X0:
        tl.store(x0_ptr + i, original.to(x0_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["count", "seed_low", "seed_high", "offset_low", "offset_high"])
def step_kernel(
    sample_ptr, cond_ptr, uncond_ptr, noise_ptr, history_ptr, out_ptr, x0_ptr, count,
    p, q, r, s, t, sigma, clip, guidance, h, seed_low, seed_high, offset_low, offset_high,
    GUIDED: tl.constexpr, CLIPPED: tl.constexpr, NOISE: tl.constexpr, HISTORY: tl.constexpr,
    KEEP_X0: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """prev = r·x0 + s·x + t·e + h·y + σ·z with e = u + g(c − u) and x0 = clip(p·x + q·e), for BLOCK elements in float32."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    if start + BLOCK <= count:  # whole blocks compare nothing, and so move 16 bytes at a time whatever the count
        step(
            sample_ptr, cond_ptr, uncond_ptr, noise_ptr, history_ptr, out_ptr, x0_ptr, 0, count, start,
            p, q, r, s, t, sigma, clip, guidance, h, 1.0, 1.0, seed_low, seed_high, offset_low, offset_high,
            GUIDED, CLIPPED, NOISE, HISTORY, KEEP_X0, False, False, BLOCK, False,
        )  # fmt: skip
    else:
        step(
            sample_ptr, cond_ptr, uncond_ptr, noise_ptr, history_ptr, out_ptr, x0_ptr, 0, count, start,
            p, q, r, s, t, sigma, clip, guidance, h, 1.0, 1.0, seed_low, seed_high, offset_low, offset_high,
            GUIDED, CLIPPED, NOISE, HISTORY, KEEP_X0, False, False, BLOCK, True,
        )  # fmt: skip
