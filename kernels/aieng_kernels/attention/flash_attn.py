"""FlashAttention's own functions over our attention: change ``from flash_attn import`` and nothing else.

Signatures and semantics are those of flash-attn 2.8 (github.com/Dao-AILab/flash-attention, ``flash_attn_interface.py``): tensors
are (batch, length, heads, head dim), causal masks and windows are aligned bottom-right, keys may have a divisor of the queries'
heads. They run wherever our attention does, on a CPU too, and take float32. ``deterministic`` asks for what is always so here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aieng_kernels.attention import checks, ops
from aieng_kernels.attention.kv_cache import appended
from aieng_kernels.attention.options import UNLIMITED, Options

Returned = Tensor | tuple[Tensor, Tensor, None]


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (UNLIMITED, UNLIMITED),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Returned:
    """Attention of q (B, S, Hq, D) over k and v (B, T, Hkv, D), differentiable; returns (B, S, Hq, D).

    Query i sees keys i + T - S - left to i + T - S + right; ``causal`` is right = 0. ``alibi_slopes`` (Hq,) or (B, Hq), float32:
    -slope |i + T - S - j| is added to a score. With ``return_attn_probs`` (out, lse (B, Hq, S), None): the weights are never in
    memory. Raises TypeError or ValueError that names the argument.
    """
    heads_first = _heads_first(q, k, v)
    o = _options(heads_first[0], dropout_p, softmax_scale, causal, window_size, softcap)
    o = o._replace(slopes=_slopes(alibi_slopes, heads_first[0], len(q)))
    return _returned(*ops.forward(*heads_first, o), return_attn_probs)


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (UNLIMITED, UNLIMITED),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Tensor | None = None,
) -> Returned:
    """As :func:`flash_attn_func` for N sequences end to end: q (all queries, Hq, D), k and v (all keys, Hkv, D).

    Sequence n is rows cu_seqlens[n] to cu_seqlens[n + 1], int32 (N + 1,) each; the longest have ``max_seqlen`` rows. lse is
    (Hq, all queries). With ``block_table`` k and v are pages as in :func:`flash_attn_with_kvcache`; they are gathered first.
    """
    if block_table is not None:
        k, v = (_gathered(x, block_table, cu_seqlens_k) for x in (k, v))
    heads_first = _heads_first(*(x[None] if isinstance(x, Tensor) and x.ndim == 3 else x for x in (q, k, v)))
    q_starts = _starts("cu_seqlens_q", cu_seqlens_q, heads_first[0].shape[2])
    k_starts = _starts("cu_seqlens_k", cu_seqlens_k, heads_first[1].shape[2])
    if len(q_starts) != len(k_starts):
        raise ValueError(f"cu_seqlens_k must have as many entries as cu_seqlens_q, {len(q_starts)}, not {len(k_starts)}")
    o = _options(heads_first[0], dropout_p, softmax_scale, causal, window_size, softcap)
    o = o._replace(q_starts=q_starts, k_starts=k_starts, longest_q=int(max_seqlen_q), longest_k=int(max_seqlen_k))
    o = o._replace(slopes=_slopes(alibi_slopes, heads_first[0], len(q_starts) - 1))
    out, lse = ops.forward(*heads_first, o)
    out, lse = out[0].transpose(0, 1), lse[0]
    return (out, lse, None) if return_attn_probs else out


@torch.no_grad()
def flash_attn_with_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    rotary_cos: Tensor | None = None,
    rotary_sin: Tensor | None = None,
    cache_seqlens: int | Tensor | None = None,
    cache_batch_idx: Tensor | None = None,
    cache_leftpad: Tensor | None = None,
    block_table: Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (UNLIMITED, UNLIMITED),
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    alibi_slopes: Tensor | None = None,
    num_splits: int = 0,
    return_softmax_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention of new queries (B, S, Hq, D) over a cache, to which new keys and values (B, N, Hkv, D) are first added in place.

    ``k_cache`` and ``v_cache`` are (B or more, room, Hkv, D), of which batch b uses row ``cache_batch_idx[b]`` (b if None) from
    ``cache_leftpad[b]`` (0) to ``cache_seqlens[b]`` (all); or, with ``block_table`` (B, pages of a batch), pages (pages, page
    length, Hkv, D). New keys and values go behind. With ``rotary_cos`` and ``rotary_sin`` (positions, R / 2) the first R dimensions
    of new keys, and of queries, are turned by their position (Su et al., RoFormer, arXiv:2104.09864, equation 34), in pairs of
    neighbours or, without ``rotary_interleaved``, of the two halves; without ``causal`` or a window all queries stand at the first
    new position. Pages and picked batches are gathered before attention. Nothing is differentiable; ``num_splits`` is chosen here.
    Returns out (B, S, Hq, D), with ``return_softmax_lse`` also lse (B, Hq, S).
    """
    local = causal or tuple(window_size) != (UNLIMITED, UNLIMITED)
    q, k_all, v_all, lengths = appended(
        *(q, k_cache, v_cache, k, v, rotary_cos, rotary_sin, cache_seqlens),
        *(cache_batch_idx, cache_leftpad, block_table, rotary_interleaved, local),
    )
    heads_first = _heads_first(q, k_all, v_all)
    o = _options(heads_first[0], 0.0, softmax_scale, causal, window_size, softcap)
    slopes = _slopes(alibi_slopes, heads_first[0], len(q))
    if cache_leftpad is not None:
        mask = _behind_padding(cache_leftpad, heads_first[0], k_all.shape[1], lengths, slopes)
        o, slopes = o._replace(mask=checks.check_mask(mask, *heads_first[:2])), None
    o = o._replace(k_lengths=lengths, slopes=slopes)
    out, lse = ops.forward(*heads_first, o)
    return (out.transpose(1, 2), lse) if return_softmax_lse else out.transpose(1, 2)


def _heads_first(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, length, H, D) as the (B, H, length, D) that attention takes, checked."""
    turned = [x.transpose(1, 2) if isinstance(x, Tensor) and x.ndim == 4 else x for x in (q, k, v)]
    checks.check_tensors(*turned)
    return turned[0], turned[1], turned[2]


def _options(
    q: Tensor, dropout_p: float, softmax_scale: float | None, causal: bool, window_size: tuple[int, int], softcap: float
) -> Options:
    checks.check_probability(dropout_p)
    checks.check_softcap(softcap)
    left, right = checks.sides(window_size, causal)
    return Options(
        seed=ops.new_seed(q) if dropout_p else None,
        scale=ops.softmax_scale(q, softmax_scale),
        left=left,
        right=right,
        bottom_right=True,
        softcap=float(softcap),
        dropout=float(dropout_p),
    )


def _returned(out: Tensor, lse: Tensor, everything: bool) -> Returned:
    return (out.transpose(1, 2), lse, None) if everything else out.transpose(1, 2)


def _slopes(slopes: Tensor | None, q: Tensor, sequences: int) -> Tensor | None:
    """``alibi_slopes`` of every sequence, as attention takes them."""
    if slopes is None:
        return None
    H = q.shape[1]
    if not isinstance(slopes, Tensor) or slopes.shape not in ((H,), (sequences, H)):
        found = tuple(slopes.shape) if isinstance(slopes, Tensor) else type(slopes).__name__
        raise ValueError(f"alibi_slopes must be a Tensor of shape ({H},) or ({sequences}, {H}), not {found}")
    if slopes.device != q.device:
        raise ValueError(f"alibi_slopes must be on q's device {q.device}, not {slopes.device}")
    return slopes.float().expand(sequences, H).contiguous()


def _behind_padding(leftpad: Tensor, q: Tensor, room: int, lengths: Tensor, slopes: Tensor | None) -> Tensor:
    """The keys from ``leftpad`` on, as a mask; with slopes, which a mask excludes, what they add is in it."""
    there = (torch.arange(room, device=q.device) >= leftpad[:, None])[:, None, None]
    if slopes is None:
        return there
    S = q.shape[2]
    stands = torch.arange(S, device=q.device)[:, None] + lengths.view(-1, 1, 1, 1) - S
    added = -slopes[..., None, None] * (stands - torch.arange(room, device=q.device)).abs()
    return added.masked_fill(~there, -torch.inf)


def _starts(name: str, starts: Tensor, rows: int) -> Tensor:
    if not isinstance(starts, Tensor) or starts.dtype is not torch.int32 or starts.ndim != 1 or not len(starts):
        raise TypeError(f"{name} must be an int32 Tensor of one dimension and one entry at least")
    if starts.is_cpu and not torch.compiler.is_compiling():  # on a GPU it would wait for the device
        ends = starts.tolist()
        if ends[0] != 0 or ends[-1] != rows or sorted(ends) != ends:
            raise ValueError(f"{name} must rise from 0 to the number of rows, {rows}; it is {ends}")
    return starts.contiguous()


def _gathered(pages: Tensor, block_table: Tensor, starts: Tensor) -> Tensor:
    """The rows of each sequence out of its pages, end to end."""
    ends, length = starts.tolist(), pages.shape[1]
    found = []
    for n in range(len(ends) - 1):
        count = ends[n + 1] - ends[n]
        found.append(pages[block_table[n, : -(-count // length)].long()].flatten(0, 1)[:count])
    return torch.cat(found)
