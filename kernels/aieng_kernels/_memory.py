"""New tensors for results."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from aieng_kernels._native_cpu import cpu

LARGE = 4 << 20
"""Bytes from which huge pages pay: NumPy draws the same line for its arrays."""
KEPT = 32 << 20
"""Bytes from which memory is kept for the next result: from here on malloc, as it comes, maps it anew each time."""


def empty_like(x: Tensor) -> Tensor:
    """An uninitialised contiguous tensor of x's shape, dtype and device.

    On the CPU a large one asks for huge pages, and one of 32 MiB or more is made where a released one of its size lay. Two of these
    stay mapped, and the system may take the pages of those over 256 MiB when memory runs short.
    """
    large = cpu is not None and x.nbytes >= LARGE and x.is_cpu
    if large and x.nbytes >= KEPT and (kept := cpu.kept_like(x)) is not None:
        return from_dlpack(kept)
    new = torch.empty_like(x, memory_format=torch.contiguous_format)
    if large:
        cpu.prefer_huge_pages(new.data_ptr(), new.nbytes)
    return new
