"""What every CUDA implementation needs to call its launcher: the compiled half, and where a tensor's work has to go."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aieng_kernels._requirements import native


def launcher(name: str) -> Any:
    """The function ``name`` of the compiled CUDA half; RuntimeError where that is not built."""
    module = native("_cuda")
    if module is None:
        raise RuntimeError("the native CUDA module is not built (needs nvcc at install)")
    return getattr(module, name)


def place(x: Tensor) -> tuple[int, int]:
    """The index of x's device and the address of torch's current stream there."""
    stream = torch.cuda.current_stream(x.device)
    return stream.device.index, stream.cuda_stream
