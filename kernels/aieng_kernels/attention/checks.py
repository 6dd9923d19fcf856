"""The arguments that the public functions share, judged: TypeError or ValueError that begins with the argument's name."""

from __future__ import annotations

import math

import torch
from torch import Tensor, strided

from aieng_kernels.attention import ops
from aieng_kernels.attention.options import UNLIMITED


def check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raise TypeError or ValueError, naming the argument, unless the tensors are as attention wants them."""
    if not _fit(q, k, v):  # a small call has no time to ask each tensor each question by its name
        _name_what_is_wrong(q, k, v)


def _fit(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """True only where nothing is wrong, in as few looks as will do."""
    if not (isinstance(q, Tensor) and isinstance(k, Tensor) and isinstance(v, Tensor)):
        return False
    if q.is_nested or k.is_nested or v.is_nested or not (q.layout is k.layout is v.layout is strided):
        return False
    if not (q.dtype is k.dtype is v.dtype and q.dtype in ops.DTYPES and q.device == k.device == v.device):
        return False
    queries, keys = q.shape, k.shape
    if not (len(queries) == 4 == len(keys) and keys == v.shape and queries[0] == keys[0] and queries[3] == keys[3]):
        return False
    return keys[1] > 0 and queries[1] % keys[1] == 0


def _name_what_is_wrong(q: Tensor, k: Tensor, v: Tensor) -> None:
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a Tensor, not {type(x).__name__}")
        if x.is_nested or x.layout is not strided:
            raise TypeError(f"{name} must be a dense tensor, not {'nested' if x.is_nested else x.layout}")
        if x.ndim != 4:
            raise ValueError(f"{name} must have 4 dimensions (batch, heads, length, head dim); its shape is {tuple(x.shape)}")
        if x.dtype not in ops.DTYPES:
            raise TypeError(f"{name} must be one of {', '.join(ops.DTYPES.values())}, not {x.dtype}")
        if x.dtype != q.dtype:
            raise TypeError(f"{name} must have q's dtype {q.dtype}, not {x.dtype}")
        if x.device != q.device:
            raise ValueError(f"{name} must be on q's device {q.device}, not {x.device}")
        if x.shape[0] != q.shape[0]:
            raise ValueError(f"{name} must have q's batch {q.shape[0]}, not {x.shape[0]}")
        if x.shape[3] != q.shape[3]:
            raise ValueError(f"{name} must have q's head dim {q.shape[3]}, not {x.shape[3]}")
    if v.shape != k.shape:
        raise ValueError(f"v must have k's shape {tuple(k.shape)}, not {tuple(v.shape)}")
    heads, shared = q.shape[1], k.shape[1]
    if heads % shared if shared else heads:
        raise ValueError(f"k must have a number of heads that divides q's {heads}, not {shared}")


def check_mask(mask: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """``attn_mask`` expanded to (B, Hq, S, T), by a copy only if its rows are strided; TypeError or ValueError if it is wrong."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"attn_mask must be a Tensor or None, not {type(mask).__name__}")
    if mask.dtype not in (torch.bool, torch.float32, q.dtype):
        raise TypeError(f"attn_mask must be bool, float32 or of q's dtype {q.dtype}, not {mask.dtype}")
    if mask.device != q.device:
        raise ValueError(f"attn_mask must be on q's device {q.device}, not {mask.device}")
    if mask.requires_grad and torch.is_grad_enabled():
        raise ValueError("attn_mask must not require a gradient: none flows into it")
    whole = (*q.shape[:3], k.shape[2])
    try:
        expanded = mask.expand(whole)
    except RuntimeError:
        raise ValueError(
            f"attn_mask must be broadcastable to {whole} (batch, heads, queries, keys), not {tuple(mask.shape)}"
        ) from None
    return expanded if expanded.stride(-1) in (0, 1) else mask.contiguous().expand(whole)


def check_probability(dropout_p: float) -> None:
    """Raise TypeError or ValueError unless it is a number in [0, 1)."""
    if not isinstance(dropout_p, (int, float)):
        raise TypeError(f"dropout_p must be a float, not {type(dropout_p).__name__}")
    if not 0 <= dropout_p < 1:
        raise ValueError(f"dropout_p must be in [0, 1), not {dropout_p}")


def check_softcap(softcap: float) -> None:
    """Raise TypeError or ValueError unless it is a number, 0 or positive."""
    if not isinstance(softcap, (int, float)):
        raise TypeError(f"softcap must be a float, not {type(softcap).__name__}")
    if not 0 <= softcap < math.inf:
        raise ValueError(f"softcap must be 0 (none) or positive, not {softcap}")


def sides(window_size: tuple[int, int], is_causal: bool) -> tuple[int, int]:
    """The window's sides, -1 for unlimited; TypeError or ValueError, naming ``window_size``, if they are none."""
    if not (isinstance(window_size, (tuple, list)) and [type(side) for side in window_size] == [int, int]):
        raise TypeError(f"window_size must be two ints (left, right), not {window_size!r}")
    left, right = window_size
    return max(left, UNLIMITED), 0 if is_causal else max(right, UNLIMITED)
