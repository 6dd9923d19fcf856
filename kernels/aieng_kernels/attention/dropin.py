"""torch's own signature for our attention: change the import and nothing else."""

from __future__ import annotations

import math
from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from aieng_kernels._family import candidates
from aieng_kernels.attention import checks, ops
from aieng_kernels.attention.options import UNLIMITED, Options

FEWEST_PRODUCTS = 1 << 22
"""Multiply-adds of q k^T from which ours is called on a CPU where :func:`ops.small` does not do: below, getting to a kernel through
Python costs more than it saves (as measured on a Xeon with AVX-512, in float32, with two threads)."""
FEWEST_SMALL = 1 << 10
"""The same where :func:`ops.small` does: more than a token or two (as measured on an EPYC)."""
FEWEST_RECORDED = 1 << 17
"""The same where a gradient is recorded in float32: a node of autograd that is made in Python takes 25 us more than torch's own (as
measured on both). In 16 bits torch's backward pass takes longer than that."""


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    backend: str | None = None,
) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention`` with our kernels under it.

    Small calls on a CPU that ask for a mask or dropout, smaller ones of which a gradient is recorded, and single tokens go to
    torch's own function, which is sooner done, and so does what is not fused: a mask that wants a gradient, fewer than 3
    dimensions, value of another shape than key, batches that broadcast, float64, other devices, and every wrong argument, which
    torch reports. Dropout draws its seed from torch's default generator, and then drops other weights than torch would. ``backend``
    forces one of our implementations by name; ValueError if the call is one that is not fused.
    """
    judged = backend is None and query.is_cpu and key.ndim > 1
    products = query.numel() * key.size(-2) if judged else math.inf  # asked once: beside a few tokens every question counts
    enough = products >= FEWEST_RECORDED or (
        products >= FEWEST_SMALL and not (query.dtype is torch.float32 and ops.recorded(query, key, value))
    )
    if enough and attn_mask is None and dropout_p == 0.0 and backend is None:
        out = ops.small(query, key, value, scale, is_causal, enable_gqa)
        if out is not None:
            return out
    reason = "torch is sooner done" if products < FEWEST_PRODUCTS else None
    reason = reason or _not_fused(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
    if reason is None and query.ndim == 4:
        return _fused(query, key, value, attn_mask, dropout_p, is_causal, scale, backend)
    if reason is None:
        batch = query.shape[:-2]  # the dimension of heads, if there is one, is one of many to attention
        q, k, v = (x.reshape(1, -1, *x.shape[-2:]) for x in (query, key, value))
        if attn_mask is not None:
            attn_mask = attn_mask.expand(*batch, *attn_mask.shape[-2:]).flatten(0, -3)
        return _fused(q, k, v, attn_mask, dropout_p, is_causal, scale, backend).view(query.shape)
    if backend is not None:
        raise ValueError(f"backend={backend!r} cannot be forced: {reason}")
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )


def _fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    backend: str | None,
) -> Tensor:
    options = _scaled(ops.softmax_scale(q, scale), is_causal)
    if attn_mask is not None:
        options = options._replace(mask=checks.check_mask(attn_mask, q, k))
    if dropout_p:
        options = options._replace(seed=ops.new_seed(q), dropout=dropout_p)
    return ops.forward(q, k, v, options, backend)[0]


@lru_cache
def _scaled(scale: float, is_causal: bool) -> Options:
    return Options(scale=scale, right=0 if is_causal else UNLIMITED)


def _not_fused(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, dropout_p: float, is_causal: bool, enable_gqa: bool
) -> str | None:
    if not (q.ndim == k.ndim == v.ndim >= 3):
        return "query, key and value must have one number of dimensions, 3 at least"
    if not (q.dtype is k.dtype is v.dtype and q.dtype in ops.DTYPES):
        return f"query, key and value must have one dtype of {', '.join(ops.DTYPES.values())}"
    if not ((q.is_cpu and k.is_cpu and v.is_cpu) or (q.is_cuda and q.device == k.device == v.device)):
        return "query, key and value must be on one device, cpu or cuda"
    if not has_kernel(q.device.type, ops.DTYPES[q.dtype]):
        return f"no kernel of ours takes {q.dtype} on {q.device.type} here"
    queries, keys = q.shape, k.shape
    if keys != v.shape or queries[:-3] != keys[:-3] or queries[-1] != keys[-1]:
        return "query, key and value must agree in batch and head dim, and key and value in shape"
    if queries[-3] != keys[-3] and not (q.ndim == 4 and enable_gqa and keys[1] and queries[1] % keys[1] == 0):
        return "key must have query's number of heads, or a divisor of it with enable_gqa"
    if not 0 <= dropout_p < 1:
        return "dropout_p must be in [0, 1)"
    if attn_mask is not None:
        return _mask_not_fused(attn_mask, q, k, is_causal)
    return None


def _mask_not_fused(mask: Tensor, q: Tensor, k: Tensor, is_causal: bool) -> str | None:
    if is_causal:
        return "attn_mask and is_causal exclude each other"
    if mask.dtype not in (torch.bool, q.dtype) or mask.device != q.device:
        return "attn_mask must be bool or of query's dtype, and on its device"
    if mask.requires_grad and torch.is_grad_enabled():
        return "attn_mask must not require a gradient"
    whole = (*q.shape[:-1], k.shape[-2])
    fits = mask.ndim >= 2 and all(n in (1, m) for n, m in zip(reversed(mask.shape), reversed(whole), strict=False))
    return None if fits and mask.ndim <= len(whole) else "attn_mask must be broadcastable to the scores"


@cache
def has_kernel(device: str, dtype: str) -> bool:
    """Whether more than the definition takes this dtype on this kind of device here."""
    return any(i.name != "reference" for i in candidates("attention", device, dtype))
