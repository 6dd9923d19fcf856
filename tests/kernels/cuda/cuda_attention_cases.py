"""What the CUDA attention kernels are asked through the shim, and what they are held to: the definition in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from aieng_kernels.attention import cuda
from aieng_kernels.attention.options import Options
from aieng_kernels.attention.reference import attention_gradients, attention_reference
from torch import Tensor


class Shape(NamedTuple):
    batch: int
    q_heads: int
    kv_heads: int
    queries: int
    keys: int
    d: int
    causal: bool


def made(shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v, dout with the strides that models give them: heads inside rows, k and v halves of one tensor."""
    generator = torch.Generator().manual_seed(sum(shape))
    b, hq, hkv, s, t, d, _ = shape
    q = torch.randn(b, s, hq, d, generator=generator).to(dtype).transpose(1, 2)
    k, v = torch.randn(b, t, 2, hkv, d, generator=generator).to(dtype).unbind(2)
    dout = torch.randn(b, hq, s, d, generator=generator).to(dtype)
    return q, k.transpose(1, 2), v.transpose(1, 2), dout


def close(name: str, got: Tensor, framework: Tensor, exact: Tensor, rounding: float) -> None:
    """No more than twice the error that plain torch makes in the same dtype, plus ``rounding``."""
    assert got.shape == exact.shape
    assert got.isfinite().all(), name
    if got.numel():
        assert (got.double() - exact).abs().max() <= 2 * (framework.double() - exact).abs().max() + rounding, name


def rounding_of(q: Tensor, k: Tensor, exact: list[Tensor]) -> float:
    """One rounding of the largest result; in float32, whose sums are no wider than it, of a sum of random roundings."""
    largest = max((float(x.abs().max()) for x in exact if x.numel()), default=0.0)
    terms = max(q.shape[1] * q.shape[2], k.shape[2], q.shape[3]) if q.dtype == torch.float32 else 1
    return float(torch.finfo(q.dtype).eps * largest * terms**0.5)


def hold(kernel: type[cuda.CudaSm80], q: Tensor, k: Tensor, v: Tensor, dout: Tensor, how: Options) -> tuple[Tensor, Tensor]:
    """out and lse, which are right, as are the gradients; inputs are left as they were. Keys that are not there may be NaN."""
    kept = [x.clone() for x in (q, k, v, dout)]
    assert kernel.supports(q, k, v, how) is None
    out, lse = kernel.forward(q, k, v, how)
    gradients = kernel.backward(dout, q, k, v, out, lse, how)

    wide = [x.double() for x in (q, k, v)]
    exact, exact_lse = attention_reference(*wide, how)
    exact_gradients = attention_gradients(dout.double(), *wide, how)
    rough = attention_reference(q, k, v, how)[0]  # every step rounded to the dtype
    rough_gradients = attention_gradients(dout, q, k, v, how)
    rounding = rounding_of(q, k, [exact, *exact_gradients])
    close("out", out, rough, exact, rounding)
    if k.shape[2]:
        torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-5, atol=1e-5)
    else:
        assert (out == 0).all()
        assert (lse == -torch.inf).all()
    for name, got, framework, truth in zip(("dq", "dk", "dv"), gradients, rough_gradients, exact_gradients, strict=True):
        close(name, got, framework, truth, rounding)
        assert got.is_contiguous()
    for x, y in zip((q, k, v, dout), kept, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)
    return out, lse
