"""Random shapes and strides against the definition."""

from __future__ import annotations

import torch
from aieng_kernels._family import candidates
from aieng_kernels.attention import ops
from aieng_kernels.attention.checks import check_mask
from aieng_kernels.attention.options import UNLIMITED, Options
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
    return Problem(q, k, v, dout, draw(options(tensor, B, shared * group, S, T, D)))


@st.composite
def options(draw, tensor, B, H, S, T, D):
    """Half the time a window, a soft cap, a mask that broadcasts along any dimension, of any kind and strides."""
    o = Options(scale=draw(st.sampled_from([D**-0.5, 1.0])), right=draw(st.sampled_from([UNLIMITED, 0])))
    if draw(st.booleans()):
        return o
    mask = tensor(*(draw(st.sampled_from([1, n])) for n in (B, H, S, T)))
    mask = draw(st.sampled_from([None, mask, mask.float(), mask > -0.5]))
    return o._replace(
        mask=None if mask is None else check_mask(mask, torch.empty(B, H, S, D, dtype=mask.dtype), torch.empty(B, H, T, D)),
        left=draw(st.sampled_from([UNLIMITED, 0, 7, 90])),
        right=draw(st.sampled_from([UNLIMITED, 0, 5, 100])),
        bottom_right=draw(st.booleans()),
        softcap=draw(st.sampled_from([0.0, 2.0])),
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems(), st.integers(0, 9))
def test_any_shape_and_strides(p, which):
    here = candidates("attention", "cpu", str(p.q.dtype).removeprefix("torch."))
    runs = [i for i in here if i.load().supports(p.q, p.k, p.v, p.o) is None]
    leaves = [x.detach().requires_grad_() for x in (p.q, p.k, p.v)]
    out, _ = ops.forward(*leaves, p.o, runs[which % len(runs)].name)
    got = dict(zip(NAMES, (out.detach(), *torch.autograd.grad(out, leaves, p.dout)), strict=True))
    note(f"q {p.q.shape} {p.q.stride()}, k {p.k.shape} {p.k.stride()}, {p.q.dtype}, {p.o}")
    assert not complaints(p, got)
