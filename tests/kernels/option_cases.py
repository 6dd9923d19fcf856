"""Windows and masks that attention on a device is asked for, whichever way its kernels are run."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# (S, T, left, right)
WINDOWS = [
    (140, 270, 20, 9),  # blocks of keys that no row of a block sees lie before and after those that are seen
    (130, 140, 1, 1),  # the last row and the last key that are seen are the first of a block
    (70, 150, 5, 0),
    (150, 70, 0, 0),
    (70, 150, 17, 30),
    (150, 70, 17, 30),
    (130, 130, 80, -1),
    (70, 150, -1, 3),
    (150, 70, 3, 90),
    (1, 40, 2, 1),
    (150, 70, -1, 0),
    (70, 150, 2**40, 2**40),
]
BOOL_MASKS = ["bool", "bool of keys", "bool of queries"]
ADDED_MASKS = ["added", "added to all alike", "added to rows", "added and -inf", "lowest"]
MASK_SHAPE = B, H, S, T = 2, 2, 35, 70


def mask_amid_others(kind: str, dtype: torch.dtype, device: str = "cpu") -> Tensor:
    """A mask of MASK_SHAPE, of every stride, amid NaN or true, where reading beyond it would show. dtype: an added one's."""
    g = torch.Generator().manual_seed(3)
    mask = {
        "bool": lambda: torch.rand(B, H, S, T, generator=g) < 0.6,
        "bool of keys": lambda: torch.rand(B, 1, 1, T, generator=g) < 0.6,
        "bool of queries": lambda: torch.rand(1, H, S, 1, generator=g) < 0.6,
        "added": lambda: 2 * torch.randn(B, H, S, T, generator=g),
        "added to all alike": lambda: 2 * torch.randn(S, T, generator=g),
        "added to rows": lambda: torch.randn(1, H, S, 1, generator=g),
        "added and -inf": lambda: torch.where(torch.rand(H, S, T, generator=g) < 0.3, -torch.inf, torch.randn(T, generator=g)),
        "lowest": lambda: torch.where(torch.rand(S, T, generator=g) < 0.3, torch.finfo(torch.float16).min, 0.0),
    }[kind]()
    if kind in ADDED_MASKS:
        mask = mask.to(dtype)
    whole = torch.ones(*(n + 2 if n > 1 else 1 for n in mask.shape), dtype=mask.dtype)
    whole = whole.fill_(math.nan) if kind in ADDED_MASKS else whole
    inside = whole[tuple(slice(1, n + 1) if n > 1 else slice(None) for n in mask.shape)]
    return inside.copy_(mask).to(device).expand(MASK_SHAPE)
