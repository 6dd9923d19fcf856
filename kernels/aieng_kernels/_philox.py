"""Philox-4×32-10 in plain torch: the random words that every backend reproduces (``csrc/common/philox.h``)."""

from __future__ import annotations

from torch import Tensor

MASK = 0xFFFFFFFF
"""The low 32 bits of a word held in int64."""


def philox4x32_10(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ten rounds of Philox-4×32 (Salmon et al., SC 2011, section 3.3) on words held in int64 tensors of one shape."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # int64 products wrap, so their 64 bits are those of the unsigned product
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = ((b >> 32) & MASK) ^ c1 ^ k0, b & MASK, ((a >> 32) & MASK) ^ c3 ^ k1, a & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def halves(number: int) -> tuple[int, int]:
    """The low and the high 32 bits of a seed."""
    return number & MASK, (number >> 32) & MASK
