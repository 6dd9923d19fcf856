"""New tensors for results."""

from __future__ import annotations

import torch
from torch import Tensor

from aieng_kernels._requirements import native

LARGE = 4 << 20
"""Bytes from which huge pages pay: NumPy draws the same line for its arrays."""


def empty_like(x: Tensor) -> Tensor:
    """An uninitialised contiguous tensor of x's shape, dtype and device; a large one on the CPU asks for huge pages."""
    new = torch.empty_like(x, memory_format=torch.contiguous_format)
    if new.nbytes >= LARGE and new.device.type == "cpu" and (cpu := native("_cpu")) is not None:
        cpu.prefer_huge_pages(new.data_ptr(), new.nbytes)
    return new
