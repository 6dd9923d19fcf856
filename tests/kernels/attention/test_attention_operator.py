"""The operator and the public functions: opcheck, torch.compile, what is raised, autograd's edges."""

from __future__ import annotations

import weakref
from dataclasses import replace

import pytest
import torch
import torch.utils.checkpoint
from aieng_kernels._family import declared
from aieng_kernels.attention import attention, attention_with_lse
from aieng_kernels.attention.options import Options
from attention_yardstick import problem

HOW = Options(scale=0.3, right=0)
RUNS_HERE = [i.name for i in declared("attention") if i.device == "cpu" and i.unsupported() is None]


@pytest.mark.parametrize("heads_inside_rows", [False, True])
@pytest.mark.parametrize("backend", [None, *RUNS_HERE])
def test_opcheck(backend, heads_inside_rows):
    p = problem(S=9, T=12, D=16, dtype=torch.bfloat16)
    if heads_inside_rows:
        p = replace(p, q=p.q.transpose(1, 2).contiguous().transpose(1, 2))
    q, k, v = (x.requires_grad_() for x in (p.q, p.k, p.v))
    torch.library.opcheck(torch.ops.aieng.attention_forward.default, (q, k, v, *HOW, backend))
    with torch.no_grad():
        out, lse = torch.ops.aieng.attention_forward(q, k, v, *HOW, backend)
        args = (p.dout, p.q.detach(), p.k.detach(), p.v.detach(), out, lse, *HOW, backend)
        torch.library.opcheck(torch.ops.aieng.attention_backward.default, args)


@pytest.mark.parametrize("backend", [None, *RUNS_HERE])
def test_no_graph_break(backend):
    p = problem(S=20, T=30, dtype=torch.bfloat16)

    def gradients(function):
        leaves = [x.detach().requires_grad_() for x in (p.q, p.k, p.v)]
        out = function(*leaves)
        return [out, *torch.autograd.grad(out, leaves, p.dout)]

    def call(q, k, v):
        return attention(q * 1.0, k, v, is_causal=True, backend=backend)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for got, due in zip(gradients(compiled), gradients(call), strict=True):
        assert torch.equal(got, due)


def good():
    return {name: torch.zeros(2, 4, 5, 8) for name in "qkv"}


@pytest.mark.parametrize(
    ("change", "error", "names"),
    [
        ({"q": 3}, TypeError, "q"),
        ({"q": torch.zeros(2, 4, 5, 8).to_sparse()}, TypeError, "q"),
        ({"v": torch.zeros(2, 4, 5, 8).to_mkldnn()}, TypeError, "v"),
        ({"k": torch.zeros(5, 8)}, ValueError, "k"),
        ({"q": torch.zeros(2, 4, 5, 8, dtype=torch.int64)}, TypeError, "q"),
        ({"v": torch.zeros(2, 4, 5, 8, dtype=torch.float16)}, TypeError, "v"),
        ({"k": torch.zeros(2, 4, 5, 8, device="meta")}, ValueError, "k"),
        ({"k": torch.zeros(3, 4, 5, 8)}, ValueError, "k"),
        ({"k": torch.zeros(2, 4, 5, 16)}, ValueError, "k"),
        ({"v": torch.zeros(2, 4, 6, 8)}, ValueError, "v"),
        ({"k": torch.zeros(2, 3, 5, 8), "v": torch.zeros(2, 3, 5, 8)}, ValueError, "k"),
        ({"k": torch.zeros(2, 0, 5, 8), "v": torch.zeros(2, 0, 5, 8)}, ValueError, "k"),
        ({"is_causal": 1}, TypeError, "is_causal"),
        ({"scale": "x"}, TypeError, "scale"),
        ({"attn_mask": 1}, TypeError, "attn_mask"),
        ({"attn_mask": torch.zeros(5, 5, dtype=torch.int64)}, TypeError, "attn_mask"),
        ({"attn_mask": torch.zeros(5, 6)}, ValueError, "attn_mask"),
        ({"attn_mask": torch.zeros(5, 5, device="meta")}, ValueError, "attn_mask"),
        ({"attn_mask": torch.zeros(5, 5, requires_grad=True)}, ValueError, "attn_mask"),
        ({"dropout_p": "x"}, TypeError, "dropout_p"),
        ({"dropout_p": 1.0}, ValueError, "dropout_p"),
        ({"softcap": "x"}, TypeError, "softcap"),
        ({"softcap": -1.0}, ValueError, "softcap"),
        ({"window_size": 3}, TypeError, "window_size"),
        ({"window_size": (3, 1.5)}, TypeError, "window_size"),
        ({"backend": 1}, TypeError, "backend"),
        ({"backend": "nothing"}, ValueError, "backend"),
        ({"backend": "cpu_avx512_bf16"}, ValueError, "backend"),
        ({"backend": "cpu_portable", **{n: torch.zeros(2, 4, 5, 264) for n in "qkv"}}, ValueError, "backend"),
    ],
)
def test_wrong_arguments_are_named(change, error, names):
    with pytest.raises(error, match=rf"^{names}\b"):
        attention(**{**good(), **change})


@pytest.mark.parametrize("one", [i for i in declared("attention") if i.unsupported()], ids=lambda i: f"{i.name}-{i.device}")
def test_forcing_what_cannot_run_says_why(one):
    q = torch.zeros(1, 1, 8, 64, dtype=getattr(torch, one.dtypes[0] if one.dtypes else "float32"))
    with pytest.raises(ValueError, match=rf"^backend='{one.name}' (runs on|cannot run here)"):
        attention(q, q, q, backend=one.name)


def test_large_head_dims_and_float64_fall_back_to_the_definition():
    p = problem(S=6, T=7, D=264)
    assert torch.equal(attention(p.q, p.k, p.v), attention(p.q, p.k, p.v, backend="reference"))
    q, k, v = (x.double().requires_grad_() for x in (p.q[..., :8], p.k[..., :8], p.v[..., :8]))
    assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, is_causal=True), (q, k, v))


def test_lse_is_not_differentiable_and_second_order_is_refused():
    p = problem(S=6, T=7)
    q = p.q.requires_grad_()
    out, lse = attention_with_lse(q, p.k, p.v)
    assert out.requires_grad
    assert not lse.requires_grad
    (dq,) = torch.autograd.grad(out.sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="second-order"):
        dq.sum().backward()


def test_only_needed_gradients():
    p = problem(S=6, T=7)
    v = p.v.requires_grad_()
    attention(p.q, p.k, v).sum().backward()
    assert p.q.grad is None
    assert v.grad is not None


def leaves_of(p):
    return [x.detach().clone().requires_grad_() for x in (p.q, p.k, p.v)]


def test_a_recorded_call_is_the_operator_with_its_gradient():
    p = problem(S=20, T=30)
    ours, operators = leaves_of(p), leaves_of(p)
    out = attention(*ours, scale=HOW.scale, is_causal=True)
    due = torch.ops.aieng.attention_forward(*operators, *HOW, None)[0]
    assert torch.equal(out, due)
    gradients = torch.autograd.grad(out, ours, p.dout)
    for got, wanted in zip(gradients, torch.autograd.grad(due, operators, p.dout), strict=True):
        assert torch.equal(got, wanted)


def test_what_was_saved_and_then_changed_is_told():
    leaves = leaves_of(problem(S=6, T=7))
    q = leaves[0] * 1.0
    out = attention(q, *leaves[1:])
    q.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_a_mask_that_was_changed_is_told_and_one_that_was_not_is_let_go():
    p = problem(S=6, T=7)
    mask = torch.ones(2, 6, 7, dtype=torch.bool)
    out = attention(p.q.requires_grad_(), p.k, p.v, attn_mask=mask)
    kept = weakref.ref(mask)
    mask.logical_not_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
    mask.logical_not_()
    out = attention(p.q, p.k, p.v, attn_mask=mask)
    out.sum().backward()
    del mask
    assert kept() is None


def test_checkpoints_and_saved_tensor_hooks_give_the_same_gradients():
    p = problem(S=20, T=30)
    leaves = leaves_of(p)
    due = torch.autograd.grad(attention(*leaves), leaves, p.dout)
    again = torch.utils.checkpoint.checkpoint(attention, *leaves, use_reentrant=False)
    with torch.autograd.graph.save_on_cpu():
        kept = attention(*leaves)
    for found in (torch.autograd.grad(again, leaves, p.dout), torch.autograd.grad(kept, leaves, p.dout)):
        for got, wanted in zip(found, due, strict=True):
            assert torch.equal(got, wanted)
