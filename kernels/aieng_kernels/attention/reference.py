"""The definition of attention in plain torch, any floating dtype and device: what every implementation is checked against."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from aieng_kernels._family import implementation
from aieng_kernels._philox import MASK, halves, philox4x32_10
from aieng_kernels.attention.options import UNLIMITED, Options


def attention_reference(q: Tensor, k: Tensor, v: Tensor, o: Options) -> tuple[Tensor, Tensor]:
    """out (B, Hq, S, D) and lse (B, Hq, S), in q's dtype, differentiable by autograd.

    out = softmax(scale q k^T) v: Vaswani et al. (2017), equation 1; heads shared as in Ainslie et al., GQA (2023), section 2.2; the
    rest as in :class:`Options`. q (B, Hq, S, D), k and v (B, Hkv, T, D). Rows that see no key give out 0 and lse -inf.
    """
    if o.q_starts is not None:
        parts = [attention_of_one(q[:, :, i], k[:, :, j], v[:, :, j], o, n) for n, i, j in _sequences(o)]
        out, lse = zip(*parts, strict=True)
        return torch.cat(out, 2), torch.cat(lse, 2)
    return attention_of_one(q, k, v, o)


def attention_of_one(q: Tensor, k: Tensor, v: Tensor, o: Options, sequence: int = 0) -> tuple[Tensor, Tensor]:
    """:func:`attention_reference` of whole batches, or of the one sequence of that number."""
    k, v = (_for_each_query_head(q, _there(x, o)) for x in (k, v))
    p, lse, _ = _weights(q, k, o, sequence)
    return (p * _kept(q, k, o, sequence)) @ v, lse


def attention_gradients(dout: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Options) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dv in q's dtype: Dao, FlashAttention-2 (2023), section 2.2, with delta = rowsum(p dp) for its rowsum(dout out)."""
    if o.q_starts is not None:
        parts = [gradients_of_one(dout[:, :, i], q[:, :, i], k[:, :, j], v[:, :, j], o, n) for n, i, j in _sequences(o)]
        dq, dk, dv = (torch.cat(x, 2) for x in zip(*parts, strict=True))
        return dq, dk, dv
    return gradients_of_one(dout, q, k, v, o)


def gradients_of_one(dout: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Options, sequence: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`attention_gradients` of whole batches, or of the one sequence of that number."""
    shared = k.shape
    k, v = (_for_each_query_head(q, _there(x, o)) for x in (k, v))
    p, _, slope = _weights(q, k, o, sequence)
    kept = _kept(q, k, o, sequence)
    dp = (dout @ v.transpose(-2, -1)) * kept
    ds = o.scale * p * (dp - (p * dp).sum(-1, keepdim=True)) * slope
    per_head = (ds.transpose(-2, -1) @ q, (p * kept).transpose(-2, -1) @ dout)
    dk, dv = (x.reshape(*shared[:2], -1, *shared[2:]).sum(2) if x.numel() else x.new_zeros(shared) for x in per_head)
    return ds @ k, dk, dv


def _sequences(o: Options) -> Iterator[tuple[int, slice, slice]]:
    assert o.q_starts is not None
    assert o.k_starts is not None
    q, k = o.q_starts.tolist(), o.k_starts.tolist()
    for n in range(len(q) - 1):
        yield n, slice(q[n], q[n + 1]), slice(k[n], k[n + 1])


def _there(x: Tensor, o: Options) -> Tensor:
    """Keys or values, zero where there are none: what lies there may be NaN, and zero times NaN is no zero."""
    if o.k_lengths is None:
        return x
    return x.masked_fill((torch.arange(x.shape[2], device=x.device) >= o.k_lengths[:, None])[:, None, :, None], 0)


def _for_each_query_head(q: Tensor, x: Tensor) -> Tensor:
    return x.repeat_interleave(q.shape[1] // max(x.shape[1], 1), dim=1)


def _weights(q: Tensor, k: Tensor, o: Options, sequence: int) -> tuple[Tensor, Tensor, Tensor | float]:
    """softmax(scores) (B, Hq, S, T), the natural logarithm of its denominators (B, Hq, S), and the slope of the soft cap."""
    scores = o.scale * (q @ k.transpose(-2, -1))
    slope: Tensor | float = 1.0
    if o.softcap:
        capped = (scores / o.softcap).tanh()
        scores, slope = o.softcap * capped, 1 - capped**2
    if o.mask is not None and o.mask.dtype is not torch.bool:
        scores = scores + o.mask.to(scores.dtype)
    if o.slopes is not None:
        scores = scores - _falling(q, k, o, o.slopes, sequence).to(scores.dtype)
    scores = scores.masked_fill(~_seen(q, k, o), -torch.inf)
    top = scores.detach().amax(-1, keepdim=True) if k.shape[2] else scores.new_zeros(*scores.shape[:3], 1)
    top = top.masked_fill(top == -torch.inf, 0)  # of a row that sees no key
    e = (scores - top).exp()
    total = e.sum(-1, keepdim=True)
    lse = (top + total.log()).squeeze(-1)
    return e / total.masked_fill(total == 0, 1), lse, slope


def _falling(q: Tensor, k: Tensor, o: Options, slopes: Tensor, sequence: int) -> Tensor:
    """What the slopes take off the scores, float64, (B, Hq, S, T)."""
    S, T = q.shape[2], k.shape[2]
    own = slopes if o.q_starts is None else slopes[sequence : sequence + 1]
    stands = torch.arange(S, device=q.device)[:, None] + _keys_there(k, o) - S
    return own.double()[..., None, None] * (stands - torch.arange(T, device=q.device)).abs()


def _keys_there(k: Tensor, o: Options) -> Tensor:
    """How many keys there are, broadcastable to (B, Hq, S, T)."""
    there = torch.tensor([k.shape[2]], device=k.device) if o.k_lengths is None else o.k_lengths.long()
    return there.view(-1, 1, 1, 1)


def _seen(q: Tensor, k: Tensor, o: Options) -> Tensor:
    """Which keys a query sees, bool, broadcastable to (B, Hq, S, T)."""
    S, T = q.shape[2], k.shape[2]
    keys, there = torch.arange(T, device=q.device), _keys_there(k, o)
    stands = torch.arange(S, device=q.device)[:, None] + (there - S if o.bottom_right else 0)
    seen = keys < there
    if o.left != UNLIMITED:
        seen = seen & (keys >= stands - o.left)
    if o.right != UNLIMITED:
        seen = seen & (keys <= stands + o.right)
    if o.mask is not None and o.mask.dtype is torch.bool:
        seen = seen & o.mask
    return seen


def _kept(q: Tensor, k: Tensor, o: Options, sequence: int) -> Tensor | float:
    """What dropout multiplies each weight by, (B, Hq, S, T): 0 or 1 / (1 - dropout)."""
    if not o.dropout:
        return 1.0
    assert o.seed is not None
    B, H, S = q.shape[:3]
    T = k.shape[2]
    head = (torch.arange(B, device=q.device)[:, None] + sequence) * H + torch.arange(H, device=q.device)
    row = head[..., None] * (o.longest_q or S) + torch.arange(S, device=q.device)
    block = row[..., None] * -(-(o.longest_k or T) // 4) + torch.arange(-(-T // 4), device=q.device)
    nothing = torch.zeros_like(block)
    words = philox4x32_10((block & MASK, block >> 32, nothing, nothing), halves(int(o.seed)))
    dropped = torch.stack(words, -1).flatten(-2)[..., :T] < o.dropped_words
    return (~dropped).to(q.dtype) / (1 - o.dropout)


@implementation("attention", "reference", device="cpu", priority=-100)
@implementation("attention", "reference", device="cuda", priority=-100)
class Reference:
    """The definition itself, in float32 at least and rounded once at the end."""

    @staticmethod
    def supports(q: Tensor, k: Tensor, v: Tensor, o: Options) -> str | None:
        return None

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, o: Options) -> tuple[Tensor, Tensor]:
        out, lse = attention_reference(_wide(q), _wide(k), _wide(v), o)
        return torch.empty_like(q).copy_(out), lse.float().contiguous()

    @staticmethod
    def backward(
        dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, o: Options
    ) -> tuple[Tensor, Tensor, Tensor]:
        gradients = attention_gradients(_wide(dout), _wide(q), _wide(k), _wide(v), o)
        dq, dk, dv = (x.to(q.dtype).contiguous() for x in gradients)
        return dq, dk, dv


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
