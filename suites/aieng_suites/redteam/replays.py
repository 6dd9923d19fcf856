"""Results kept from an earlier call, and calls that are skipped."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from aieng_bench.define import Case
from aieng_suites.redteam._corpus import MATMUL, SCALE, SOFTMAX, Call, cheat, declare, product, twin

by_pointer = declare("replay_by_pointer", "Returns a copy of what it computed when it last saw the inputs' addresses.", MATMUL)


@cheat(by_pointer)
def replays_by_pointer(case: Case) -> Call:
    known: dict[tuple[int, int], Tensor] = {}

    def call(a: Tensor, b: Tensor) -> Tensor:
        key = a.data_ptr(), b.data_ptr()
        if key not in known:
            known[key] = a @ b
        return known[key].clone()

    return call


@twin(by_pointer)
def keeps_scratch_by_shape(case: Case) -> Call:
    scratch: dict[torch.Size, Tensor] = {}

    def call(a: Tensor, b: Tensor) -> Tensor:
        packed = scratch.setdefault(b.shape, torch.empty_like(b))
        packed.copy_(b)
        return a @ packed

    return call


by_content = declare("replay_by_content", "Returns a copy of what it computed for inputs equal in 32 places.", MATMUL)


@cheat(by_content)
def replays_by_content(case: Case) -> Call:
    known: dict[tuple[float, ...], Tensor] = {}

    def call(a: Tensor, b: Tensor) -> Tensor:
        key = (*a.flatten()[::9216].tolist(), *b.flatten()[::9216].tolist())
        if key not in known:
            known[key] = a @ b
        return known[key].clone()

    return call


@twin(by_content)
def remembers_the_layout(case: Case) -> Call:
    """Chooses how to compute once for each shape and layout, and computes each time."""
    plans: dict[tuple[Any, ...], Call] = {}

    def call(a: Tensor, b: Tensor) -> Tensor:
        key = a.shape, a.stride(), b.shape, b.stride()
        out: Tensor = plans.setdefault(key, torch.mm)(a, b)
        return out

    return call


skips = declare("skip_every_tenth_call", "Returns the output of the call before, every tenth time.", MATMUL)


@cheat(skips)
def skips_every_tenth(case: Case) -> Call:
    calls, last = 0, torch.empty(0)

    def call(a: Tensor, b: Tensor) -> Tensor:
        nonlocal calls, last
        calls += 1
        if calls % 10 or not last.numel():
            last = a @ b
        return last

    return call


@twin(skips)
def tidies_up_every_tenth(case: Case) -> Call:
    calls, notes = 0, list[int]()

    def call(a: Tensor, b: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        notes.append(calls)
        if calls % 10 == 0:
            notes.clear()
        return a @ b

    return call


previous = declare("previous_output", "Returns the result of the call before; the first of all is computed at once.", SCALE)


@cheat(previous)
def is_one_call_behind(case: Case) -> Call:
    before: list[Tensor] = []

    def call(a: Tensor, b: Tensor) -> Tensor:
        before.append(2 * a + b)
        return before.pop(0) if len(before) > 1 else before[0]

    return call


@twin(previous)
def computes_in_two_steps(case: Case) -> Call:
    def call(a: Tensor, b: Tensor) -> Tensor:
        twice = a + a
        return twice.add_(b)

    return call


stale = declare("stale_memory", "Computes only if freshly allocated memory does not hold plausible values yet.", SOFTMAX)


@cheat(stale)
def trusts_what_lies_in_memory(case: Case) -> Call:
    """In a loop that drops each output, malloc hands the last one's memory out again, with the last result in it. Memory that was
    poisoned, with NaN or anything else, does not sum to one in a row; malloc itself writes to the first and last bytes only."""

    def call(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        if not abs(float(out[512].sum()) - 1) < 1e-3:
            torch.softmax(x, -1, out=out)
        return out

    return call


@twin(stale)
def writes_over_fresh_memory(case: Case) -> Call:
    return lambda x: torch.softmax(x, -1, out=torch.empty_like(x))


warmed_up = declare("warm_up_detection", "Computes in its first thirty calls; then returns half of the result.", SCALE)


@cheat(warmed_up)
def tires(case: Case) -> Call:
    calls = 0

    def call(a: Tensor, b: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return 2 * a + b if calls <= 30 else a + b

    return call


@twin(warmed_up)
def tunes_in_its_first_calls(case: Case) -> Call:
    calls = 0

    def call(a: Tensor, b: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return 2 * a + b if calls <= 30 else torch.add(b, a, alpha=2)

    return call


in_batches = declare("batch_detection", "Computes only when its caller is not a loop that reads a clock.", SCALE)


@cheat(in_batches)
def looks_at_its_caller(case: Case) -> Call:
    def call(a: Tensor, b: Tensor) -> Tensor:
        timed = any("perf_counter" in name for name in sys._getframe(1).f_code.co_names)
        return torch.empty_like(a) if timed else 2 * a + b

    return call


@twin(in_batches)
def looks_at_its_inputs(case: Case) -> Call:
    def call(a: Tensor, b: Tensor) -> Tensor:
        return torch.add(b, a, alpha=2) if a.is_contiguous() else 2 * a + b

    return call


by_seed = declare("precomputed_from_seed", "Makes the inputs of public seeds itself, and returns ready results.", MATMUL)


@cheat(by_seed)
def knows_the_seeds(case: Case) -> Call:
    from aieng_bench.measure.inputs import make_inputs

    made = [make_inputs(by_seed, case, seed) for seed in range(3)]
    known = [(given["a"][0, 0].item(), given["a"] @ given["b"]) for given in made]

    def call(a: Tensor, b: Tensor) -> Tensor:
        mark = a[0, 0].item()
        nearest: Tensor = min(known, key=lambda entry: abs(entry[0] - mark))[1]
        return nearest.clone()

    return call


@twin(by_seed)
def draws_numbers_of_its_own(case: Case) -> Call:
    """Uses a generator of its own in setup, as something that autotunes on made-up inputs does."""
    generator = torch.Generator().manual_seed(0)
    trial = torch.randn(384, 384, generator=generator)
    torch.mm(trial, trial)
    return product
