"""Guarded tensors: a write outside shows in the canaries, a read outside brings NaN, a missing write leaves NaN."""

from __future__ import annotations

import math
from types import SimpleNamespace, TracebackType
from typing import Any
from unittest import mock

import torch
from torch import Tensor

CANARY = 1234.0
MARGIN = 2048
"""Elements on each side; a multiple of 8, so that the tensor stays aligned."""


class Guards:
    """Allocates guarded tensors; as a context, also those that ``module`` makes by ``torch.empty`` and ``torch.empty_like``."""

    def __init__(self, module: Any | None = None) -> None:
        self._module, self._whole = module, list[Tensor]()

    def empty(self, shape: Any, *, dtype: torch.dtype, device: Any = "cpu") -> Tensor:
        """A contiguous tensor filled with NaN between two margins of canaries."""
        count = math.prod(shape)
        whole = torch.full((count + 2 * MARGIN,), CANARY, dtype=dtype, device=device)
        self._whole.append(whole)
        return whole[MARGIN : MARGIN + count].fill_(math.nan).view(shape)

    def empty_like(self, x: Tensor) -> Tensor:
        """Such a tensor with the strides of ``torch.empty_like(x)``."""
        return self.empty(x.shape, dtype=x.dtype, device=x.device).as_strided(x.shape, torch.empty_like(x).stride())

    def check(self) -> None:
        assert self._whole
        for whole in self._whole:
            assert torch.all(whole[:MARGIN] == CANARY), "written before the beginning"
            assert torch.all(whole[-MARGIN:] == CANARY), "written beyond the end"

    def __enter__(self) -> Guards:
        made = {"empty": self.empty, "empty_like": self.empty_like}
        self._patch = mock.patch.object(self._module, "torch", SimpleNamespace(**{**vars(torch), **made}))
        self._patch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._patch.stop()


def amid_nan(x: Tensor) -> Tensor:
    """x as a view, strided and transposed, into a larger tensor of NaN: [B, H, S, D] in the layout [B, S + 2, H, D + 8]."""
    B, H, S, D = x.shape
    whole = torch.full((B + 1, S + 2, H, D + 8), math.nan, dtype=x.dtype, device=x.device)
    view = whole[:B, 1 : S + 1, :, :D].transpose(1, 2)
    return view.copy_(x)
