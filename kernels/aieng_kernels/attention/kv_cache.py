"""A cache of keys and values as FlashAttention has it: where new ones go, rotary positions, pages."""

from __future__ import annotations

import torch
from torch import Tensor


def appended(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor | None,
    v: Tensor | None,
    rotary_cos: Tensor | None,
    rotary_sin: Tensor | None,
    cache_seqlens: int | Tensor | None,
    cache_batch_idx: Tensor | None,
    cache_leftpad: Tensor | None,
    block_table: Tensor | None,
    rotary_interleaved: bool,
    local: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(turned queries, keys, values (B, room, Hkv, D), int32 lengths (B,)) after k and v were added to the caches in place.

    The arguments are those of ``flash_attn_with_kvcache``; ``local``: queries stand at positions of their own.
    """
    B, S = q.shape[:2]
    if block_table is not None and cache_batch_idx is not None:
        raise ValueError("cache_batch_idx and block_table exclude each other")
    if (k is None) is not (v is None):
        raise ValueError(f"{'v' if v is None else 'k'} must be given where the other is")
    if (rotary_cos is None) is not (rotary_sin is None):
        raise ValueError(f"rotary_{'sin' if rotary_sin is None else 'cos'} must be given where the other is")
    room = k_cache.shape[1] * (1 if block_table is None else block_table.shape[1])
    lengths = _lengths(cache_seqlens, q, room)
    if rotary_cos is not None and rotary_sin is not None:
        if k is None:
            raise ValueError("rotary_cos needs new keys k")
        first = lengths - (0 if cache_leftpad is None else cache_leftpad)
        places = first[:, None] + torch.arange(max(S, k.shape[1]), device=q.device)
        q_places = places[:, :S] if local else first[:, None].expand(B, S)
        q = turned(q, rotary_cos, rotary_sin, q_places, rotary_interleaved)
        k = turned(k, rotary_cos, rotary_sin, places[:, : k.shape[1]], rotary_interleaved)
    if k is not None and v is not None:
        rows = lengths[:, None].long() + torch.arange(k.shape[1], device=q.device)
        if rows.is_cpu and rows.numel() and int(rows.max()) >= room:
            raise ValueError(f"k_cache has room for {room} keys; k would reach {int(rows.max()) + 1}")
        if block_table is None:
            batch = torch.arange(B, device=q.device) if cache_batch_idx is None else cache_batch_idx.long()
            where = (batch[:, None], rows)
        else:
            page = k_cache.shape[1]
            where = (block_table.long().gather(1, rows // page), rows % page)
        k_cache[where], v_cache[where] = k, v
        lengths = lengths + k.shape[1]
    if block_table is not None:
        k_cache, v_cache = (x[block_table.long().clamp(min=0)].flatten(1, 2) for x in (k_cache, v_cache))
    elif cache_batch_idx is not None:
        k_cache, v_cache = (x[cache_batch_idx.long()] for x in (k_cache, v_cache))
    elif k_cache.shape[0] != B:
        k_cache, v_cache = k_cache[:B], v_cache[:B]
    return q, k_cache, v_cache, lengths


def turned(x: Tensor, cos: Tensor, sin: Tensor, places: Tensor, interleaved: bool) -> Tensor:
    """x (B, N, H, D) with the pairs of its first 2 R dimensions turned by the angles of ``places`` (B, N).

    cos and sin (positions, R). Source: Su et al., RoFormer (arXiv:2104.09864), equation 34.
    """
    R = cos.shape[1]
    if x.shape[-1] < 2 * R:
        raise ValueError(f"rotary_cos must have at most {x.shape[-1] // 2} columns, half the head dim, not {R}")
    if places.is_cpu and places.numel() and int(places.max()) >= len(cos):
        raise ValueError(f"rotary_cos has {len(cos)} positions; position {int(places.max())} is asked for")
    c, s = (table[places.long()][:, :, None].float() for table in (cos, sin))
    head = x[..., : 2 * R].float()
    a, b = (head[..., ::2], head[..., 1::2]) if interleaved else (head[..., :R], head[..., R:])
    pair = (a * c - b * s, a * s + b * c)
    result = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    return torch.cat([result.to(x.dtype), x[..., 2 * R :]], -1)


def _lengths(given: int | Tensor | None, q: Tensor, room: int) -> Tensor:
    """int32 (B,): how many keys there are in each batch."""
    if given is None or isinstance(given, int):
        given = torch.full((q.shape[0],), room if given is None else given, dtype=torch.int32, device=q.device)
    if given.shape != (q.shape[0],) or given.device != q.device:
        raise ValueError(f"cache_seqlens must be an int or a Tensor of shape ({q.shape[0]},) on q's device")
    if given.is_cpu and given.numel() and not 0 <= int(given.min()) <= int(given.max()) <= room:
        raise ValueError(f"cache_seqlens must be in 0..{room}, the room of the cache; it is {given.tolist()}")
    return given.to(torch.int32).contiguous()
