"""The drop-in does what torch's own function does, over its whole signature."""

from __future__ import annotations

import inspect
from unittest import mock

import pytest
import torch
from aieng_kernels.attention import dropin, scaled_dot_product_attention
from torch.nn import functional


@pytest.fixture(autouse=True)
def ours_however_small(monkeypatch):
    monkeypatch.setattr(dropin, "FEWEST_PRODUCTS", 0)
    monkeypatch.setattr(dropin, "FEWEST_SMALL", 0)
    monkeypatch.setattr(dropin, "FEWEST_RECORDED", 0)


def tensors(*shapes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


QKV = [(2, 4, 17, 32), (2, 4, 23, 32), (2, 4, 23, 32)]
MASK = torch.arange(17)[:, None] + 3 > torch.arange(23)


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        (QKV, {}),
        (QKV, {"is_causal": True}),
        (QKV, {"scale": 0.5}),
        (QKV, {"attn_mask": MASK}),
        (QKV, {"attn_mask": MASK.float().log(), "scale": 0.1}),
        ([(2, 4, 17, 32), (2, 2, 23, 32), (2, 2, 23, 32)], {"enable_gqa": True}),
        ([(2, 6, 17, 32), (2, 1, 23, 32), (2, 1, 23, 32)], {"enable_gqa": True, "is_causal": True}),
        ([(2, 4, 17, 32), (2, 4, 23, 32), (2, 4, 23, 48)], {}),
        ([(4, 17, 32), (4, 23, 32), (4, 23, 32)], {"is_causal": True}),
        ([(4, 17, 32), (4, 23, 32), (4, 23, 32)], {"attn_mask": MASK}),
        (QKV, {"attn_mask": MASK[:, :1]}),
        (QKV, {"attn_mask": MASK.float().log()[None, None].expand(2, 1, 17, 23)}),
        ([(2, 4, 17, 32), (2, 2, 23, 32), (2, 2, 23, 32)], {"enable_gqa": True, "attn_mask": MASK}),
        ([(3, 2, 4, 17, 32), (3, 2, 4, 23, 32), (3, 2, 4, 23, 32)], {"attn_mask": MASK.expand(3, 1, 1, 17, 23)}),
        ([(3, 2, 4, 17, 32), (3, 2, 4, 23, 32), (3, 2, 4, 23, 32)], {"attn_mask": MASK.expand(4, 17, 23)}),
        ([(1, 4, 17, 32), (2, 4, 23, 32), (2, 4, 23, 32)], {}),
        ([(3, 2, 4, 17, 32), (3, 2, 4, 23, 32), (3, 2, 4, 23, 32)], {}),
    ],
)
def test_equals_torch(shapes, options):
    theirs = [x.requires_grad_() for x in tensors(*shapes)]
    ours = [x.requires_grad_() for x in tensors(*shapes)]
    due, got = functional.scaled_dot_product_attention(*theirs, **options), scaled_dot_product_attention(*ours, **options)
    due.square().sum().backward()
    got.square().sum().backward()
    for x, y in [(got, due), *((x.grad, y.grad) for x, y in zip(ours, theirs, strict=True))]:
        assert x.shape == y.shape
        assert (x - y).norm() <= 2e-6 * y.norm()  # two float32 results, each a few roundings of 6e-8 off


def test_dropout():
    """Weights are dropped at torch's rate, the mean stays, and torch.manual_seed fixes which; which, is not torch's choice."""
    q, k, v = tensors(*[(4, 8, 64, 32)] * 3)
    ones = torch.ones_like(v)
    torch.manual_seed(1)
    kept = scaled_dot_product_attention(q * 0, k, ones, dropout_p=0.25)
    assert abs(kept.mean() - 1) < 4 * (0.25 / 0.75 / (4 * 8 * 64 * 64)) ** 0.5  # standard deviations of the mean
    torch.manual_seed(1)
    assert torch.equal(scaled_dot_product_attention(q * 0, k, ones, dropout_p=0.25), kept)
    assert torch.equal(scaled_dot_product_attention(q, k, v, dropout_p=1.0), torch.zeros_like(q))


def test_signature_is_torchs_and_backend():
    """torch's is written in its docstring, and what it takes by keyword alone only a call can tell."""
    parameters = list(inspect.signature(scaled_dot_product_attention).parameters.values())
    assert parameters[-1].name == "backend"
    ours = ",".join(p.name if p.default is p.empty else f"{p.name}={p.default}" for p in parameters[:-1])
    assert f"({ours})" in "".join((functional.scaled_dot_product_attention.__doc__ or "").split())
    q, k, v = tensors(*QKV)
    for function in (functional.scaled_dot_product_attention, scaled_dot_product_attention):
        function(q, k, v, None, 0.0, False)
        with pytest.raises(TypeError):
            function(q, k, v, None, 0.0, False, 0.5)


HEADS = [(2, 4, 17, 32), (2, 2, 23, 32), (2, 2, 23, 32)]
HEAD_DIM = [(2, 4, 17, 32), (2, 4, 23, 16), (2, 4, 23, 32)]


@pytest.mark.parametrize("shapes", [HEADS, HEAD_DIM], ids=["heads", "head dim"])
def test_wrong_shapes_raise_what_torch_raises(shapes):
    with pytest.raises(RuntimeError):
        functional.scaled_dot_product_attention(*tensors(*shapes))
    with pytest.raises(RuntimeError):
        scaled_dot_product_attention(*tensors(*shapes))


def test_a_backend_cannot_be_forced_on_what_is_not_fused():
    with pytest.raises(ValueError, match=r"^backend='reference' cannot be forced"):
        scaled_dot_product_attention(*tensors(*QKV), attn_mask=torch.zeros(17, 23, requires_grad=True), backend="reference")


def test_a_mask_that_wants_a_gradient_gets_it():
    mask = torch.zeros(17, 23, requires_grad=True)
    scaled_dot_product_attention(*tensors(*QKV), attn_mask=mask).sum().backward()
    assert mask.grad is not None


def test_small_calls_that_ask_for_more_are_torchs(monkeypatch):
    """Bit for bit, dropout too; from the limit on, ours, as small ones are that ask for nothing, recorded or not."""
    monkeypatch.undo()
    q, k, v = tensors(*QKV)
    results = []
    for function in (functional.scaled_dot_product_attention, scaled_dot_product_attention):
        torch.manual_seed(0)
        results.append(function(q, k, v, dropout_p=0.5))
    assert torch.equal(*results)
    q, k, v = tensors(*[(2, 4, 128, 32)] * 3)
    assert q.numel() * 128 == dropin.FEWEST_PRODUCTS
    with mock.patch.object(dropin.functional, "scaled_dot_product_attention", side_effect=ZeroDivisionError):
        for heads in (4, 2):
            shared = {"enable_gqa": heads == 2}
            torch.testing.assert_close(
                scaled_dot_product_attention(q[:, :, 1:], k[:, :heads], v[:, :heads], **shared),
                scaled_dot_product_attention(q[:, :, 1:], k[:, :heads], v[:, :heads], **shared, backend="reference"),
            )
        with pytest.raises(ZeroDivisionError):
            scaled_dot_product_attention(q[:, :, 1:], k[:, :2], v[:, :2])
        q.requires_grad_()
        assert scaled_dot_product_attention(q[:, :, 1:], k, v).requires_grad
        mask = torch.ones(128, 128, dtype=torch.bool)
        with pytest.raises(ZeroDivisionError):
            scaled_dot_product_attention(q[:, :, 1:], k, v, attn_mask=mask[1:])
        scaled_dot_product_attention(q, k, v, attn_mask=mask)
        q = tensors(*QKV)[0].requires_grad_()
        assert q.numel() * 23 < dropin.FEWEST_RECORDED
        with pytest.raises(ZeroDivisionError):
            scaled_dot_product_attention(q, *tensors(*QKV)[1:])
        assert scaled_dot_product_attention(*(x.bfloat16() for x in (q, *tensors(*QKV)[1:]))).requires_grad
        with torch.no_grad():
            scaled_dot_product_attention(q, *tensors(*QKV)[1:])
        token = tensors(*[(1, 2, 1, 32)] * 3)
        assert token[0].numel() < dropin.FEWEST_SMALL
        with pytest.raises(ZeroDivisionError):
            scaled_dot_product_attention(*token)
