"""Every implementation, forward and every gradient, at the shapes that break attention."""

from __future__ import annotations

import pytest
import torch
from aieng_kernels._family import Implementation, declared
from aieng_kernels.attention import attention, attention_with_lse
from aieng_kernels.attention.options import Options
from attention_yardstick import NAMES, ULP, absent, complaints, exact, problem

LENGTHS = [(1, 1), (239, 1), (799, 3), (113, 203), (64, 128), (65, 65), (257, 300), (1023, 1024)]


@pytest.mark.parametrize("one", declared("attention"), ids=lambda i: f"{i.name}-{i.device}")
def test_which_are_tested_here(one):
    """One line for each implementation that the rest of this file leaves out on this machine."""
    if reason := absent(one):
        pytest.skip(f"{one.name}: {reason}")
    assert one.load().forward


def run(p, backend):
    leaves = [x.detach().requires_grad_() for x in (p.q, p.k, p.v)]
    out = attention(*leaves, is_causal=p.o.causal, scale=p.o.scale, backend=backend)
    return dict(zip(NAMES, (out.detach(), *torch.autograd.grad(out, leaves, p.dout)), strict=True))


def conforms(implementation: Implementation, **shape) -> None:
    p = problem(device=implementation.device, **shape)
    if reason := implementation.load().supports(p.q, p.k, p.v, p.o):
        pytest.skip(f"{implementation.name}: {reason}")
    assert not complaints(p, run(p, implementation.name))


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(("S", "T"), LENGTHS)
def test_lengths(implementation, dtype, S, T, causal):
    conforms(implementation, S=S, T=T, dtype=dtype, causal=causal)


@pytest.mark.parametrize("D", [8, 40, 96, 128, 192, 256])
def test_head_dims(implementation, dtype, D):
    conforms(implementation, B=2, S=70, T=90, D=D, dtype=dtype, causal=True)


@pytest.mark.parametrize("heads", [(1, 1), (3, 3), (6, 2), (5, 1)], ids=str)
def test_shared_heads(implementation, dtype, heads):
    conforms(implementation, B=2, Hq=heads[0], Hkv=heads[1], S=130, T=67, dtype=dtype)


@pytest.mark.parametrize("scale", [1.0, 0.03, -0.2])
def test_scales(implementation, dtype, scale):
    conforms(implementation, S=100, T=110, dtype=dtype, scale=scale, causal=True)


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (2, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)], ids=str)
def test_empty(implementation, dtype, shape):
    """Nothing to attend to gives 0 and lse -inf, and gradients of zero."""
    B, H, S, T = shape
    q, k, v = (torch.randn(B, H, n, 64).to(implementation.device, dtype).requires_grad_() for n in (S, T, T))
    if reason := implementation.load().supports(q, k, v, Options()):
        pytest.skip(reason)
    out, lse = attention_with_lse(q, k, v, backend=implementation.name)
    assert out.shape == q.shape
    assert lse.shape == q.shape[:-1]
    if T == 0:
        assert (out == 0).all()
        assert (lse == -torch.inf).all()
    for x, g in zip((q, k, v), torch.autograd.grad(out, (q, k, v), torch.ones_like(out)), strict=True):
        assert g.shape == x.shape
        assert (g == 0).all()


def test_lse(implementation, dtype):
    """Natural log-sum-exp in float32: off by the polynomial's 2.6e-6 at most, and by the rounding of a score."""
    p = problem(S=150, T=300, dtype=dtype, causal=True, device=implementation.device)
    _, lse = attention_with_lse(p.q, p.k, p.v, is_causal=True, backend=implementation.name)
    _, _, due = exact(p)
    terms = p.o.scale * (p.q.double().abs() @ p.k.double().abs().mT.repeat_interleave(p.group, 1)).max()
    assert lse.dtype == torch.float32
    assert (lse - due).abs().max() <= 2.6e-6 + ULP * (terms + due.abs().max())


def layouts(x):
    """The same values behind other strides: heads inside rows, sliced out of a larger tensor, columns before rows."""
    B, H, N, D = x.shape
    inside = x.transpose(1, 2).contiguous().transpose(1, 2)
    sliced = torch.full((B, H + 1, 2 * N, D + 8), torch.nan, dtype=x.dtype, device=x.device)[:, 1:, ::2, 4 : 4 + D]
    sliced.copy_(x)
    columns = x.mT.contiguous().mT
    return {"heads_inside_rows": inside, "sliced": sliced, "columns": columns}


@pytest.mark.parametrize("layout", ["heads_inside_rows", "sliced", "columns"])
def test_strides(implementation, dtype, layout):
    """Bit-equal to the contiguous result, forward and backward; dout has the layout too. Heads keep their order in memory."""
    p = problem(B=2, Hq=4, Hkv=2, S=70, T=90, dtype=dtype, causal=True, device=implementation.device)
    other = type(p)(*(layouts(x)[layout] for x in (p.q, p.k, p.v, p.dout)), p.o)
    assert not other.q.is_contiguous()
    assert torch.equal(other.q, p.q)
    due, got = run(p, implementation.name), run(other, implementation.name)
    for name in NAMES:
        assert torch.equal(got[name], due[name]), name
    assert not complaints(other, got)


def test_expanded(implementation, dtype):
    """One batch seen as two: stride zero."""
    p = problem(B=1, S=33, T=45, dtype=dtype, device=implementation.device)
    q, k, v = (x.expand(2, -1, -1, -1) for x in (p.q, p.k, p.v))
    out = attention(q, k, v, backend=implementation.name)
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[:1], attention(p.q, p.k, p.v, backend=implementation.name))


def test_inputs_are_not_written_and_results_repeat(implementation, dtype):
    p = problem(B=3, Hq=4, Hkv=2, S=200, T=150, dtype=dtype, causal=True, device=implementation.device)
    before = [x.clone() for x in (p.q, p.k, p.v, p.dout)]
    first, second = run(p, implementation.name), run(p, implementation.name)
    assert all(torch.equal(a, b) for a, b in zip(before, (p.q, p.k, p.v, p.dout), strict=True))
    if implementation.device == "cpu":
        assert all(torch.equal(first[name], second[name]) for name in NAMES)


def test_large_scores(implementation, dtype):
    """Scores of several hundred: the running maximum moves between blocks, and 2^x underflows to zero."""
    p = problem(S=64, T=520, dtype=dtype, scale=8.0, device=implementation.device)
    assert not complaints(p, run(p, implementation.name))


def test_nan_in_a_query_stays_in_its_row(implementation, dtype):
    p = problem(S=20, T=200, dtype=dtype, device=implementation.device)
    p.q[0, 0, 7, 3] = torch.nan
    out, lse = attention_with_lse(p.q, p.k, p.v, backend=implementation.name)
    assert out[0, 0, 7].isnan().all()
    assert lse[0, 0, 7].isnan()
    out[0, 0, 7], lse[0, 0, 7] = 0, 0
    assert not out.isnan().any()
    assert not lse.isnan().any()


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_any_number_of_threads(implementation, dtype, threads):
    """More threads than heads: keys are divided among them in the backward pass."""
    torch.set_num_threads(threads)
    conforms(implementation, B=1, Hq=2, Hkv=1, S=300, T=420, dtype=dtype, causal=True)
