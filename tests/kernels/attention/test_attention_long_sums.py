"""Sums over thousands of float32 terms are as near as torch's: added up in parts, whose roundings are of their own size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from aieng_kernels._family import candidates
from aieng_kernels.attention import attention
from aieng_kernels.attention.options import Options
from aieng_kernels.attention.reference import attention_gradients, attention_reference
from torch import Tensor
from torch.nn import functional


@pytest.mark.parametrize("backend", [i.name for i in candidates("attention", "cpu", "float32")])
@pytest.mark.parametrize(("S", "T"), [(64, 8192), (8192, 64)])
def test_long_sums(S: int, T: int, backend: str) -> None:
    """Out and dq are sums over keys, dk and dv over queries."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, dout = (torch.randn(1, 2, n, 64, generator=generator) for n in (S, T, T, S))
    o = Options(scale=0.125)
    wide = [x.double() for x in (q, k, v)]
    due = [attention_reference(*wide, o)[0], *attention_gradients(dout.double(), *wide, o)]

    def errors(function: Callable[..., Tensor]) -> list[float]:
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out = function(*leaves)
        results = [out.detach(), *torch.autograd.grad(out, leaves, dout)]
        return [float((x.double() - y).norm() / y.norm()) for x, y in zip(results, due, strict=True)]

    found = errors(lambda q, k, v: attention(q, k, v, backend=backend))
    torchs = errors(functional.scaled_dot_product_attention)
    assert all(error <= 1.25 * least for error, least in zip(found, torchs, strict=True)), (found, torchs)


@pytest.mark.parametrize("backend", [i.name for i in candidates("attention", "cpu", "float32") if i.name != "reference"])
@pytest.mark.parametrize("group", [1, 4, 16], ids=lambda group: f"group{group}")
def test_long_sums_of_single_queries(group: int, backend: str) -> None:
    """Which go other ways than many, according to how many share a head's keys. Added key by key the error is 1.7e-6."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, n, 64, generator=generator) for heads, n in ((2 * group, 1), (2, 8192), (2, 8192)))
    due = attention_reference(q.double(), k.double(), v.double(), Options(scale=0.125))[0]
    out = attention(q, k, v, scale=0.125, backend=backend)
    assert (out.double() - due).norm() <= 6e-7 * due.norm()
