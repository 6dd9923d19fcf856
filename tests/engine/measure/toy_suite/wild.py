"""A kernel that reads wherever it is told."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl


@triton.jit
def _read(x, y, offset):  # type: ignore[no-untyped-def]
    tl.store(y, tl.load(x + offset))


def read(x: Any, offset: int) -> Any:
    y = torch.empty_like(x)
    _read[(1,)](x, y, offset)
    torch.cuda.synchronize()
    return y
