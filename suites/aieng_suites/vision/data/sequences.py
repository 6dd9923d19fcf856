"""Sequences of symbols, and what they become: themselves from last to first, or from least to greatest.

They come from 64-bit words of PCG64, a stream that numpy promises never to change, so that they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aieng_suites.vision.data import Dataset, Jitter, Part

if TYPE_CHECKING:
    from torch import Tensor

Integers = NDArray[np.int64]

SYMBOLS, LENGTH = 10, 12
START = SYMBOLS
"""The symbol before the first that is written; it occurs in no sequence."""
RULES: dict[str, Callable[[Integers], Integers]] = {
    "reverse": lambda sequences: np.ascontiguousarray(sequences[:, ::-1]),
    "sort": lambda sequences: np.sort(sequences, axis=1),
}


class Sequences(Dataset):
    """Symbols (N, LENGTH) in the place of images; a network sees them as they are. Labels (N, LENGTH) are what they become."""

    def standardised(self, images: Tensor) -> Tensor:
        return images


def dataset(sizes: tuple[int, int, int], rule: str, seed: int = 0) -> Sequences:
    """Train, validation and test of these sizes. No sequence occurs twice, be it in one part or in two."""
    count = sum(sizes)
    words = np.random.PCG64(seed).random_raw((count + count // 8 + 8) * LENGTH)
    drawn = (words % SYMBOLS).astype(np.int64).reshape(-1, LENGTH)
    kept = np.sort(np.unique(drawn, axis=0, return_index=True)[1])[:count].astype(np.int64)
    if len(kept) < count:
        raise ValueError(f"sizes={sizes} are more than the different sequences that were drawn")
    train, validation, test = (
        Part(drawn[chosen], RULES[rule](drawn[chosen]), chosen) for chosen in np.split(kept, np.cumsum(sizes)[:2])
    )
    return Sequences(train, validation, test, SYMBOLS, 0.0, 1.0, Jitter(0.0, 0.0, 0.0))
