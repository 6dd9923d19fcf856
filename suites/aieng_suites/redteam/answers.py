"""Attacks on what passes from the worker to its parent: answers forged or malformed, and the files of outputs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aieng_bench.define import Case
from aieng_suites.redteam._corpus import SCALE, Call, cheat, declare, once, twin


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
