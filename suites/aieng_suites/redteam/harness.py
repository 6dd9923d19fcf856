"""Attacks on the referee: its clock, its digests, its channel, its files, and the rivals it measures beside."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import random
import statistics
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aieng_bench.define import Case
from aieng_suites.redteam._corpus import MATMUL, SCALE, Call, cheat, declare, product, twin


def scaled(a: Tensor, b: Tensor) -> Tensor:
    return 2 * a + b


def once(act: Callable[[], object], call: Call = scaled) -> Call:
    """Does ``act`` in its first call, and computes honestly in all."""
    done = False

    def acting(**inputs: Tensor) -> Any:
        nonlocal done
        if not done:
            done = True
            act()
        return call(**inputs)

    return acting


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


def serving() -> dict[str, Any]:
    """The variables of the loop that answers the parent: its channel, and the token of the question under way."""
    frame = sys._getframe()
    while frame.f_back is not None and "channel" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals


def forge() -> None:
    """Answer the parent's question with a sample of 10 ns."""
    found = serving()
    value = {"samples": {"latency_us": 0.01}, "claimed_ns": 20_000_000}
    found["channel"].send({"token": found["request"]["token"], "ok": True, "value": value})


forged = declare("forged_answer", "Writes an answer into the channel, with the token it finds in the interpreter's frames.", SCALE)


@cheat(forged)
def answers_first(case: Case) -> Call:
    answered = set[str]()

    def call(a: Tensor, b: Tensor) -> Tensor:
        request = serving()["request"]
        if request["op"] == "turn" and request["token"] not in answered:
            answered.add(request["token"])
            forge()
        return 2 * a + b

    return call


@twin(forged)
def prints_a_line(case: Case) -> Call:
    return once(lambda: print("ready"))


leaves = declare("exit_after_an_answer", "Forges an answer as above and ends its process with code 0 before the true one.", SCALE)


@cheat(leaves)
def answers_and_exits(case: Case) -> Call:
    def call(a: Tensor, b: Tensor) -> Tensor:
        if serving()["request"]["op"] == "turn":
            forge()
            os._exit(0)
        return 2 * a + b

    return call


@twin(leaves)
def ends_a_child_process(case: Case) -> Call:
    return once(lambda: subprocess.run([sys.executable, "-c", "exit(0)"]).returncode)


malformed = declare("malformed_answer", "Answers with its token and nothing in it, so that the engine stumbles.", SCALE)


@cheat(malformed)
def answers_nothing(case: Case) -> Call:
    def call(a: Tensor, b: Tensor) -> Tensor:
        found = serving()
        if found["request"]["op"] == "turn":
            found["channel"].send({"token": found["request"]["token"], "ok": True, "value": {"samples": "none"}})
        return 2 * a + b

    return call


@twin(malformed)
def writes_much_to_its_log(case: Case) -> Call:
    return once(lambda: print("x" * 10**6))


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

            from aieng_suites.redteam import harness

            found = harness._kept[-1](timer, function, arguments, calls, batches, most_s)
            return dataclasses.replace(found, us_per_call=found.us_per_call / 1.5)

        _kept.append(true)
        timing.turn.__code__ = turn.__code__
        integrity.Guard.check.__code__ = (lambda self: None).__code__

    return once(act)


@twin(referee)
def reads_the_referee(case: Case) -> Call:
    from aieng_bench.measure import timing

    return once(lambda: timing.turn.__code__.co_code)


files = declare(
    "tampered_file", "Returns an empty tensor; a thread writes the result into the file that the engine makes of it.", SCALE
)


@cheat(files)
def edits_its_file(case: Case) -> Call:
    shown: list[tuple[Tensor, Tensor]] = []
    folders = list(Path("/dev/shm").glob(f"aieng-bench-{os.getppid()}-*"))

    def watch() -> None:
        done: set[str] = set()
        while True:
            for entry in [entry for folder in folders if folder.is_dir() for entry in os.scandir(folder)]:
                if entry.is_file() and entry.path not in done and shown and entry.stat().st_size == 4 * 512 * 256:
                    a, b = shown[-1]
                    Path(entry.path).write_bytes((2 * a + b).numpy().tobytes())
                    done.add(entry.path)
            time.sleep(1e-4)

    threading.Thread(target=watch, daemon=True).start()

    def call(a: Tensor, b: Tensor) -> Tensor:
        shown[:] = [(a, b)]
        return torch.empty_like(a)

    return call


@twin(files)
def writes_a_file_of_its_own(case: Case) -> Call:
    """As a compiler's cache does, where TMPDIR says."""
    own = Path(os.environ.get("TMPDIR", "/tmp")) / f"own-{os.getpid()}"
    return once(lambda: own.write_bytes(b"compiled"))


more_threads = declare("more_threads", "Raises torch's number of threads above what every contender is given.", MATMUL)


@cheat(more_threads)
def takes_more_threads(case: Case) -> Call:
    return once(lambda: torch.set_num_threads(torch.get_num_threads() + 2), product)


@twin(more_threads)
def asks_for_the_threads(case: Case) -> Call:
    return once(torch.get_num_threads, product)


LOOP = "import os, time\nend = time.monotonic() + 600\nwhile time.monotonic() < end and os.getppid() == {parent}:\n    pass"

thief = declare("thief_outside_its_group", "Starts a process in another session that spins while its rivals are timed.", SCALE)


@cheat(thief)
def starts_a_thief(case: Case) -> Call:
    def act() -> None:
        subprocess.Popen([sys.executable, "-c", LOOP.format(parent=os.getpid())], start_new_session=True)

    return once(act)


@twin(thief)
def keeps_its_child_in_its_group(case: Case) -> Call:
    """A helper that is stopped together with its worker."""
    code = f"import os, time\nwhile os.getppid() == {os.getpid()}: time.sleep(0.05)"
    return once(lambda: subprocess.Popen([sys.executable, "-c", code]))


spinning = declare(
    "spinning_threads",
    "Leaves threads that spin after each call, to take time from its rivals.",
    SCALE,
    waived="It gains nothing: every thread of a worker is stopped while a rival is timed, so they spin in their own time only.",
)


@cheat(spinning)
def spins(case: Case) -> Call:
    def work() -> None:
        while True:
            pass

    return once(lambda: threading.Thread(target=work, daemon=True).start())


@twin(spinning)
def has_an_idle_thread(case: Case) -> Call:
    return once(lambda: threading.Thread(target=threading.Event().wait, daemon=True).start())


rivals = declare(
    "slowed_rivals",
    "Lowers the priority of every other worker of its run.",
    SCALE,
    waived="Any process of a user may slow or kill any other of that user; only separate users or machines would stop it. On a "
    "quiet machine priority changes nothing, as one worker runs at a time.",
)


@cheat(rivals)
def lowers_its_rivals(case: Case) -> Call:
    def act() -> None:
        own, parent = str(os.getpid()), str(os.getppid())
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_text().split("\0")
                if "aieng_bench.measure.worker" in command and parent in command and entry.name != own:
                    os.setpriority(os.PRIO_PROCESS, int(entry.name), 10)

    return once(act)


@twin(rivals)
def lowers_nobody(case: Case) -> Call:
    return once(lambda: os.getpriority(os.PRIO_PROCESS, 0))
