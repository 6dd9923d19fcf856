"""Triton kernels of a diffusion step that looks at each whole sample first: rescaled guidance and dynamic thresholding."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# (a kernel's parameters are Triton's own types, which Python does not check)

from __future__ import annotations

import triton
import triton.language as tl

from aieng_kernels.diffusion.triton_kernel import guided, step

BINS = tl.constexpr(256)
LARGEST = tl.constexpr(0x7FFFFFFF)
INFINITY = tl.constexpr(0x7F800000)


@triton.jit
def _factor(cond_ptr, uncond_ptr, begin, size, guidance, rescale, BLOCK: tl.constexpr):
    """rescale·std(c)/std(e) + 1 − rescale of one sample: arXiv:2305.08891, equations 15 and 16.

    The sums are of deviations from the sample's first element, whose squares do not cancel as those of the values may.
    """
    first_c, first_e = guided(cond_ptr, uncond_ptr, begin, None, guidance, True)
    c1 = tl.zeros([BLOCK], tl.float32)
    c2 = tl.zeros([BLOCK], tl.float32)
    e1 = tl.zeros([BLOCK], tl.float32)
    e2 = tl.zeros([BLOCK], tl.float32)
    for start in range(0, size, BLOCK):
        i = start + tl.arange(0, BLOCK)
        mask = i < size
        c, e = guided(cond_ptr, uncond_ptr, begin + i, mask, guidance, True)
        c = tl.where(mask, c - first_c, 0.0)
        e = tl.where(mask, e - first_e, 0.0)
        c1 += c
        c2 += c * c
        e1 += e
        e2 += e * e
    mean_c = tl.sum(c1) / size
    mean_e = tl.sum(e1) / size
    ratio = (tl.sum(c2) / size - mean_c * mean_c) / (tl.sum(e2) / size - mean_e * mean_e)
    return rescale * tl.sqrt(ratio) + (1.0 - rescale)


@triton.jit
def _magnitudes(
    sample_ptr, cond_ptr, uncond_ptr, begin, start, size, p, q, guidance, factor,
    GUIDED: tl.constexpr, RESCALED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The bits of |x0|, which order as the numbers do with NaN above them all, and which of the BLOCK are the sample's."""
    i = start + tl.arange(0, BLOCK)
    mask = i < size
    x = tl.load(sample_ptr + begin + i, mask=mask).to(tl.float32)
    _, e = guided(cond_ptr, uncond_ptr, begin + i, mask, guidance, GUIDED)
    if RESCALED:
        e *= factor
    return (p * x + q * e).to(tl.int32, bitcast=True) & LARGEST, mask


@triton.jit
def _digit(
    found, within, sample_ptr, cond_ptr, uncond_ptr, begin, size, p, q, guidance, factor,
    GUIDED: tl.constexpr, RESCALED: tl.constexpr, BLOCK: tl.constexpr, SHIFT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """One digit of a radix selection, the bits SHIFT to SHIFT + WIDTH - 1, among the magnitudes that begin with ``found``.

    ``within`` is the wanted one's rank among them. Returns the longer beginning, the rank among those that begin so, their number.
    """
    bins = tl.arange(0, BINS)
    counts = tl.zeros([BINS], tl.int32)
    for start in range(0, size, BLOCK):
        bits, mask = _magnitudes(
            sample_ptr, cond_ptr, uncond_ptr, begin, start, size, p, q, guidance, factor, GUIDED, RESCALED, BLOCK
        )  # fmt: skip
        so_far = mask & ((bits >> (SHIFT + WIDTH)) == found)
        counts += tl.histogram((bits >> SHIFT) & ((1 << WIDTH) - 1), BINS, mask=so_far)
    digit = tl.sum((tl.cumsum(counts) <= within).to(tl.int32))
    below = tl.sum(tl.where(bins < digit, counts, 0))
    return (found << WIDTH) | digit, within - below, tl.sum(tl.where(bins == digit, counts, 0))


@triton.jit(do_not_specialize=["rank"])
def samples_kernel(
    sample_ptr, cond_ptr, uncond_ptr, factor_ptr, bound_ptr, size, p, q, guidance, rescale, rank, weight, most,
    GUIDED: tl.constexpr, RESCALED: tl.constexpr, THRESHOLDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What each sample says before its step, a program a sample: the factor on e, and the bound of x0.

    The bound is the quantile of |x0| between the magnitudes of ``rank`` and the next as ``weight`` says, at least 1 and at most
    ``most`` (arXiv:2205.11487, section 2.3). Four passes find the digits of the magnitude at ``rank`` and a fifth the next larger;
    x0 is made again in each, so that no memory is asked for to keep it.
    """
    n = tl.program_id(0).to(tl.int64)
    begin = n * size
    factor = 1.0
    if RESCALED:
        factor = _factor(cond_ptr, uncond_ptr, begin, size, guidance, rescale, BLOCK)
        tl.store(factor_ptr + n, factor)
    if THRESHOLDED:
        found, within, equal = _digit(
            0, rank, sample_ptr, cond_ptr, uncond_ptr, begin, size, p, q, guidance, factor, GUIDED, RESCALED, BLOCK, 23, 8
        )  # fmt: skip
        found, within, equal = _digit(
            found, within, sample_ptr, cond_ptr, uncond_ptr, begin, size, p, q, guidance, factor, GUIDED, RESCALED, BLOCK, 15, 8
        )  # fmt: skip
        found, within, equal = _digit(
            found, within, sample_ptr, cond_ptr, uncond_ptr, begin, size, p, q, guidance, factor, GUIDED, RESCALED, BLOCK, 7, 8
        )  # fmt: skip
        found, within, equal = _digit(
            found, within, sample_ptr, cond_ptr, uncond_ptr, begin, size, p, q, guidance, factor, GUIDED, RESCALED, BLOCK, 0, 7
        )  # fmt: skip
        above = tl.full([BLOCK], LARGEST, tl.int32)
        greatest = tl.zeros([BLOCK], tl.int32)
        for start in range(0, size, BLOCK):
            bits, mask = _magnitudes(
                sample_ptr, cond_ptr, uncond_ptr, begin, start, size, p, q, guidance, factor, GUIDED, RESCALED, BLOCK
            )  # fmt: skip
            above = tl.minimum(above, tl.where(mask & (bits > found), bits, LARGEST))
            greatest = tl.maximum(greatest, tl.where(mask, bits, 0))
        low = found.to(tl.float32, bitcast=True)
        high = tl.where(within + 1 < equal, found, tl.min(above)).to(tl.float32, bitcast=True)
        quantile = tl.where(weight == 0.0, low, low + weight * (high - low))
        quantile = tl.where(quantile > 1.0, quantile, 1.0)
        quantile = tl.where(quantile < most, quantile, most)
        worst = tl.max(greatest)  # NaN, if there is any
        tl.store(bound_ptr + n, tl.where(worst > INFINITY, worst.to(tl.float32, bitcast=True), quantile))


@triton.jit(do_not_specialize=["seed_low", "seed_high", "offset_low", "offset_high"])
def sample_step_kernel(
    sample_ptr, cond_ptr, uncond_ptr, noise_ptr, history_ptr, out_ptr, x0_ptr, factor_ptr, bound_ptr, size, blocks,
    p, q, r, s, t, sigma, clip, guidance, h, seed_low, seed_high, offset_low, offset_high,
    GUIDED: tl.constexpr, CLIPPED: tl.constexpr, NOISE: tl.constexpr, HISTORY: tl.constexpr,
    KEEP_X0: tl.constexpr, RESCALED: tl.constexpr, THRESHOLDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The step with each sample's factor and bound, ``blocks`` programs a sample.

    The first of them begins at the multiple of 4 at or before the sample's begin, as noise comes in fours.
    """
    block = tl.program_id(0).to(tl.int64)
    n = block // blocks
    begin = n * size
    end = begin + size
    start = begin // 4 * 4 + (block - n * blocks) * BLOCK
    factor = tl.load(factor_ptr + n) if RESCALED else 1.0
    bound = tl.load(bound_ptr + n) if THRESHOLDED else 1.0
    if (start >= begin) & (start + BLOCK <= end):
        step(
            sample_ptr, cond_ptr, uncond_ptr, noise_ptr, history_ptr, out_ptr, x0_ptr, begin, end, start,
            p, q, r, s, t, sigma, clip, guidance, h, factor, bound, seed_low, seed_high, offset_low, offset_high,
            GUIDED, CLIPPED, NOISE, HISTORY, KEEP_X0, RESCALED, THRESHOLDED, BLOCK, False,
        )  # fmt: skip
    else:
        step(
            sample_ptr, cond_ptr, uncond_ptr, noise_ptr, history_ptr, out_ptr, x0_ptr, begin, end, start,
            p, q, r, s, t, sigma, clip, guidance, h, factor, bound, seed_low, seed_high, offset_low, offset_high,
            GUIDED, CLIPPED, NOISE, HISTORY, KEEP_X0, RESCALED, THRESHOLDED, BLOCK, True,
        )  # fmt: skip
