"""Checks of the Triton attention on any device: on the CPU in the interpreter, on a GPU where there is one."""

from __future__ import annotations

import math
from typing import Any

import torch
from aieng_kernels.attention import triton_flash
from aieng_kernels.attention.options import UNLIMITED, Options
from aieng_kernels.attention.reference import attention_gradients, attention_reference
from torch import Tensor
from triton_guards import Guards, amid_nan

NAMES = ("out", "dq", "dk", "dv")


def inputs(shape: tuple[int, ...], dtype: torch.dtype, device: str, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v, dout of (B, Hq, Hkv, S, T, D)."""
    B, H, Hkv, S, T, D = shape
    generator = torch.Generator().manual_seed(seed)
    shapes = ((B, H, S, D), (B, Hkv, T, D), (B, Hkv, T, D), (B, H, S, D))
    q, k, v, dout = (torch.randn(s, generator=generator).to(dtype).to(device) for s in shapes)
    return q, k, v, dout


def options(causal: bool, scale: float) -> Options:
    return Options(scale=scale, right=0 if causal else UNLIMITED)


def definition(q: Tensor, k: Tensor, v: Tensor, dout: Tensor, o: Options) -> tuple[Tensor, ...]:
    """out, dq, dk, dv, lse by the definition, in the inputs' dtype."""
    out, lse = attention_reference(q, k, v, o)
    return (out, *attention_gradients(dout, q, k, v, o), lse)


def run(q: Tensor, k: Tensor, v: Tensor, dout: Tensor, o: Options) -> tuple[Tensor, ...]:
    """out, dq, dk, dv, lse by the kernels, with every buffer they make poisoned and guarded, and no input written to."""
    assert triton_flash.TritonFlash.supports(q, k, v, o) is None
    given = [q, k, v, dout, *(x for x in o if isinstance(x, Tensor))]
    before = [x.clone() for x in given]
    with Guards(triton_flash) as guards:
        out, lse = triton_flash.TritonFlash.forward(q, k, v, o)
        gradients = triton_flash.TritonFlash.backward(dout, q, k, v, out, lse, o)
        guards.check()
    for x, old in zip(given, before):
        torch.testing.assert_close(x, old, rtol=0, atol=0, equal_nan=True)
    assert out.stride() == torch.empty_like(q).stride()
    for made, like in zip((out, *gradients), (q, q, k, v)):
        assert made.shape == like.shape
        assert made.dtype == like.dtype
    assert all(x.is_contiguous() for x in gradients)
    assert lse.dtype is torch.float32
    return (out, *gradients, lse)


def compare(got: tuple[Tensor, ...], q: Tensor, k: Tensor, v: Tensor, dout: Tensor, o: Options) -> None:
    """The FlashAttention rule: no more than twice the error that plain torch makes in this dtype, and one rounding of the result.

    To that come roundings that plain torch has no like of. The scores are in base 2: scale·log2(e), its product and the lse each
    put half a float32 eps of the largest score into every exponent. In dq and dk, dout·vᵀ − δ may cancel (with one key, wholly).
    Rows that see no key, and keys that no row uses, give zeros and no less.
    """
    wide = [x.double() for x in (q, k, v, dout)]
    exact = definition(*wide, o)
    plain = definition(q, k, v, dout, o)
    eps = torch.finfo(torch.float32).eps
    longest_q, longest_k, longest_v, longest_dout = (x.norm(dim=-1).max() for x in wide)
    exponent = 1.5 * eps * abs(o.scale) * longest_q * longest_k
    dp = abs(o.scale) * longest_dout * longest_v / (1 - o.dropout)
    cancelled = (0.0, 2 * eps * dp * wide[1].abs().max(), 2 * eps * dp * wide[0].abs().max(), 0.0)
    for name, ours, theirs, truth, lost in zip(NAMES, got, plain, exact, cancelled):
        rounding = (torch.finfo(q.dtype).eps + exponent) * truth.abs().max() + lost
        allowed = 2 * (theirs.double() - truth).abs().max() + rounding
        error = (ours.double() - truth).abs().max()
        assert error <= allowed, f"{name}: error {error:.2e}, allowed {allowed:.2e}"
    unseeing = exact[4] == -math.inf
    assert torch.equal(got[4] == -math.inf, unseeing)
    assert all(torch.all(x[unseeing] == 0) for x in got[:2])
    unused = torch.all(exact[3] == 0, -1)
    assert torch.all(got[3][unused] == 0)
    assert o.dropout or torch.all(got[2][unused] == 0)
    # The lse is float32 whatever the inputs: a few roundings of the largest score.
    seeing = exact[4][~unseeing]
    largest = max(1.0, float(seeing.abs().max())) if seeing.numel() else 1.0
    assert torch.allclose(got[4][~unseeing].double(), seeing, rtol=0, atol=8e-7 * largest)


def check_case(shape: tuple[int, ...], causal: bool, dtype: str, device: str = "cpu") -> None:
    q, k, v, dout = inputs(shape, getattr(torch, dtype), device)
    o = options(causal, 1 / math.sqrt(shape[-1]))
    compare(run(q, k, v, dout, o), q, k, v, dout, o)


def check_strides(device: str = "cpu") -> None:
    """Transposed and sliced inputs, surrounded by NaN that must not be read into the result."""
    shape = (2, 2, 1, 70, 45, 40)
    given = [amid_nan(x) for x in inputs(shape, torch.float16, device)]
    plain = [x.contiguous() for x in given]
    for causal in (False, True):
        o = options(causal, 0.2)
        ours, same = run(*given, o), run(*plain, o)
        assert all(torch.equal(a, b) for a, b in zip(ours, same))
        compare(ours, *plain, o)


def check_unaligned(device: str = "cpu") -> None:
    """Rows that start off 16 bytes (a view one element in, a stride of 41), and keys shared by a stride of 0."""
    q, k, v, dout = inputs((1, 2, 2, 37, 41, 40), torch.float16, device)
    shifted = torch.zeros(q.numel() + 1, dtype=q.dtype, device=device)[1:].view(q.shape).copy_(q)
    odd = torch.zeros((*k.shape[:3], 41), dtype=k.dtype, device=device)[..., :40].copy_(k)
    shared = v[:, :1].expand(-1, 2, -1, -1)
    o = options(True, 0.2)
    compare(run(shifted, odd, shared, dout, o), q, k, shared, dout, o)


def check_scores(scale: float, shift: float, device: str = "cpu") -> None:
    """Scores of any sign and size: the maximum is subtracted, and padding beyond T never meets an overflow."""
    q, k, v, dout = inputs((1, 1, 1, 70, 70, 32), torch.float32, device)
    q, k = q + shift, k - shift
    for causal in (False, True):
        o = options(causal, scale)
        got = run(q, k, v, dout, o)
        assert all(torch.isfinite(x).all() for x in got)
        compare(got, q, k, v, dout, o)


def check_minus_infinity(device: str = "cpu") -> None:
    """A row whose every score is -inf has, like one that sees no key, out 0, lse -inf and no gradient."""
    q, k, v, dout = inputs((1, 1, 1, 33, 70, 32), torch.float32, device)
    q[..., 1:] = 0.0
    k[..., 0], k[..., 1:] = -1.0, 0.0
    q[:, :, 5, 0] = math.inf
    out, dq, _, dv, lse = run(q, k, v, dout, options(False, 1.0))
    assert torch.all(out[:, :, 5] == 0)
    assert torch.all(lse[:, :, 5] == -math.inf)
    assert torch.all(dq[:, :, 5] == 0)
    assert torch.isfinite(dv).all()
    assert torch.isfinite(out).all()


def check_empty(shape: tuple[int, ...], device: str = "cpu") -> None:
    """No keys: out 0, lse -inf, dq 0. No queries: dk and dv 0."""
    q, k, v, dout = inputs(shape, torch.float32, device)
    out, dq, dk, dv, lse = run(q, k, v, dout, options(True, 1.0))
    assert all(torch.all(x == 0) for x in (out, dq, dk, dv))
    assert torch.all(lse == -math.inf)


def check_refusals() -> None:
    def supports(D: int, S: int = 4, heads: int = 1) -> str | None:
        meta: Any = torch.empty((1, heads, S, D), device="meta")
        return triton_flash.TritonFlash.supports(meta, meta, meta, Options())

    for D in (4, 20, 264):
        assert f"multiples of 8 up to 256, not {D}" in (supports(D) or "")
    assert "2^31 blocks" in (supports(8, S=2**30 + 1) or "")
    assert "2^31 blocks" in (supports(8, S=2**25, heads=2**11) or "")
    assert supports(256) is None
