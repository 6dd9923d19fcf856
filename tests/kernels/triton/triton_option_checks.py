"""Checks of what the Triton attention is asked beside scale and causal, on any device, against the definition in float64."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from aieng_kernels._philox import MASK, halves, philox4x32_10
from aieng_kernels.attention.options import Options
from aieng_kernels.attention.triton_configs import KERNELS, OPTIONS, tuned
from aieng_kernels.attention.triton_options import kept, tanh
from option_cases import MASK_SHAPE, mask_amid_others
from torch import Tensor
from triton_attention_checks import compare, inputs, run
from triton_guards import amid_nan

SEED = 0x1234_5678_9ABC_DEF0


def hold(shape: tuple[int, ...], dtype: str, device: str, **asked: Any) -> tuple[Tensor, ...]:
    """out, dq, dk, dv, lse for random inputs of (B, Hq, Hkv, S, T, D) and these options, right by the definition."""
    q, k, v, dout = inputs(shape, getattr(torch, dtype), device)
    asked = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in asked.items()}
    o = Options(**{"scale": 1 / math.sqrt(shape[-1])} | asked)
    got = run(q, k, v, dout, o)
    compare(got, q, k, v, dout, o)
    return got


def check_window(S: int, T: int, left: int, right: int, bottom_right: bool, dtype: str, device: str = "cpu") -> None:
    hold((1, 2, 1, S, T, 32), dtype, device, left=left, right=right, bottom_right=bottom_right)


def check_mask(kind: str, dtype: str, same: bool = False, device: str = "cpu") -> None:
    """``same``: of q's dtype."""
    mask = mask_amid_others(kind, getattr(torch, dtype) if same else torch.float32, device)
    hold((*MASK_SHAPE[:2], 1, *MASK_SHAPE[2:], 32), dtype, device, mask=mask)


def check_hidden(added: bool, dtype: str, device: str = "cpu") -> None:
    """Rows, a whole head and a whole first block of keys that a mask hides: zeros and -inf there, and no NaN elsewhere."""
    mask = torch.ones(1, 2, 40, 150, dtype=torch.bool)
    mask[:, 1], mask[:, 0, 7:9], mask[:, 0, :, :140] = False, False, False
    given = mask.log().to(getattr(torch, dtype)) if added else mask
    *_, lse = hold((1, 2, 1, 40, 150, 32), dtype, device, mask=given)
    assert torch.equal(lse == -math.inf, ~mask.any(-1).to(device))


def check_lowest_everywhere(device: str = "cpu") -> None:
    """A row to whose every score the lowest number is added sees all keys alike, and is not one that sees nothing."""
    for dtype in ("float32", "float16"):
        q, k, v, dout = inputs((1, 1, 1, 20, 70, 32), getattr(torch, dtype), device)
        mask = torch.zeros(1, 1, 20, 70, device=device)
        mask[:, :, 4] = torch.finfo(torch.float32).min
        out, dq, dk, dv, _ = run(q, k, v, dout, Options(scale=0.2, mask=mask))
        assert torch.allclose(out[:, :, 4].float(), v.float().mean(2), atol=1e-3)
        assert all(torch.isfinite(x).all() for x in (out, dq, dk, dv))


def check_slopes(S: int, T: int, right: int, bottom_right: bool, dtype: str, device: str = "cpu") -> None:
    slopes = torch.tensor([[0.5, 0.0], [0.1, 0.02]])
    hold((2, 2, 1, S, T, 32), dtype, device, right=right, bottom_right=bottom_right, slopes=slopes)


def check_softcap(softcap: float, scale: float, dtype: str, masked: bool = False, device: str = "cpu") -> None:
    """The slope of the cap in dq and dk; the mask is added after it. Scales of any sign."""
    mask = torch.randn(37, 70, generator=torch.Generator().manual_seed(0)).expand(1, 2, 37, 70) if masked else None
    hold((1, 2, 1, 37, 70, 32), dtype, device, softcap=softcap, scale=scale, right=-1 if masked else 0, mask=mask)


def check_dropout(dropout: float, T: int, dtype: str, device: str = "cpu") -> None:
    right = 0 if dropout < 0.5 else -1
    hold((2, 1, 1, 37, T, 32), dtype, device, dropout=dropout, seed=torch.tensor([SEED]), right=right)


def check_dropped(device: str = "cpu") -> None:
    """With unit vectors for values, out is the weights: 0 at the very ones that the definition's words drop, and at no other."""
    B, H, S, T, dropout = 2, 2, 20, 61, 0.4
    q, k, _, dout = inputs((B, H, H, S, T, 64), torch.float32, device)
    v = torch.eye(T, 64, device=device).expand(B, H, T, 64)
    out = run(q, k, v, dout, Options(scale=0.1, dropout=dropout, seed=torch.tensor([SEED], device=device)))[0]
    block = torch.arange(B * H * S)[:, None] * math.ceil(T / 4) + torch.arange(T) // 4
    words = torch.stack(philox4x32_10((block, block * 0, block * 0, block * 0), halves(SEED)))
    drawn = words.gather(0, (torch.arange(T) % 4).expand(1, B * H * S, T))[0].view(B, H, S, T)
    assert torch.equal(out[..., :T] == 0, drawn.to(device) < Options(dropout=dropout).dropped_words)


@triton.jit
def _kept_kernel(first_ptr, seed_ptr, last_dropped, out_ptr, key, M: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, M)
    keep = kept((tl.load(first_ptr + i), tl.load(seed_ptr), last_dropped), key, M, N)
    tl.store(out_ptr + i[:, None] * N + tl.arange(0, N)[None, :], keep.to(tl.int32))


def check_counters(device: str = "cpu") -> None:
    """Counters of more than 32 bits, seeds of any sign, and thresholds on both sides of 2^31."""
    first = torch.tensor([0, 1, 2**32 - 3, 2**32 - 1, 2**32, 2**45 + 7, 2**62, 2**63 - 9])
    for seed, dropout in ((SEED, 0.2), (-1, 0.7), (-(2**63), 1 - 2**-33), (5, 2**-32)):
        threshold = Options(dropout=dropout).dropped_words
        out = torch.full((8, 32), -1, dtype=torch.int32, device=device)
        given = (first.to(device), torch.tensor([seed], device=device), (threshold - 1 ^ 1 << 31) - (1 << 31))
        _kept_kernel[(1,)](*given, out, 4, M=8, N=32)
        block = first[:, None] + 1 + torch.arange(8)
        words = torch.stack(philox4x32_10((block & MASK, block >> 32, block * 0, block * 0), halves(seed)), -1)
        assert torch.equal(out.cpu() != 0, words.flatten(-2) >= threshold)


@triton.jit
def _tanh_kernel(x_ptr, out_ptr, count, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + i, tanh(tl.load(x_ptr + i, mask=i < count, other=0.0)), mask=i < count)


def check_tanh(device: str = "cpu") -> None:
    """Over all sizes, infinities and NaN among them; a GPU's exponential and division add two roundings each."""
    sizes = torch.logspace(-30, 2, 20001, dtype=torch.float64).float()
    x = torch.cat([sizes, -sizes, torch.linspace(-1, 1, 20001), torch.tensor([0.0, math.inf, -math.inf, math.nan])]).to(device)
    out = torch.empty_like(x)
    _tanh_kernel[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), BLOCK=1024)
    torch.testing.assert_close(out.double(), x.double().tanh(), rtol=3e-7 if device == "cpu" else 6e-7, atol=0, equal_nan=True)


def starts(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


def check_sequences(right: int, bottom_right: bool, dtype: str, everything: bool = False, device: str = "cpu") -> None:
    """None, one and many queries and keys, more of the one or of the other, amid NaN; ``everything``: all but a mask."""
    queries, keys = [3, 0, 70, 1, 5, 0], [5, 4, 33, 70, 0, 0]
    asked: dict[str, Any] = {"right": right, "bottom_right": bottom_right}
    if everything:
        asked |= {"left": 20, "softcap": 3.0, "dropout": 0.2, "seed": torch.tensor([SEED], device=device)}
        asked |= {"slopes": 0.01 * torch.arange(12.0, device=device).view(6, 2)}
    plain = inputs((1, 2, 1, sum(queries), sum(keys), 40), getattr(torch, dtype), device)
    o = Options(
        scale=0.2, q_starts=starts(queries).to(device), k_starts=starts(keys).to(device), longest_q=70, longest_k=70, **asked
    )
    compare(run(*(amid_nan(x) for x in plain), o), *plain, o)


def check_room(S: int, left: int, right: int, bottom_right: bool, dtype: str, device: str = "cpu") -> None:
    """Each batch has its own number of keys, none among them; what lies beyond is NaN, which reaches nothing."""
    lengths = torch.tensor([1, 90, 64, 0], dtype=torch.int32, device=device)
    q, k, v, dout = inputs((4, 2, 1, S, 90, 32), getattr(torch, dtype), device)
    o = Options(scale=0.2, k_lengths=lengths, left=left, right=right, bottom_right=bottom_right)
    beyond = (torch.arange(90, device=device) >= lengths[:, None])[:, None, :, None]
    compare(run(q, k.masked_fill(beyond, math.nan), v.masked_fill(beyond, math.nan), dout, o), q, k, v, dout, o)


def check_everything(dtype: str, D: int = 40, device: str = "cpu") -> None:
    """Window, mask, soft cap and dropout at once, with a number of keys for each batch."""
    mask = torch.randn(2, 1, 30, 50, generator=torch.Generator().manual_seed(1)).to(getattr(torch, dtype)).expand(2, 2, 30, 50)
    asked = {"mask": mask, "seed": torch.tensor([SEED]), "k_lengths": torch.tensor([50, 31], dtype=torch.int32)}
    hold((2, 2, 1, 30, 50, D), dtype, device, **asked, left=20, right=4, bottom_right=True, softcap=2.0, dropout=0.3)


def check_keys() -> None:
    """Every constant that an option sets is among those by which a configuration is chosen."""
    for name, kernel in KERNELS.items():
        assert set(OPTIONS) <= set(kernel.arg_names)
        assert set(OPTIONS) <= set(tuned(name, 64, 2).keys)
