"""The options of attention as the native modules, of the CPU and of CUDA, take them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from aieng_kernels.attention.options import Options

_NO_TENSOR = (0, (0, 0, 0, 0))


def address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def numbers(x: Tensor) -> tuple[int, tuple[int, ...]]:
    """A tensor's address and strides."""
    return x.data_ptr(), x.stride()


def asked(keeper: Any, q: Tensor, o: Options) -> Any:
    """The options in ``keeper``, a module's ``AttentionOptions``; those without a tensor are kept, as a small call is soon done."""
    return _made(keeper, q, o) if o.tensors else _without_tensors(keeper, o)


@lru_cache
def _without_tensors(keeper: Any, o: Options) -> Any:
    return _made(keeper, None, o)


def _made(keeper: Any, q: Tensor | None, o: Options) -> Any:
    dropped = (address(o.seed), o.dropped_words, 1 / (1 - o.dropout))
    sequences = 0 if o.q_starts is None else o.q_starts.shape[0] - 1
    lengths = (sequences, address(o.q_starts), address(o.k_starts), address(o.k_lengths), o.longest_q, o.longest_k)
    return keeper(o.scale, (o.left, o.right, o.bottom_right), o.softcap, _mask(q, o), dropped, lengths)


def _mask(q: Tensor | None, o: Options) -> tuple[int, tuple[int, tuple[int, ...]]]:
    """Its kind, as Mask::Kind in options.h, and where it, or what makes it, lies."""
    if o.slopes is not None:
        return 4, (o.slopes.data_ptr(), (*o.slopes.stride(), 0, 0))
    if o.mask is None:
        return 0, _NO_TENSOR
    assert q is not None
    return 1 if o.mask.dtype is torch.bool else 3 if o.mask.dtype is q.dtype else 2, numbers(o.mask)
