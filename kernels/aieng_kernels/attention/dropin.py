"""torch's own signature for our attention: change the import and nothing else."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from aieng_kernels.attention import ops


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

    What is not fused goes to torch's own function: ``attn_mask``, ``dropout_p`` > 0, other than 4 dimensions, value of another
    shape than key, shapes that broadcast, other dtypes and devices, and every wrong argument, which torch reports.
    ``backend`` forces one of our implementations by name; ValueError if the call is one of those that go to torch.
    """
    reason = _not_fused(query, key, value, attn_mask, dropout_p, enable_gqa)
    if reason is None:
        return ops.forward(query, key, value, bool(is_causal), scale, backend)[0]
    if backend is not None:
        raise ValueError(f"backend={backend!r} cannot be forced: {reason}")
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )


def _not_fused(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, dropout_p: float, enable_gqa: bool) -> str | None:
    if attn_mask is not None:
        return "attn_mask is not fused"
    if dropout_p:
        return "dropout_p > 0 is not fused"
    if not (q.ndim == k.ndim == v.ndim == 4):
        return "query, key and value must have 4 dimensions"
    if not (q.dtype is k.dtype is v.dtype and q.dtype in ops.DTYPES):
        return f"query, key and value must have one dtype of {', '.join(ops.DTYPES.values())}"
    if not ((q.is_cpu and k.is_cpu and v.is_cpu) or (q.is_cuda and q.device == k.device == v.device)):
        return "query, key and value must be on one device, cpu or cuda"
    (batch, heads, _, head_dim), keys = q.shape, k.shape
    if keys != v.shape or batch != keys[0] or head_dim != keys[3]:
        return "query, key and value must agree in batch and head dim, and key and value in shape"
    if heads != keys[1] and not (enable_gqa and keys[1] and heads % keys[1] == 0):
        return "key must have query's number of heads, or a divisor of it with enable_gqa"
    return None
