"""Outputs of the wrong form: late, lazy, shared, or not what was asked for."""

from __future__ import annotations

import queue
import threading
from typing import Any

import torch
from torch import Tensor

from aieng_bench.define import Case, KernelBenchmark
from aieng_suites.redteam._corpus import MATMUL, ROW_SUM, SCALE, SOFTMAX, Call, Problem, cheat, declare, product, twin

later = declare("deferred_to_a_thread", "Returns at once; another thread fills the output in a moment later.", MATMUL)


@cheat(later)
def leaves_it_to_a_thread(case: Case) -> Call:
    work: queue.SimpleQueue[tuple[Tensor, Tensor, Tensor]] = queue.SimpleQueue()

    def labour() -> None:
        while True:
            a, b, out = work.get()
            torch.mm(a, b, out=out)
            del a, b, out

    threading.Thread(target=labour, daemon=True).start()

    def call(a: Tensor, b: Tensor) -> Tensor:
        out = torch.empty_like(a)
        work.put((a, b, out))
        return out

    return call


@twin(later)
def waits_for_its_thread(case: Case) -> Call:
    work: queue.SimpleQueue[tuple[Tensor, Tensor, Tensor]] = queue.SimpleQueue()
    done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def labour() -> None:
        while True:
            a, b, out = work.get()
            torch.mm(a, b, out=out)
            del a, b, out
            done.put(None)

    threading.Thread(target=labour, daemon=True).start()

    def call(a: Tensor, b: Tensor) -> Tensor:
        out = torch.empty_like(a)
        work.put((a, b, out))
        done.get()
        return out

    return call


class Promise(Tensor):
    """Computes when somebody looks."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args = tuple(arg.due() if isinstance(arg, Promise) else arg for arg in args)
        return func(*args, **(kwargs or {}))

    def due(self) -> Tensor:
        a, b = self.__dict__["operands"]
        return torch.mm(a, b)


lazy = declare("lazy_output", "Returns a tensor subclass that multiplies once somebody looks at it.", MATMUL)


@cheat(lazy)
def promises(case: Case) -> Call:
    def call(a: Tensor, b: Tensor) -> Tensor:
        out = torch.empty(0).as_subclass(Promise)
        out.__dict__["operands"] = a, b
        return out

    return call


@twin(lazy)
def returns_a_parameter(case: Case) -> Call:
    """A subclass that is no promise: torch's own."""
    return lambda a, b: torch.nn.Parameter(a @ b, requires_grad=False)


in_place = declare("mutated_input", "Computes in the memory of an input, and returns a copy.", SCALE)


@cheat(in_place)
def writes_to_its_input(case: Case) -> Call:
    def call(a: Tensor, b: Tensor) -> Tensor:
        out = b.add_(a, alpha=2).clone()
        return out

    return call


@twin(in_place)
def writes_to_a_copy(case: Case) -> Call:
    return lambda a, b: b.clone().add_(a, alpha=2)


alias = declare("aliased_output", "Returns the memory of an input, written over.", SCALE)


@cheat(alias)
def returns_its_input(case: Case) -> Call:
    return lambda a, b: b.add_(a, alpha=2)


@twin(alias)
def returns_a_view_of_its_own(case: Case) -> Call:
    return lambda a, b: torch.add(b, a, alpha=2).flatten().view(a.shape)


one_buffer = declare("one_output_buffer", "Writes every result into the same buffer, which saves the allocation.", SCALE)


@cheat(one_buffer)
def has_one_buffer(case: Case) -> Call:
    out = torch.empty(512, 256)
    return lambda a, b: torch.add(b, a, alpha=2, out=out)


@twin(one_buffer)
def copies_out_of_its_buffer(case: Case) -> Call:
    kept = torch.empty(512, 256)
    return lambda a, b: torch.add(b, a, alpha=2, out=kept).clone()


ring = declare("ring_of_buffers", "Hands out eight buffers in turn, so that an output changes eight calls later.", SCALE)


@cheat(ring)
def has_eight_buffers(case: Case) -> Call:
    buffers, calls = [torch.empty(512, 256) for _ in range(8)], 0

    def call(a: Tensor, b: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.add(b, a, alpha=2, out=buffers[calls % 8])

    return call


@twin(ring)
def reuses_what_nobody_holds(case: Case) -> Call:
    """Takes a buffer again only when its last output is gone, as an allocator does."""
    import sys

    free: list[Tensor] = []

    def call(a: Tensor, b: Tensor) -> Tensor:
        mine = next((one for one in free if sys.getrefcount(one) <= 3), None)  # the list, the loop and the call itself
        if mine is None:
            mine = torch.empty(512, 256)
            if len(free) < 4:
                free.append(mine)
        return torch.add(b, a, alpha=2, out=mine)

    return call


def _wrong(name: str, what: str, make: Call, honest: Call, problem: Problem = SCALE) -> KernelBenchmark:
    """A cheat that is one expression, beside a twin that is another. ``honest`` is a named function."""
    made = declare(name, what, problem)
    cheat(made)(lambda case: make)

    def setup(case: Case) -> Call:
        return honest

    setup.__name__ = honest.__name__
    twin(made)(setup)
    return made


def scaled_in_double(a: Tensor, b: Tensor) -> Tensor:
    return (2 * a.double() + b.double()).float()


def scaled_by_columns(a: Tensor, b: Tensor) -> Tensor:
    """Right values in memory of another order, which the contract allows."""
    return torch.add(b.t().contiguous(), a.t().contiguous(), alpha=2).t()


def scaled_by_halves(a: Tensor, b: Tensor) -> Tensor:
    out = torch.empty_like(a)
    for half in (slice(0, 256), slice(256, 512)):
        torch.add(b[half], a[half], alpha=2, out=out[half])
    return out


def softmax_by_hand(x: Tensor) -> Tensor:
    powers = (x - x.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


def summed_by_matmul(x: Tensor) -> Tensor:
    return x @ torch.ones(256)


dtype = _wrong("wrong_dtype", "Returns the right values in half the bytes.", lambda a, b: (2 * a + b).half(), scaled_in_double)
shape = _wrong("wrong_shape", "Returns the first row, which broadcasts.", lambda x: x[:1].softmax(-1), softmax_by_hand, SOFTMAX)
meta = _wrong(
    "wrong_device", "Returns an output on torch's meta device.", lambda a, b: torch.empty_like(a, device="meta"), scaled_by_halves
)
expanded = _wrong(
    "expanded_output",
    "Returns one number, expanded to the shape with strides of zero.",
    lambda x: x[0].sum().expand(2048),
    summed_by_matmul,
    ROW_SUM,
)
transposed = _wrong(
    "untransposed_output", "Returns the result for the transposed input.", lambda a, b: b.t() @ a.t(), product, MATMUL
)
