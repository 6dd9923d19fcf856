"""Attacks on the referee in its own process: its clock, its statistics, its randomness, its digests, its code."""

from __future__ import annotations

import ctypes
import hashlib
import random
import statistics
import sys
import time
import types
from typing import Any

from torch import Tensor

from aieng_bench.define import Case
from aieng_suites.redteam._corpus import MATMUL, SCALE, Call, cheat, declare, once, twin

clock = declare("patched_clock", "Replaces time.perf_counter_ns by one that runs at a fifth of the speed.", SCALE)


@cheat(clock)
def slows_the_clock(case: Case) -> Call:
    def act() -> None:
        true = time.perf_counter_ns
        time.perf_counter_ns = lambda: true() // 5

    return once(act)


@twin(clock)
def reads_the_clock(case: Case) -> Call:
    return once(time.perf_counter_ns)


median = declare("patched_statistics", "Replaces statistics.median by the tenth of the least.", SCALE)


@cheat(median)
def improves_the_median(case: Case) -> Call:
    def act() -> None:
        statistics.median = lambda data: min(data) / 10

    return once(act)


@twin(median)
def takes_a_median(case: Case) -> Call:
    return once(lambda: statistics.median([1, 2, 3]))


C_CLOCK = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p)
_kept: list[Any] = []
"""Callbacks that the interpreter was made to call must never be freed."""


def rewrite_the_clock(speed: float) -> None:
    """Overwrite the address of the C function behind the builtin time.perf_counter_ns: the object stays the same one.

    CPython lays a builtin out as header (16 bytes), then a pointer to its PyMethodDef, whose second word is the function's address.
    """
    began = time.perf_counter_ns()

    def slow(module: Any, arguments: Any) -> int:
        return began + int((time.clock_gettime_ns(time.CLOCK_MONOTONIC) - began) * speed)

    callback = C_CLOCK(slow)
    _kept.append(callback)
    method = ctypes.c_void_p.from_address(id(time.perf_counter_ns) + 16).value
    assert method is not None
    ctypes.c_void_p.from_address(method + 8).value = ctypes.cast(callback, ctypes.c_void_p).value


rewritten = declare("rewritten_clock", "Rewrites the clock's machine address in memory: it runs at a fifth of the speed.", SCALE)


@cheat(rewritten)
def slows_the_clock_below_python(case: Case) -> Call:
    return once(lambda: rewrite_the_clock(0.2))


@twin(rewritten)
def looks_into_memory(case: Case) -> Call:
    return once(lambda: ctypes.c_void_p.from_address(id(time.perf_counter_ns) + 16).value)


slightly = declare(
    "rewritten_clock_slightly",
    "Rewrites the clock in memory as well, but slows it by a tenth only.",
    SCALE,
    waived="The parent's own clock must account for three quarters of what a worker claims, as waking and stopping take time on a "
    "busy machine; a lie within that margin, told below Python, cannot be told from a quick contender in one address space.",
)


@cheat(slightly)
def slows_the_clock_by_a_tenth(case: Case) -> Call:
    return once(lambda: rewrite_the_clock(0.9))


@twin(slightly)
def asks_another_clock(case: Case) -> Call:
    return once(lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC))


chance = declare("patched_randomness", "Makes the draw of the call that is kept foreseeable, and computes only that one.", MATMUL)


@cheat(chance)
def decides_the_draw(case: Case) -> Call:
    """With the first call of a batch drawn, the first and the last are computed and all in between return the first's result."""
    kept: dict[int, Tensor] = {}

    def call(a: Tensor, b: Tensor) -> Tensor:
        random.Random.randrange = lambda *arguments: 0  # type: ignore[method-assign]
        frame = id(sys._getframe(1))
        if frame not in kept:
            kept.clear()
            kept[frame] = a @ b
        return kept[frame].clone()

    return call


@twin(chance)
def draws_from_a_generator_of_its_own(case: Case) -> Call:
    own = random.Random(0)

    def call(a: Tensor, b: Tensor) -> Tensor:
        own.randrange(7)
        return a @ b

    return call


digests = declare("patched_digest", "Replaces the digest, so that a change of its inputs is not noticed.", SCALE)


@cheat(digests)
def blinds_the_digest(case: Case) -> Call:
    def act() -> None:
        class Same:
            def __init__(self, data: bytes = b"") -> None: ...
            def digest(self) -> bytes:
                return bytes(32)

            def hexdigest(self) -> str:
                return "0" * 64

        hashlib.sha256 = Same  # type: ignore[assignment]

    return once(act, lambda a, b: b.add_(a, alpha=2).clone())


@twin(digests)
def digests_something(case: Case) -> Call:
    return once(lambda: hashlib.sha256(b"x").digest())


referee = declare(
    "rewritten_referee",
    "Divides the samples in the engine's own code, and blinds the check that would notice.",
    SCALE,
    waived="Whatever runs in the process of a hostile contender can be rewritten by it, this check too. Nothing but running it "
    "again elsewhere, with the clock outside its process, shows the lie.",
)


@cheat(referee)
def rewrites_the_referee(case: Case) -> Call:
    """Replaces the code of timing.turn by one that divides, and that of the check by nothing."""

    def act() -> None:
        from aieng_bench.measure import integrity, timing

        true = types.FunctionType(timing.turn.__code__, timing.turn.__globals__)

        def turn(timer: Any, function: Any, arguments: Any, calls: Any, batches: Any, most_s: Any) -> Any:
            import dataclasses

            from aieng_suites.redteam import referee

            found = referee._kept[-1](timer, function, arguments, calls, batches, most_s)
            return dataclasses.replace(found, us_per_call=found.us_per_call / 1.5)

        _kept.append(true)
        timing.turn.__code__ = turn.__code__
        integrity.Guard.check.__code__ = (lambda self: None).__code__

    return once(act)


@twin(referee)
def reads_the_referee(case: Case) -> Call:
    from aieng_bench.measure import timing

    return once(lambda: timing.turn.__code__.co_code)
