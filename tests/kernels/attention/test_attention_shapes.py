"""Random shapes and strides against the definition."""

from __future__ import annotations

import torch
from aieng_kernels._family import candidates
from aieng_kernels.attention import attention
from attention_yardstick import NAMES, Problem, complaints
from hypothesis import given, note, settings
from hypothesis import strategies as st


@st.composite
def problems(draw):
    """Any strides that views of a larger tensor can have, in any dtype, any number of heads that share keys."""
    dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    B, shared, group, D = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 3)), 8 * draw(st.integers(1, 9))
    S, T = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def tensor(*shape):
        order, steps = draw(st.permutations(range(4))), [draw(st.integers(1, 2)) for _ in shape]
        memory = torch.randn([shape[i] * steps[i] for i in order], generator=generator).to(dtype)
        view = memory.permute([order.index(i) for i in range(4)])
        return view[tuple(slice(None, None, step) for step in steps)]

    q, k, v, dout = (
        tensor(B, shared * group, S, D),
        tensor(B, shared, T, D),
        tensor(B, shared, T, D),
        tensor(B, shared * group, S, D),
    )
    return Problem(q, k, v, dout, draw(st.booleans()), draw(st.sampled_from([D**-0.5, 1.0])))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(problems(), st.integers(0, 9))
def test_any_shape_and_strides(p, which):
    runs = candidates("attention", "cpu", str(p.q.dtype).removeprefix("torch."))
    leaves = [x.detach().requires_grad_() for x in (p.q, p.k, p.v)]
    out = attention(*leaves, is_causal=p.causal, scale=p.scale, backend=runs[which % len(runs)].name)
    got = dict(zip(NAMES, (out.detach(), *torch.autograd.grad(out, leaves, p.dout)), strict=True))
    note(f"q {p.q.shape} {p.q.stride()}, k {p.k.shape} {p.k.stride()}, {p.q.dtype}, causal={p.causal}, scale={p.scale:.3g}")
    assert not complaints(p, got)
