"""What every launch of a kernel from Python needs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def device_of(x: Tensor) -> AbstractContextManager[object]:
    """A context in which x's CUDA device is the current one; nothing for the CPU tensors of Triton's interpreter."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
