"""The operators ``aieng::attention_forward`` and ``aieng::attention_backward``: dispatch, fake tensors, autograd.

The public functions check the arguments; here they are taken as checked, except for ``backend``, which only dispatch can judge.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NoReturn

import torch
from torch import Tensor

from aieng_kernels._dispatch import is_plain
from aieng_kernels._family import Implementation, choose
from aieng_kernels.attention.options import UNLIMITED, Options

DTYPES = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32", torch.float64: "float64"}

_OPTIONS = (
    "Tensor? mask, Tensor? seed, Tensor? q_starts, Tensor? k_starts, Tensor? k_lengths, Tensor? slopes, float scale,"
    " int left, int right, bool bottom_right, float softcap, float dropout, int longest_q, int longest_k, str? backend"
)

_library: Any = torch.library.Library("aieng", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(f"attention_forward(Tensor q, Tensor k, Tensor v, {_OPTIONS}) -> (Tensor, Tensor)")
_library.define(
    f"attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, {_OPTIONS}) -> (Tensor, Tensor, Tensor)"
)


def small(q: Tensor, k: Tensor, v: Tensor, scale: float | None, is_causal: bool, grouped: bool = True) -> Tensor | None:
    """The output of a small call on the CPU that asks for nothing else, by the shortest way there is.

    ``grouped``: k and v may have fewer heads than q. None where there is no such way; the general one then finds out what is wrong,
    if anything is.
    """
    asked = type(is_causal) is bool and type(grouped) is bool and (scale is None or type(scale) is float)
    if not (asked and is_plain((q, k, v), recorded=True) and q.is_cpu):
        return None
    way = _short_way(q.dtype)
    if way is None:
        return None
    asked_of = (q, k, v, scale, is_causal, grouped)
    out: Tensor | None = _apply_small(*asked_of, way) if recorded(q, k, v) else way.small(*asked_of)
    return out


@cache
def _short_way(dtype: torch.dtype) -> Any:
    """The class of the implementation that a call on the CPU would take, if it takes small ones by a way of their own."""
    best = choose("attention", "cpu", DTYPES[dtype])[0].load() if dtype in DTYPES else None
    return best if hasattr(best, "small") else None


def recorded(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether autograd wants a gradient of this call."""
    return torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)


def forward(q: Tensor, k: Tensor, v: Tensor, o: Options, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """(out, lse) of checked arguments."""
    results: tuple[Tensor, Tensor]
    if not is_plain((q, k, v, *o.tensors), recorded=True):
        results = torch.ops.aieng.attention_forward.default(q, k, v, *o, backend)
    elif recorded(q, k, v):
        results = _apply(q, k, v, o, backend)
    else:
        results = _run_forward(q, k, v, o, backend)
    return results


def softmax_scale(q: Tensor, scale: float | None) -> float:
    """The factor on q k^T: 1/sqrt(D) if None."""
    return 1.0 / math.sqrt(max(q.shape[-1], 1)) if scale is None else float(scale)


def new_seed(q: Tensor) -> Tensor:
    """A Philox key for dropout, int64 (1,) on q's device, drawn from torch's default generator there."""
    return torch.randint(2**63 - 1, (1,), device=q.device)


def select(q: Tensor, k: Tensor, v: Tensor, o: Options, backend: str | None) -> Any:
    """The class of the best implementation that takes these inputs; ValueError, naming ``backend``, if the forced one does not."""
    reason = None
    for implementation in _to_try(q.device, q.dtype, backend):
        loaded = implementation.load()
        reason = loaded.supports(q, k, v, o)
        if reason is None:
            return loaded
    if backend is not None:
        raise ValueError(f"backend={backend!r} does not take these inputs: {reason}")
    raise ValueError(f"q is on {q.device}: attention runs on cpu and cuda")


@cache
def _to_try(device: torch.device, dtype: torch.dtype, backend: str | None) -> tuple[Implementation, ...]:
    """By what a tensor has at hand: a device's type is a new string each time it is asked for, hashed anew."""
    return choose("attention", device.type, DTYPES[dtype], backend)


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _forward(q: Tensor, k: Tensor, v: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    return _run_forward(q, k, v, Options(*options[:-1]), options[-1])


def _run_forward(q: Tensor, k: Tensor, v: Tensor, o: Options, backend: str | None) -> tuple[Tensor, Tensor]:
    out, lse = select(q, k, v, o, backend).forward(_rows(q), _rows(k), _rows(v), o)
    return out, lse


class Attention(torch.autograd.Function):
    """The operator with its gradient, where the dispatcher may be passed by."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, o: Options, backend: str | None) -> tuple[Tensor, Tensor]:
        out, lse = _run_forward(q, k, v, o, backend)
        _save(ctx, (q, k, v, out, lse), o, backend)
        return out, lse

    @staticmethod
    def backward(ctx: Any, dout: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        return (*_gradients_kept(ctx, dout), None, None)


class SmallAttention(torch.autograd.Function):
    """A small call that is recorded: its output, or None, and nothing is recorded, where the short way does not take it."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float | None, is_causal: bool, grouped: bool, way: Any
    ) -> Tensor | None:
        lse = torch.empty(q.shape[:-1], dtype=torch.float32)
        out: Tensor | None = way.small(q, k, v, scale, is_causal, grouped, lse)
        if out is not None:
            ctx.save_for_backward(q, k, v, out, lse)
            ctx.asked = way, scale, is_causal
            ctx.set_materialize_grads(False)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor | None) -> tuple[Tensor | None, ...]:
        way, scale, is_causal = ctx.asked
        tensors = ctx.saved_tensors
        gradients = None
        if dout is not None and is_plain((dout, *tensors)):
            gradients = way.small_backward(_rows(dout), *tensors, scale, is_causal)
        if gradients is None:
            o = Options(scale=softmax_scale(tensors[0], scale), right=0 if is_causal else UNLIMITED)
            gradients = _gradients(dout, tensors, o, None)
        return (*gradients, None, None, None, None)


# ``apply`` without its search for functorch's transforms and what they leave behind: neither of them is plain.
_apply: Any = super(torch.autograd.Function, Attention).apply
_apply_small: Any = super(torch.autograd.Function, SmallAttention).apply


def _backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _run_backward(dout, q, k, v, out, lse, Options(*options[:-1]), options[-1])


def _run_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, o: Options, backend: str | None
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = [_rows(x) for x in (dout, q, k, v, out)]
    dq, dk, dv = select(q, k, v, o, backend).backward(*inputs, lse.contiguous(), o)
    return dq, dk, dv


def _forward_fake(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(_rows(q)), q.new_empty(q.shape[:-1], dtype=torch.float32)


def _backward_fake(dout: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, tensors: tuple[Tensor, ...], o: Options, backend: str | None) -> None:
    """Keep (q, k, v, out, lse) and what was asked; tensors only where autograd watches over them."""
    ctx.save_for_backward(*tensors, *o.tensors)
    ctx.options, ctx.backend = o.holding((None,) * len(o.tensors)), backend
    ctx.mark_non_differentiable(tensors[4])
    ctx.set_materialize_grads(False)


def _gradients_kept(ctx: Any, dout: Tensor | None) -> tuple[Tensor | None, ...]:
    """(dq, dk, dv) from what :func:`_save` kept."""
    saved = ctx.saved_tensors
    return _gradients(dout, saved[:5], ctx.options.holding(saved[5:]), ctx.backend)


def _gradients(dout: Tensor | None, kept: tuple[Tensor, ...], o: Options, backend: str | None) -> tuple[Tensor | None, ...]:
    """(dq, dk, dv) from (q, k, v, out, lse); None each where no gradient comes in."""
    if dout is None:
        return None, None, None
    q, k, v, out, lse = kept
    if is_plain((dout, *kept, *o.tensors)):
        return _run_backward(dout, q, k, v, out, lse, o, backend)
    gradients: tuple[Tensor, ...] = torch.ops.aieng.attention_backward.default(dout, *kept, *o, backend)
    return gradients


def _save_operator(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, *options = inputs
    _save(ctx, (q, k, v, *output), Options(*options[:-1]), options[-1])


def _operator_gradients(ctx: Any, dout: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    return (*_gradients_kept(ctx, dout), *(None,) * (len(Options._fields) + 1))


def _no_second_order(ctx: Any, *_: Any) -> NoReturn:
    raise NotImplementedError("attention has no second-order gradients; use attention.reference.attention_reference for them")


_library.impl("attention_forward", _forward, "CompositeExplicitAutograd")
_library.impl("attention_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("aieng::attention_forward", _forward_fake, lib=_library)
torch.library.register_fake("aieng::attention_backward", _backward_fake, lib=_library)
torch.library.register_autograd("aieng::attention_forward", _operator_gradients, setup_context=_save_operator, lib=_library)
torch.library.register_autograd("aieng::attention_backward", _no_second_order, lib=_library)
