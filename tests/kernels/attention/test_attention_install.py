"""torch's attention through ours: whoever calls it, compiled code and the modules' fast paths too, and exactly undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from aieng_kernels.attention import install, ops, uninstall
from aieng_kernels.attention.install import FEWEST_PRODUCTS
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as early  # a name bound before anything is installed


@pytest.fixture
def calls() -> Iterator[list[str]]:
    """Installed for the test; the passes that ran on our kernels."""
    made: list[str] = []
    select = ops.select

    def watched(*arguments: Any) -> Any:
        made.append("call")
        return select(*arguments)

    with mock.patch.object(ops, "select", watched):
        install()
        yield made
        uninstall()


def tensors(B: int = 2, H: int = 4, S: int = 300, D: int = 64, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, H, S, D, generator=generator).to(dtype) for _ in range(3)]


def results(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    out = early(*leaves, **options)
    return [out.detach(), *torch.autograd.grad(out, leaves, torch.ones_like(out))]


MASK = torch.rand(300, 300, generator=torch.Generator().manual_seed(1)) < 0.7
CASES: list[dict[str, Any]] = [{}, {"is_causal": True}, {"attn_mask": MASK}, {"scale": 0.3}]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", CASES, ids=lambda o: ",".join(o))
def test_forward_and_backward_are_ours(calls: list[str], options: dict[str, Any], dtype: torch.dtype) -> None:
    given = tensors(dtype=dtype)
    got = results(*given, **options)
    assert len(calls) == 2
    uninstall()
    due = results(*given, **options)
    assert len(calls) == 2
    for x, y in zip(got, due, strict=True):
        assert x.stride() == y.stride()
        assert (x - y).norm() <= (2e-6 if dtype is torch.float32 else 1e-2) * y.norm()


@pytest.mark.parametrize("layout", ["heads inside rows", "packed"])
def test_results_lie_as_torchs(calls: list[str], layout: str) -> None:
    """Compiled code reads the strides that torch's kernel would have given."""
    if layout == "packed":
        q, k, v = torch.randn(2, 300, 3, 4, 64).permute(2, 0, 3, 1, 4)
    else:
        q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors())
    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    got = operator(q, k, v)
    assert calls
    uninstall()
    for x, y in zip(got, operator(q, k, v), strict=True):
        assert x.stride() == y.stride()
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


def test_shared_heads(calls: list[str]) -> None:
    q, k, v = tensors()
    got = results(q, k[:, :2], v[:, :2], enable_gqa=True)
    assert len(calls) == 2
    uninstall()
    for x, y in zip(got, results(q, k[:, :2], v[:, :2], enable_gqa=True), strict=True):
        assert (x - y).norm() <= 2e-6 * y.norm()


@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")  # Inductor's own
def test_compiled_code(calls: list[str]) -> None:
    q, k, v = tensors()
    compiled = torch.compile(lambda q, k, v: early(q * 2, k, v, is_causal=True).transpose(1, 2).flatten(2) + 1, fullgraph=True)
    got = compiled(q, k, v)
    assert calls
    uninstall()
    count = len(calls)
    due = compiled(q, k, v)  # the same code, and torch's kernel again
    assert len(calls) == count
    torch.testing.assert_close(got, due, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("grad", [False, True])
def test_modules_with_a_fast_path(calls: list[str], grad: bool) -> None:
    """Without a gradient, torch would take a path of its own that calls no attention operator."""
    x = torch.randn(2, 300, 256, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(256, 4, batch_first=True).eval()
    layer = nn.TransformerEncoderLayer(256, 4, batch_first=True).eval()
    with torch.set_grad_enabled(grad):
        got = [attention(x, x, x, need_weights=False)[0], layer(x)]
        assert len(calls) == 2
        uninstall()
        due = [attention(x, x, x, need_weights=False)[0], layer(x)]
    assert len(calls) == 2
    for a, b in zip(got, due, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_what_stays_torchs(calls: list[str]) -> None:
    """Small calls, float64, dropout: torch's own results, to the bit."""
    small = [x[:1, :1, :16] for x in tensors()]
    assert small[0].numel() * 16 < FEWEST_PRODUCTS
    wide = [x.double() for x in tensors()]
    got = [results(*small), results(*wide)]
    assert not calls
    uninstall()
    for x, y in zip(got, [results(*small), results(*wide)], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("fastpath", [True, False])
def test_undone_exactly(fastpath: bool) -> None:
    given = tensors()
    name = "aten::_scaled_dot_product_flash_attention_for_cpu"
    before, kernel = results(*given), str(torch.library.get_kernel(name, "CPU"))
    torch.backends.mha.set_fastpath_enabled(fastpath)
    try:
        for _ in range(2):
            install()
            install()
            assert str(torch.library.get_kernel(name, "CPU")) != kernel
            uninstall()
            assert str(torch.library.get_kernel(name, "CPU")) == kernel
            assert torch.backends.mha.get_fastpath_enabled() is fastpath
        uninstall()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert all(torch.equal(a, b) for a, b in zip(before, results(*given), strict=True))
