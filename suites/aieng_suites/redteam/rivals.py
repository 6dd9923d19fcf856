"""Attacks on fairness: more threads than the others have, and rivals slowed down while they are timed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import torch

from aieng_bench.define import Case
from aieng_suites.redteam._corpus import MATMUL, SCALE, Call, cheat, declare, once, product, twin

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
