r"""Fused attention, exact and without the S x T matrix in memory: :math:`\mathrm{softmax}(\mathrm{scale}\, q k^T)\, v`.

Dimensions: B batch, Hq query heads, Hkv key/value heads (Hq a multiple of Hkv; query head h uses key head h // (Hq / Hkv)),
S queries, T keys, D head dimension. Which keys a query sees, masks, the soft cap and dropout: :class:`options.Options`.
Source: Dao, FlashAttention-2 (2023), algorithms 1 and 2; Milakov and Gimelshein, online softmax (2018), algorithm 3.

**Contract of an implementation**: a class under ``@implementation("attention", name, ...)`` with three static functions.

- ``supports(q, k, v, options) -> str | None``: why these are not taken, or None (device and dtype are already checked).
- ``forward(q, k, v, options) -> (out, lse)``: q (B, Hq, S, D); k and v (B, Hkv, T, D); last dimension contiguous, other strides
  arbitrary. out lies as ``torch.empty_like(q)`` does, so that heads split off a wider tensor merge again without a copy; lse
  (B, Hq, S) is float32 and contiguous, the natural logarithm of the row sums of exp(scores), before dropout.
  A row that sees no key (T = 0, or all hidden) gives out 0 and lse -inf.
- ``backward(dout, q, k, v, out, lse, options) -> (dq, dk, dv)``: gradients in the input dtypes, contiguous.

Inputs are never written to, and equal inputs give bit-equal results on a CPU at a given number of threads.
"""

from __future__ import annotations

from torch import Tensor

from aieng_kernels.attention import ops
from aieng_kernels.attention.checks import check_mask, check_probability, check_softcap, check_tensors, sides
from aieng_kernels.attention.dropin import scaled_dot_product_attention
from aieng_kernels.attention.flash_attn import flash_attn_func, flash_attn_varlen_func, flash_attn_with_kvcache
from aieng_kernels.attention.install import install, uninstall
from aieng_kernels.attention.options import UNLIMITED, Options

__all__ = [
    "attention",
    "attention_with_lse",
    "flash_attn_func",
    "flash_attn_varlen_func",
    "flash_attn_with_kvcache",
    "install",
    "scaled_dot_product_attention",
    "uninstall",
]

_EVERYTHING = (UNLIMITED, UNLIMITED)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    window_size: tuple[int, int] = _EVERYTHING,
    bottom_right: bool = False,
    softcap: float = 0.0,
    scale: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """Attention output, differentiable in q, k and v.

    q (B, Hq, S, D), k and v (B, Hkv, T, D), one dtype of float16, bfloat16, float32, float64; any strides. Returns (B, Hq, S, D).

    ``attn_mask``, broadcastable to (B, Hq, S, T): bool, true where a query sees a key, or of q's dtype or float32, added to the
    scores; no gradient flows into it. ``dropout_p`` in [0, 1): each weight is dropped with that probability, by a seed from torch's
    default generator of the device. Query i sees keys i - left to i + right of ``window_size`` (left, right), -1 for all on that
    side; ``is_causal`` is right = 0; with ``bottom_right`` (as FlashAttention) T - S is added to i, else (as torch) nothing.
    ``softcap`` c > 0 makes each scaled score x into c tanh(x / c). ``scale`` is 1/sqrt(D) if None. ``backend`` forces an
    implementation by name; otherwise the best that takes the call is. Raises TypeError or ValueError that names the argument.
    """
    plain = attn_mask is None and backend is None and window_size is _EVERYTHING and not bottom_right
    if plain and dropout_p == 0.0 and softcap == 0.0 and (out := ops.small(q, k, v, scale, is_causal)) is not None:
        return out
    return _checked(q, k, v, attn_mask, is_causal, window_size, bottom_right, softcap, dropout_p, scale, backend)[0]


def attention_with_lse(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    window_size: tuple[int, int] = _EVERYTHING,
    bottom_right: bool = False,
    softcap: float = 0.0,
    scale: float | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """As :func:`attention`, with lse (B, Hq, S), float32: the natural logarithm of the softmax denominator (not differentiable)."""
    return _checked(q, k, v, attn_mask, is_causal, window_size, bottom_right, softcap, dropout_p, scale, backend)


def _checked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    window_size: tuple[int, int],
    bottom_right: bool,
    softcap: float,
    dropout_p: float,
    scale: float | None,
    backend: str | None,
) -> tuple[Tensor, Tensor]:
    check_tensors(q, k, v)
    if not isinstance(is_causal, bool):
        raise TypeError(f"is_causal must be a bool, not {type(is_causal).__name__}")
    if scale is not None and not isinstance(scale, (int, float)):
        raise TypeError(f"scale must be a float or None, not {type(scale).__name__}")
    if backend is not None and not isinstance(backend, str):
        raise TypeError(f"backend must be a str or None, not {type(backend).__name__}")
    check_probability(dropout_p)
    check_softcap(softcap)
    left, right = sides(window_size, is_causal)
    mask = None if attn_mask is None else check_mask(attn_mask, q, k)
    seed = ops.new_seed(q) if dropout_p else None
    bottom_right = bottom_right and q.shape[2] != k.shape[2]
    # by position, for by name takes as long again
    scale = ops.softmax_scale(q, scale)
    options = Options(mask, seed, None, None, None, None, scale, left, right, bottom_right, softcap, dropout_p)
    return ops.forward(q, k, v, options, backend)
