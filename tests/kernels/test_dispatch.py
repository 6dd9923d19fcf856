"""Calls that skip torch's dispatcher: only where it would have gone straight to the kernel."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from aieng_kernels._dispatch import is_plain
from aieng_kernels._family import declared
from aieng_kernels.attention import attention
from aieng_kernels.diffusion import ddim_step
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode


class Subclass(Tensor):
    """Overrides nothing, yet whoever made it may expect to see every call."""


@pytest.mark.parametrize("context", [nullcontext, torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu")])
def test_dense_tensors_are_plain(context: Callable[[], AbstractContextManager[object]]) -> None:
    outside = torch.randn(3)
    with context():
        assert is_plain((outside, torch.randn(3), None, torch.randn(3, 4).t()[1:]))


def test_a_parameter_is_plain_where_no_gradient_is_wanted() -> None:
    parameter = torch.nn.Parameter(torch.randn(3))
    assert not is_plain((torch.randn(3), parameter))
    assert is_plain((torch.randn(3), parameter), recorded=True)
    with torch.no_grad():
        assert is_plain((torch.randn(3), parameter))


@contextmanager
def dual() -> Iterator[None]:
    with forward_ad.dual_level():
        yield


class Watching(TorchDispatchMode):
    pass


class Listening(TorchFunctionMode):
    pass


@pytest.mark.parametrize("context", [Watching, Listening, FakeTensorMode, dual, lambda: profile(activities=[ProfilerActivity.CPU])])
def test_nothing_is_plain_where_somebody_watches(context: Callable[[], AbstractContextManager[object]]) -> None:
    x = torch.randn(3)
    with context():
        assert not is_plain((x,))
    assert is_plain((x,))


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(3).as_subclass(Subclass),
        torch.randn(3, dtype=torch.complex64).conj().imag,
        torch._efficientzerotensor(3),
        torch.empty(3, device="meta"),
        torch.eye(3).to_sparse(),
        torch.eye(3).to_mkldnn(),
    ],
    ids=["subclass", "negative view", "zero tensor", "meta", "sparse", "mkldnn"],
)
def test_other_tensors_are_not_plain(x: Tensor) -> None:
    assert not is_plain((torch.randn(3), x))


def test_transforms_are_not_plain() -> None:
    seen = []

    def f(x: Tensor) -> Tensor:
        seen.append(is_plain((x,)))
        return x * 2

    torch.func.vmap(f)(torch.randn(2, 3))
    torch.func.grad(lambda x: f(x).sum())(torch.randn(3))
    torch.func.functionalize(f)(torch.randn(3))
    make_fx(f)(torch.randn(3))
    assert seen == [False] * 4


def test_what_a_transform_left_behind_is_not_plain() -> None:
    left = []
    torch.func.grad(lambda x: (left.append(x), x.sum())[1])(torch.randn(3))
    assert not is_plain((left[0],), recorded=True)


def attend(x: Tensor) -> Tensor:
    return attention(x, x, x)


def denoise(x: Tensor) -> Tensor:
    return ddim_step(x, x, alpha_prod=0.5, alpha_prod_prev=0.6).prev_sample


@pytest.mark.parametrize(("call", "name"), [(attend, "aieng.attention_forward.default"), (denoise, "aieng.diffusion_step.default")])
def test_a_traced_call_is_the_operator(call: Callable[[Tensor], Tensor], name: str) -> None:
    x = torch.randn(1, 2, 4, 8)
    graph = make_fx(call)(x)
    assert name in {str(node.target) for node in graph.graph.nodes}
    assert torch.equal(graph(x), call(x))


@pytest.mark.parametrize("call", [attend, denoise])
def test_compiles_without_a_graph_break(call: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(1, 2, 4, 8)
    assert torch.equal(torch.compile(call, fullgraph=True, backend="eager")(x), call(x))


def test_compiles_for_every_length() -> None:
    compiled = torch.compile(attend, fullgraph=True, dynamic=True, backend="eager")
    for length in (4, 7):
        x = torch.randn(1, 2, length, 8)
        assert torch.equal(compiled(x), attend(x))


def test_first_calls_from_several_threads_do_not_meet_in_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which Python 3.11's does not bear."""
    inside, met = threading.Lock(), []

    def watched(source: str) -> ast.Module:
        met.append(not inside.acquire(blocking=False))
        time.sleep(1e-3)
        tree = ast.parse(source)
        if not met[-1]:
            inside.release()
        return tree

    monkeypatch.setattr("aieng_kernels._family.ast", SimpleNamespace(**{**vars(ast), "parse": watched}))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(declared.__wrapped__, ["attention", "diffusion"] * 2))
    assert met
    assert not any(met)
    assert found == [declared("attention"), declared("diffusion")] * 2


@pytest.mark.parametrize(("call", "name"), [(attend, "aieng::attention_forward"), (denoise, "aieng::diffusion_step")])
def test_the_profiler_sees_the_operator(call: Callable[[Tensor], Tensor], name: str) -> None:
    with profile(activities=[ProfilerActivity.CPU]) as found:
        call(torch.randn(1, 2, 4, 8))
    assert name in {event.name for event in found.events()}
