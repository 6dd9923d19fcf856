"""The definition of attention in plain torch, any floating dtype and device: what every implementation is checked against."""

from __future__ import annotations

import torch
from torch import Tensor

from aieng_kernels._family import implementation


def attention_reference(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """out (B, Hq, S, D) and lse (B, Hq, S), in q's dtype, differentiable by autograd.

    out = softmax(scale q k^T) v: Vaswani et al. (2017), equation 1; heads shared as in Ainslie et al., GQA (2023), section 2.2.
    q (B, Hq, S, D), k and v (B, Hkv, T, D). Rows that see no key give out 0 and lse -inf.
    """
    k, v = _for_each_query_head(q, k), _for_each_query_head(q, v)
    scores = _scores(q, k, causal, scale)
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


def attention_gradients(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dv in q's dtype: Dao, FlashAttention-2 (2023), section 2.2, with delta = rowsum(p dp) for its rowsum(dout out)."""
    shared = k.shape
    k, v = _for_each_query_head(q, k), _for_each_query_head(q, v)
    p = _scores(q, k, causal, scale).softmax(-1)
    dp = dout @ v.transpose(-2, -1)
    ds = scale * p * (dp - (p * dp).sum(-1, keepdim=True))
    per_head = (ds.transpose(-2, -1) @ q, p.transpose(-2, -1) @ dout)
    dk, dv = (x.reshape(*shared[:2], -1, *shared[2:]).sum(2) if x.numel() else x.new_zeros(shared) for x in per_head)
    return ds @ k, dk, dv


def _for_each_query_head(q: Tensor, x: Tensor) -> Tensor:
    return x.repeat_interleave(q.shape[1] // max(x.shape[1], 1), dim=1)


def _scores(q: Tensor, k: Tensor, causal: bool, scale: float) -> Tensor:
    scores = scale * (q @ k.transpose(-2, -1))
    if causal:  # aligned top-left
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1), -torch.inf)
    return scores


@implementation("attention", "reference", device="cpu", priority=-100)
@implementation("attention", "reference", device="cuda", priority=-100)
class Reference:
    """The definition itself, in float32 at least and rounded once at the end."""

    @staticmethod
    def supports(q: Tensor, k: Tensor, v: Tensor) -> str | None:
        return None

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
        out, lse = attention_reference(_wide(q), _wide(k), _wide(v), causal=causal, scale=scale)
        return torch.empty_like(q).copy_(out), lse.float().contiguous()

    @staticmethod
    def backward(
        dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide_q, wide_k, wide_v = _wide(q), _wide(k), _wide(v)
        gradients = attention_gradients(_wide(dout), wide_q, wide_k, wide_v, causal=causal, scale=scale)
        dq, dk, dv = (x.to(q.dtype).contiguous() for x in gradients)
        return dq, dk, dv


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
