"""Small plain calls on the CPU, which go to the native module at once: the very values of the general way, or that way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from aieng_kernels._family import candidates
from aieng_kernels.attention import attention, ops
from torch import Tensor

BEST = candidates("attention", "cpu", "float32")[0].name
pytestmark = pytest.mark.skipif(BEST == "reference", reason="the native module is not built")
Given = tuple[Tensor, Tensor, Tensor]
Shape = tuple[int, ...]


def given(
    shape: tuple[int, ...] = (2, 4, 17, 32), keys: tuple[int, ...] | None = None, dtype: torch.dtype = torch.float32
) -> Given:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(s, generator=generator).to(dtype) for s in (shape, keys or shape, keys or shape))
    return q, k, v


def split(x: Tensor) -> Tensor:
    """Heads that lie inside rows, as a projection leaves them."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The queries of the passes, forward and backward, that went the general way."""
    went: list[Tensor] = []
    forward, backward = ops.forward, ops._run_backward
    monkeypatch.setattr(ops, "_run_backward", lambda dout, q, *others: (went.append(q), backward(dout, q, *others))[1])
    monkeypatch.setattr(ops, "forward", lambda q, *others: (went.append(q), forward(q, *others))[1])
    return went


dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
causality = pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])
scales = pytest.mark.parametrize("scale", [None, 0.3])
shapes = pytest.mark.parametrize(
    ("shape", "keys"),
    [((1, 1, 1, 1), None), ((2, 4, 17, 32), None), ((1, 6, 65, 64), (1, 2, 40, 64)), ((3, 2, 5, 256), (3, 1, 130, 256))],
    ids=str,
)


@dtypes
@causality
@scales
@shapes
def test_the_values_of_the_general_way(
    general: list[Tensor], shape: Shape, keys: Shape | None, scale: float | None, is_causal: bool, dtype: torch.dtype
) -> None:
    q, k, v = given(shape, keys, dtype)
    best = candidates("attention", "cpu", str(dtype).removeprefix("torch."))[0].name
    for change in (lambda x: x, split, lambda x: x[:1].expand(shape[0], -1, -1, -1)):
        tensors = change(q), change(k), change(v)
        general.clear()
        out = attention(*tensors, scale=scale, is_causal=is_causal)
        assert not general
        due = attention(*tensors, scale=scale, is_causal=is_causal, backend=best)
        assert len(general) == 1
        assert torch.equal(out, due)
        assert out.stride() == due.stride()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_parameters_where_no_gradient_is_wanted(general: list[Tensor], context: type[torch.no_grad]) -> None:
    q, k, v = (torch.nn.Parameter(x) for x in given())
    with context():
        out = attention(q, k, v)
    assert not general
    assert not out.requires_grad
    assert attention(q, k, v).requires_grad


@dtypes
@causality
@scales
@shapes
def test_the_gradients_of_the_general_way(
    general: list[Tensor], shape: Shape, keys: Shape | None, scale: float | None, is_causal: bool, dtype: torch.dtype
) -> None:
    tensors = [x.requires_grad_() for x in given(shape, keys, dtype)]
    best = candidates("attention", "cpu", str(dtype).removeprefix("torch."))[0].name
    incoming = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    for change in (lambda x: x, split):
        for dout in (incoming, split(incoming), incoming.mT.contiguous().mT, incoming[:1, :1].expand(shape)):
            general.clear()
            got = torch.autograd.grad(attention(*map(change, tensors), scale=scale, is_causal=is_causal), tensors, dout)
            assert not general
            out = attention(*map(change, tensors), scale=scale, is_causal=is_causal, backend=best)
            due = torch.autograd.grad(out, tensors, dout)
            assert len(general) == 2
            for x, y in zip(got, due, strict=True):
                assert torch.equal(x, y)


def test_only_the_gradients_that_are_wanted(general: list[Tensor]) -> None:
    q, k, v = given()
    k.requires_grad_()
    out = attention(q, k, v)
    out.backward(torch.ones_like(out), retain_graph=True)
    first = k.grad
    assert first is not None
    assert q.grad is None
    assert v.grad is None
    k.grad = None
    out.backward(torch.ones_like(out))
    assert torch.equal(k.grad, first)
    assert not general


def test_a_recorded_call_keeps_what_autograd_promises() -> None:
    q, k, v = given()
    q.requires_grad_()
    with pytest.raises(NotImplementedError, match="second-order"):
        torch.autograd.grad(attention(q, k, v).sum(), q, create_graph=True)[0].sum().backward()
    out = attention(q, k, v)
    k.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_what_is_not_small_and_plain_goes_the_general_way(general: list[Tensor]) -> None:
    q, k, v = given()
    seed = torch.get_rng_state()
    others = {
        "a strided last dimension": lambda: attention(q.mT.contiguous().mT, k, v),
        "float64": lambda: attention(q.double(), k.double(), v.double()),
        "a large head": lambda: attention(*given((1, 1, 3, 260))),
        "many rows": lambda: attention(*given((1, 1, (1 << 16) + 1, 2), (1, 1, 1, 2))),
        "no keys": lambda: attention(q, k[:, :, :0], v[:, :, :0]),
        "a mask": lambda: attention(q, k, v, attn_mask=torch.ones(17, 17, dtype=torch.bool)),
        "a window": lambda: attention(q, k, v, window_size=(3, 0)),
        "bottom-right": lambda: attention(q, k[:, :, :5], v[:, :, :5], is_causal=True, bottom_right=True),
        "softcap": lambda: attention(q, k, v, softcap=5.0),
        "dropout": lambda: attention(q, k, v, dropout_p=0.5),
        "an int scale": lambda: attention(q, k, v, scale=1),
        "many rows, recorded": lambda: attention(*(x.requires_grad_() for x in given((1, 1, (1 << 16) + 1, 2), (1, 1, 1, 2)))),
    }
    for call in others.values():
        general.clear()
        call()
        assert len(general) == 1
    assert not torch.equal(seed, torch.get_rng_state())  # dropout drew its seed


WRONG = {
    "k must have q's batch": lambda q, k, v: (q, k[:1], v),
    "k must have a number of heads": lambda q, k, v: (q, k[:, :3], v[:, :3]),
    "k must have q's head dim": lambda q, k, v: (q, k[..., :16], v[..., :16]),
    "v must have k's shape": lambda q, k, v: (q, k, v[:, :, :3]),
    "v must have q's dtype": lambda q, k, v: (q, k, v.half()),
}


@pytest.mark.parametrize("named", WRONG)
def test_what_does_not_fit_is_named(named: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{named}"):
        attention(*WRONG[named](*given()))


def test_several_threads_at_once() -> None:
    """Each has a row sum's room of its own."""
    problems = [given((1, 2, 1 + 30 * n, 16)) for n in range(8)]
    due = [attention(*p, backend=BEST) for p in problems]

    def call(n: int) -> bool:
        return all(torch.equal(attention(*problems[n]), due[n]) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(8)))
