"""FlashAttention's functions against their definition, one query at a time in float64."""

from __future__ import annotations

import math

import pytest
import torch
from aieng_kernels.attention import flash_attn_func, flash_attn_varlen_func, flash_attn_with_kvcache


def tensors(*shapes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def definition(q, k, v, causal=False, window_size=(-1, -1), softcap=0.0, slopes=None, scale=None, first=0):
    """out (S, Hq, D) and lse (Hq, S) of one sequence: q (S, Hq, D), k and v (T, Hkv, D), keys from ``first`` on."""
    (S, H, D), T = q.shape, len(k)
    left, right = window_size[0], 0 if causal else window_size[1]
    out, lse = torch.zeros(S, H, D, dtype=torch.float64), torch.full((H, S), -torch.inf, dtype=torch.float64)
    for i in range(S):
        stands = i + T - S
        keys = range(max(first, 0 if left < 0 else stands - left), T if right < 0 else min(T, stands + right + 1))
        for h in range(H if len(keys) else 0):
            shared = h // (H // k.shape[1])
            scores = (scale or D**-0.5) * (k[keys.start : keys.stop, shared].double() @ q[i, h].double())
            scores = softcap * torch.tanh(scores / softcap) if softcap else scores
            if slopes is not None:
                scores = scores - slopes[h].double() * (stands - torch.tensor(keys, dtype=torch.float64)).abs()
            out[i, h], lse[h, i] = scores.softmax(0) @ v[keys.start : keys.stop, shared].double(), scores.logsumexp(0)
    return out, lse


def close(got, due):
    assert got.shape == due.shape
    assert torch.equal(got == -torch.inf, due == -torch.inf)
    torch.testing.assert_close(got.double(), due, rtol=2e-5, atol=2e-5)


OPTIONS = [
    {},
    {"causal": True},
    {"window_size": (4, 2)},
    {"window_size": (3, -1), "causal": True, "softmax_scale": 0.3},
    {"softcap": 1.5},
    {"alibi_slopes": torch.tensor([0.5, 0.25, 0.1, 0.0])},
]


def named(options):
    return {{"alibi_slopes": "slopes", "softmax_scale": "scale"}.get(n, n): x for n, x in options.items()}


@pytest.mark.parametrize("lengths", [(7, 12), (12, 7), (9, 9)], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: ",".join(o))
def test_dense(lengths, options):
    S, T = lengths
    q, k, v = tensors((2, S, 4, 16), (2, T, 2, 16), (2, T, 2, 16))
    out, lse, weights = flash_attn_func(q, k, v, **options, return_attn_probs=True)
    assert weights is None
    assert out.is_contiguous()
    assert torch.equal(flash_attn_func(q, k, v, **options), out)
    for b in range(2):
        due, due_lse = definition(q[b], k[b], v[b], **named(options))
        close(out[b], due)
        close(lse[b], due_lse)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: ",".join(o))
def test_many_lengths(options):
    queries, keys = [5, 0, 1, 9], [8, 3, 4, 6]
    q, k, v = tensors((15, 4, 16), (21, 2, 16), (21, 2, 16))
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    ends = [torch.tensor([0, *n]).cumsum(0, dtype=torch.int32) for n in (queries, keys)]
    out, lse, _ = flash_attn_varlen_func(q, k, v, *ends, 9, 8, **options, return_attn_probs=True)
    assert lse.shape == (4, 15)
    dout = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(out, (q, k, v), dout)
    for n in range(4):
        rows, cols = slice(ends[0][n], ends[0][n + 1]), slice(ends[1][n], ends[1][n + 1])
        due, due_lse = definition(q[rows].detach(), k[cols].detach(), v[cols].detach(), **named(options))
        close(out[rows], due)
        close(lse[:, rows], due_lse)
        alone = [x.detach()[None, r].requires_grad_() for x, r in ((q, rows), (k, cols), (v, cols))]
        single = flash_attn_func(*alone, **options)
        for got, x, r in zip(gradients, torch.autograd.grad(single, alone, dout[None, rows]), (rows, cols, cols), strict=True):
            torch.testing.assert_close(got[r], x[0], rtol=2e-5, atol=2e-5)


def test_gradients_of_dense_are_those_of_the_definition():
    q, k, v = (x.double()[:, :5].requires_grad_() for x in tensors((1, 6, 2, 4), (1, 6, 1, 4), (1, 6, 1, 4)))
    assert torch.autograd.gradcheck(lambda q, k, v: flash_attn_func(q, k[:, :4], v[:, :4], causal=True, softcap=2.0), (q, k, v))


def test_dropout_is_fixed_by_the_seed_and_keeps_the_mean():
    q, k, v = tensors((2, 64, 4, 16), (2, 64, 4, 16), (2, 64, 4, 16))
    torch.manual_seed(3)
    out = flash_attn_func(q * 0, k, torch.ones_like(v), dropout_p=0.25)
    assert abs(out.mean() - 1) < 4 * (0.25 / 0.75 / (2 * 4 * 64 * 64)) ** 0.5
    torch.manual_seed(3)
    assert torch.equal(flash_attn_func(q * 0, k, torch.ones_like(v), dropout_p=0.25), out)


def angles(positions, pairs):
    table = torch.arange(positions)[:, None] / 10.0 ** (torch.arange(pairs) / pairs)
    return table.cos(), table.sin()


def rotated(x, position, pairs, interleaved):
    """One vector turned by its position's angles, as complex numbers."""
    where = [(2 * i, 2 * i + 1) if interleaved else (i, i + pairs) for i in range(pairs)]
    y = x.clone()
    for i, (a, b) in enumerate(where):
        turn = complex(math.cos(t := position / 10.0 ** (i / pairs)), math.sin(t))
        for h in range(x.shape[0]):
            z = complex(x[h, a], x[h, b]) * turn
            y[h, a], y[h, b] = z.real, z.imag
    return y


CACHE_CASES = [
    {},
    {"causal": True},
    {"window_size": (6, 0)},
    {"softcap": 2.0, "causal": True},
    {"alibi_slopes": torch.tensor([0.5, 0.25, 0.1, 0.0]), "causal": True},
]


@pytest.mark.parametrize("layout", ["rows", "picked rows", "pages", "left padding"])
@pytest.mark.parametrize("rotary", [None, True, False], ids=["no rotary", "neighbours", "halves"])
@pytest.mark.parametrize("options", CACHE_CASES, ids=lambda o: ",".join(o))
def test_cache(options, rotary, layout):
    """Three new queries and keys behind 5, 0 and 17 old ones; the cache itself is changed where it should be and nowhere else."""
    lengths, room, pairs = [5, 0, 17], 24, 6
    pads = [2, 0, 9] if layout == "left padding" else [0, 0, 0]
    q, new_k, new_v, k_rows, v_rows = tensors((3, 3, 4, 16), (3, 3, 2, 16), (3, 3, 2, 16), (3, room, 2, 16), (3, room, 2, 16))
    given = {}
    k_cache, v_cache = k_rows.clone(), v_rows.clone()
    if layout == "picked rows":
        given["cache_batch_idx"] = torch.tensor([3, 0, 2], dtype=torch.int32)
        k_cache, v_cache = (torch.zeros(5, room, 2, 16).index_copy(0, torch.tensor([3, 0, 2]), x) for x in (k_rows, v_rows))
    if layout == "pages":
        order = torch.randperm(9, generator=torch.Generator().manual_seed(1)).view(3, 3)
        given["block_table"] = order.to(torch.int32)
        k_cache, v_cache = (torch.zeros(9, 8, 2, 16).index_copy(0, order.flatten(), x.view(9, 8, 2, 16)) for x in (k_rows, v_rows))
    if layout == "left padding":
        given["cache_leftpad"] = torch.tensor(pads, dtype=torch.int32)
    if rotary is not None:
        given["rotary_cos"], given["rotary_sin"] = angles(40, pairs)
        given["rotary_interleaved"] = rotary
    out, lse = flash_attn_with_kvcache(
        q, k_cache, v_cache, new_k, new_v, cache_seqlens=torch.tensor(lengths, dtype=torch.int32),
        **options, **given, return_softmax_lse=True,
    )  # fmt: skip
    if layout == "picked rows":
        k_after, v_after = k_cache[[3, 0, 2]], v_cache[[3, 0, 2]]
    elif layout == "pages":
        k_after, v_after = (x[order].flatten(1, 2) for x in (k_cache, v_cache))
    else:
        k_after, v_after = k_cache, v_cache
    local = bool(options.get("causal") or "window_size" in options)
    for b, length in enumerate(lengths):
        queries, keys = q[b].clone(), new_k[b].clone()
        if rotary is not None:
            for i in range(3):
                queries[i] = rotated(queries[i], length - pads[b] + (i if local else 0), pairs, rotary)
                keys[i] = rotated(keys[i], length - pads[b] + i, pairs, rotary)
        torch.testing.assert_close(k_after[b], torch.cat([k_rows[b, :length], keys, k_rows[b, length + 3 :]]), rtol=1e-5, atol=1e-6)
        assert torch.equal(v_after[b], torch.cat([v_rows[b, :length], new_v[b], v_rows[b, length + 3 :]]))
        due, due_lse = definition(queries, k_after[b, : length + 3], v_after[b, : length + 3], **named(options), first=pads[b])
        close(out[b], due)
        close(lse[b], due_lse)


def test_cache_without_new_keys():
    q, k, v = tensors((2, 1, 4, 16), (2, 20, 2, 16), (2, 20, 2, 16))
    out = flash_attn_with_kvcache(q, k, v, cache_seqlens=7)
    for b in range(2):
        close(out[b], definition(q[b], k[b, :7], v[b, :7])[0])
    assert torch.equal(flash_attn_with_kvcache(q, k, v), flash_attn_with_kvcache(q, k, v, cache_seqlens=20))


def test_lengths_with_gaps():
    """Views of every second number, as a slice of a larger table is."""
    q, k, v = tensors((2, 1, 4, 16), (2, 20, 2, 16), (2, 20, 2, 16))
    lengths = torch.tensor([7, 99, 12, 99], dtype=torch.int32)
    same = flash_attn_with_kvcache(q, k, v, cache_seqlens=lengths[::2].clone())
    assert torch.equal(flash_attn_with_kvcache(q, k, v, cache_seqlens=lengths[::2]), same)
    q, k, v = q.view(2, 4, 16), k.view(40, 2, 16), v.view(40, 2, 16)
    starts = torch.tensor([[0, 1, 2], [0, 7, 40]], dtype=torch.int32)
    gaps = starts.T.contiguous().T
    assert not gaps[0].is_contiguous()
    due = flash_attn_varlen_func(q, k, v, *starts, 1, 33)
    assert torch.equal(flash_attn_varlen_func(q, k, v, *gaps, 1, 33), due)


Q, K = torch.zeros(2, 3, 4, 16), torch.zeros(2, 8, 2, 16)
ENDS = torch.tensor([0, 2, 3], dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "error", "names"),
    [
        (lambda: flash_attn_func(Q, K, K[:, :7]), ValueError, "v"),
        (lambda: flash_attn_func(Q[0], K, K), ValueError, "q"),
        (lambda: flash_attn_func(Q, K, K, dropout_p=1.5), ValueError, "dropout_p"),
        (lambda: flash_attn_func(Q, K, K, window_size=3), TypeError, "window_size"),
        (lambda: flash_attn_func(Q, K, K, alibi_slopes=torch.zeros(3)), ValueError, "alibi_slopes"),
        (lambda: flash_attn_func(Q, K, K, alibi_slopes=[0.5] * 4), ValueError, "alibi_slopes"),
        (lambda: flash_attn_func(Q, K, K, alibi_slopes=torch.zeros(4, device="meta")), ValueError, "alibi_slopes"),
        (
            lambda: flash_attn_varlen_func(Q[0], Q[0], Q[0], ENDS, ENDS, 2, 2, alibi_slopes=torch.zeros(3, 4)),
            ValueError,
            "alibi_slopes",
        ),
        (lambda: flash_attn_varlen_func(Q[0], Q[0], Q[0], ENDS.long(), ENDS, 2, 2), TypeError, "cu_seqlens_q"),
        (lambda: flash_attn_varlen_func(Q[0], Q[0], Q[0], ENDS, ENDS[:2], 2, 2), ValueError, "cu_seqlens_k"),
        (lambda: flash_attn_varlen_func(Q[0], Q[0], Q[0], ENDS, ENDS[:1], 2, 2), ValueError, "cu_seqlens_k"),
        (lambda: flash_attn_with_kvcache(Q, K, K, cache_seqlens=9), ValueError, "cache_seqlens"),
        (lambda: flash_attn_with_kvcache(Q, K, K, K[:, :3], K[:, :3], cache_seqlens=7), ValueError, "k_cache"),
        (lambda: flash_attn_with_kvcache(Q, K, K, K[:, :3]), ValueError, "v"),
        (lambda: flash_attn_with_kvcache(Q, K, K, rotary_cos=torch.zeros(9, 4)), ValueError, "rotary_sin"),
        (lambda: flash_attn_with_kvcache(Q, K, K, rotary_cos=Q[0, 0], rotary_sin=Q[0, 0]), ValueError, "rotary_cos"),
    ],
)
def test_wrong_arguments_are_named(call, error, names):
    with pytest.raises(error, match=rf"^{names}\b"):
        call()
