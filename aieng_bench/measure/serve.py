"""The loop that the worker and the checker share: one request, one answer; every failure becomes an outcome with a reason."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aieng_bench.define import Unsupported
from aieng_bench.measure.channel import Channel, Closed
from aieng_bench.record.schema import Outcome

Operation = Callable[..., dict[str, Any]]
LONGEST_REASON = 500
_PR_SET_PDEATHSIG = 1
_NO_HOST_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory")
_BROKEN_DEVICE = ("CUDA error", "device-side assert", "illegal memory access")


class Guarding(Protocol):
    """Looks after each operation whether the process is still what it was."""

    def around(self, operation: Operation) -> Operation: ...


def serve(operations: Mapping[str, Operation], guarding: Callable[[], Guarding] | None = None) -> None:
    """Answer requests until the other end closes. Arguments of the process: socket, parent's process id, torch's threads, device.

    ``guarding`` is called once all that is set up, before the first request.
    """
    descriptor, parent = map(int, sys.argv[1:3])
    die_with(parent)
    limit_threads()
    wake(sys.argv[4])
    os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=descriptor))
    guard = guarding() if guarding else None
    operations = {"hello": dict, **{name: guard.around(op) if guard else op for name, op in operations.items()}}
    try:
        while True:
            request = channel.receive()
            answer = respond(operations, request)
            sys.stdout.flush()
            channel.send({"token": request["token"], **answer})
    except Closed:
        os._exit(0)


def limit_threads() -> None:
    """Give torch its number of threads, if it has been imported: a study may do without, and then need not wait for it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(sys.argv[3]))


def wake(device: str) -> None:
    """Have a device's context made while other processes start up too. One that cannot be had is noticed when it is used."""
    if device == "cuda" and "torch" in sys.modules:
        with contextlib.suppress(Exception):
            sys.modules["torch"].empty(1, device=device)


def respond(operations: Mapping[str, Operation], request: Mapping[str, Any]) -> dict[str, Any]:
    fields = {k: v for k, v in request.items() if k not in ("op", "token")}
    try:
        return {"ok": True, "value": operations[request["op"]](**fields)}
    except BaseException as error:  # SystemExit and KeyboardInterrupt of a contender are its failures, not ours
        traceback.print_exc()
        return {"ok": False, "outcome": outcome_of(error), "reason": reason_of(error)}


def outcome_of(error: BaseException) -> Outcome:
    """Which outcome an exception of a contender is."""
    text = str(error)
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    if isinstance(error, Unsupported):
        return Outcome.UNSUPPORTED
    if "torch.OutOfMemoryError" in kinds:
        return Outcome.OOM
    if isinstance(error, MemoryError) or any(t in text for t in _NO_HOST_MEMORY):
        return Outcome.OOM_HOST
    if "torch.AcceleratorError" in kinds or any(t in text for t in _BROKEN_DEVICE):
        return Outcome.CRASHED  # such an error sticks to the process
    return Outcome.ERROR


def reason_of(error: BaseException) -> str:
    """The first line of an exception, for a table cell; the traceback is in the log."""
    lines = str(error).strip().splitlines()
    if isinstance(error, Unsupported):
        return (lines or ["gave no reason"])[0][:LONGEST_REASON]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:LONGEST_REASON].rstrip(": ")


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies (Linux); elsewhere the closing of the socket ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(0)
