r"""Fused attention, exact and without the S x T matrix in memory: :math:`\mathrm{softmax}(\mathrm{scale}\, q k^T)\, v`.

Dimensions: B batch, Hq query heads, Hkv key/value heads (Hq a multiple of Hkv; query head h uses key head h // (Hq / Hkv)),
S queries, T keys, D head dimension. Causal is aligned top-left as in torch: query i sees keys j <= i, also for S != T.
Source: Dao, FlashAttention-2 (2023), algorithms 1 and 2; Milakov and Gimelshein, online softmax (2018), algorithm 3.

**Contract of an implementation**: a class under ``@implementation("attention", name, ...)`` with three static functions.

- ``supports(q, k, v) -> str | None``: why these shapes are not taken, or None (device and dtype are already checked).
- ``forward(q, k, v, *, causal: bool, scale: float) -> (out, lse)``: q (B, Hq, S, D); k and v (B, Hkv, T, D); last dimension
  contiguous, other strides arbitrary. out lies as ``torch.empty_like(q)`` does, so that heads split off a wider tensor merge
  again without a copy; lse (B, Hq, S) is float32 and contiguous, the natural logarithm of the row sums of exp(scale q k^T).
  A row that sees no key (T = 0) gives out 0 and lse -inf.
- ``backward(dout, q, k, v, out, lse, *, causal, scale) -> (dq, dk, dv)``: gradients in the input dtypes, contiguous.

Inputs are never written to, and equal inputs give bit-equal results on a CPU at a given number of threads.
"""

from __future__ import annotations

from torch import Tensor, strided

from aieng_kernels.attention import ops
from aieng_kernels.attention.dropin import scaled_dot_product_attention

__all__ = ["attention", "attention_with_lse", "scaled_dot_product_attention"]


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = False, scale: float | None = None, backend: str | None = None
) -> Tensor:
    """Attention output, differentiable in q, k and v.

    q (B, Hq, S, D), k and v (B, Hkv, T, D), one dtype of float16, bfloat16, float32, float64; any strides. ``scale`` is
    1/sqrt(D) if None. ``backend`` forces an implementation by name; otherwise the best that runs here is taken.
    Returns (B, Hq, S, D). Raises TypeError or ValueError that names the argument.
    """
    return attention_with_lse(q, k, v, is_causal=is_causal, scale=scale, backend=backend)[0]


def attention_with_lse(
    q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool = False, scale: float | None = None, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """As :func:`attention`, with lse (B, Hq, S), float32: the natural logarithm of the softmax denominator (not differentiable)."""
    check_arguments(q, k, v, is_causal, scale, backend)
    return ops.forward(q, k, v, is_causal, scale, backend)


def check_arguments(q: Tensor, k: Tensor, v: Tensor, is_causal: bool, scale: float | None, backend: str | None) -> None:
    """Raise TypeError or ValueError, naming the argument, unless the arguments are as :func:`attention` wants them."""
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
    if not isinstance(is_causal, bool):
        raise TypeError(f"is_causal must be a bool, not {type(is_causal).__name__}")
    if scale is not None and not isinstance(scale, (int, float)):
        raise TypeError(f"scale must be a float or None, not {type(scale).__name__}")
    if backend is not None and not isinstance(backend, str):
        raise TypeError(f"backend must be a str or None, not {type(backend).__name__}")
