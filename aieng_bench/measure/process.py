"""A worker process as its parent sees it: started in a session of its own, asked one thing at a time, stopped in between, killed
with all its descendants, and its death put into a category.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aieng_bench.measure.channel import Channel, Closed, Late
from aieng_bench.record.schema import Outcome

if TYPE_CHECKING:
    from aieng_bench.measure.fork_server import Forked, ForkServer

START_S = 120.0
"""Time a process may take to start: importing torch takes one to two seconds, on a crowded machine ten times as long."""
LOG_BYTES = 64 * 1024
MARK = "AIENG_BENCH_WORKER"
"""Environment variable by which descendants are recognised, whatever session they moved to."""
DYING_S = 10.0
"""Time a killed process may take to be gone; the driver first ends what it had running on a device."""
PROBE_S = 30.0
"""Time a device may take to do next to nothing, once something on it failed."""
EXEC_TRIES = 20
"""Milliseconds that an exec may take to lay its program's variables out."""
_LARGE = str(4 * 2**30)
MALLOC = {
    # Memory once had is kept: no page faults and no munmap in the timed calls. The same for every contender.
    "tuned": {"MALLOC_MMAP_THRESHOLD_": _LARGE, "MALLOC_TRIM_THRESHOLD_": _LARGE, "MALLOC_TOP_PAD_": str(64 * 2**20)},
    "default": {},
}


class Failure(Exception):
    """A worker that could not do what it was asked. ``reusable``: it said so itself and can be asked for something else."""

    def __init__(self, outcome: Outcome, reason: str, reusable: bool = False) -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.reusable = outcome, reason, reusable


def worker_environment(malloc: str, scratch: Path) -> dict[str, str]:
    """Variables of every worker of a run: what the user has set, one malloc setting, and new compile caches."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | MALLOC[malloc]
    # New caches, so that `setup` includes compilation; one compile thread, as a pool per worker would outnumber the cores.
    variables |= {"TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"), "TRITON_CACHE_DIR": str(scratch / "triton")}
    variables |= {"TMPDIR": str(scratch), "TORCHINDUCTOR_COMPILE_THREADS": "1", "TRITON_PRINT_AUTOTUNING": "1"}
    # A worker resolves every import as its parent does, and nothing from the folder it happens to start in.
    variables["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p and Path(p).exists())
    return variables


class Worker:
    """One child process that runs ``module`` and answers requests; ``ask`` is all that is needed until ``close``."""

    def __init__(
        self,
        module: str,
        variables: Mapping[str, str],
        threads: int = 1,
        device: str = "cpu",
        server: ForkServer | None = None,
    ) -> None:
        """``device``: what it makes ready before it answers, if torch is among its imports. ``server``: what it is forked from."""
        self.mark = secrets.token_hex(8)
        ours, theirs = socket.socketpair()
        arguments = [str(os.getpid()), str(threads), device]
        self._process = self._forked(server, module, arguments, theirs) or subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(theirs.fileno()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**variables, MARK: self.mark},
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        theirs.close()
        self._channel = Channel(ours, alive=lambda: self._process.poll() is None)
        self._tail = bytearray()
        self._drain = threading.Thread(target=self._keep_tail, daemon=True)
        self._drain.start()
        self._stopped = self._started = False
        self.closed = False

    def _forked(self, server: ForkServer | None, module: str, arguments: Sequence[str], end: socket.socket) -> Forked | None:
        """The process as a copy of the server's; None where there is no server, or none that lives."""
        if server is not None:
            with contextlib.suppress(OSError):
                return server.fork(module, arguments, self.mark, end.fileno())
        return None

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, op: str, timeout_s: float, **fields: Any) -> dict[str, Any]:
        """Let the worker run, ask, wait for the answer, stop it again. Raises Failure; if that is not reusable, it is dead."""
        return self.begin(op, timeout_s, **fields)()

    def begin(self, op: str, timeout_s: float, **fields: Any) -> Callable[[], dict[str, Any]]:
        """Let the worker run and ask; what is returned waits for the answer and stops it. Both may raise Failure."""
        self.ready()
        return self._begin(op, timeout_s, **fields)

    def ready(self) -> None:
        """Wait for its imports to be done, which is not the time of any question."""
        if not self._started:
            self._begin("hello", START_S)()
            self._started = True

    def _begin(self, op: str, timeout_s: float, **fields: Any) -> Callable[[], dict[str, Any]]:
        deadline = time.monotonic() + timeout_s
        token = secrets.token_hex(8)

        def send() -> None:
            self.resume()
            self._channel.send({"op": op, "token": token, **fields}, deadline)

        def receive() -> Any:
            reply = self._channel.receive(deadline)
            self.stop()
            return reply

        self._guarded(send, op, timeout_s)
        return lambda: self._unpack(self._guarded(receive, op, timeout_s), op, token)

    def _guarded(self, exchange: Callable[[], Any], op: str, timeout_s: float) -> Any:
        try:
            return exchange()
        except Late:
            self.close()
            raise Failure(Outcome.TIMEOUT, f"no answer to {op!r} within {timeout_s:g} s") from None
        except (Closed, ProcessLookupError):
            raise self._death(op) from None
        except BaseException:
            self.close()
            raise

    def _unpack(self, reply: Any, op: str, token: str) -> dict[str, Any]:
        if not answers(reply, token):  # a contender shares the process that answers, and may write what it likes
            self.close()
            raise Failure(Outcome.CRASHED, f"something that is no answer to {op!r} came through the channel")
        if reply.get("ok") is True and isinstance(reply.get("value"), dict):
            return dict(reply["value"])
        if reply.get("outcome") not in list(Outcome):
            self.close()
            raise Failure(Outcome.CRASHED, f"the answer to {op!r} has not the form of one")
        outcome = Outcome(reply["outcome"])
        reusable = outcome is Outcome.UNSUPPORTED
        if not reusable:
            self.close()
        raise Failure(outcome, str(reply.get("reason", "")), reusable)

    def _death(self, op: str) -> Failure:
        """What the end of a process that we did not kill is called."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        code = self._process.poll()
        self.close()
        if code is None:
            return Failure(Outcome.CRASHED, f"closed its channel without an answer to {op!r}")
        if code == -signal.SIGKILL:
            return Failure(Outcome.OOM_HOST, "killed by the system, most likely for want of host memory")
        if code < 0:
            return Failure(Outcome.CRASHED, f"died of {signal.Signals(-code).name} during {op!r}")
        return Failure(Outcome.CRASHED, f"exited with code {code} without an answer to {op!r}")

    def stop(self) -> None:
        """Stop the whole group: threads of an idle worker that spin would run into the time of the next one."""
        if not self._stopped and not self.closed:
            os.killpg(self.pid, signal.SIGSTOP)
            if hasattr(os, "waitid"):  # the signal is only on its way
                os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            self._stopped = True

    def resume(self) -> None:
        if self.closed:
            raise ProcessLookupError
        if self._stopped:
            os.killpg(self.pid, signal.SIGCONT)
            self._stopped = False

    def strays(self) -> bool:
        """Whether one of its descendants is in another process group, which :meth:`stop` does not reach (Linux)."""
        for pid in marked(self.mark):
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(pid) != self.pid:
                    return True
        return False

    @property
    def log(self) -> str:
        """The last of what it printed."""
        return bytes(self._tail).decode(errors="replace")

    def close(self) -> None:
        """Kill it and everything it started; nothing is left alive, not even what moved to another session."""
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        kill_marked(self.mark)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for a device within its driver cannot be helped
            self._process.wait(DYING_S)
        self._drain.join(2)
        self._channel.close()
        if self._process.stdout and not self._drain.is_alive():
            self._process.stdout.close()

    def _keep_tail(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(self._process.stdout.fileno(), 1 << 16):
                self._tail += chunk
                del self._tail[:-LOG_BYTES]


def answers(reply: Any, token: str) -> bool:
    """Whether this is an answer to the question of that token: a value, or an outcome with a reason."""
    if not isinstance(reply, dict) or reply.get("token") != token:
        return False
    if reply.get("ok") is True:
        return isinstance(reply.get("value"), dict)
    return reply.get("outcome") in list(Outcome) and "reason" in reply


def kill_marked(mark: str) -> None:
    """Kill every process that inherited this mark (Linux; elsewhere the process group has to do)."""
    for pid in marked(mark):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> Iterator[int]:
    """Processes that inherited this mark."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in _environment(entry).split(b"\0"):
                yield int(entry.name)


def marks_of(pid: int) -> set[str]:
    """The mark that a process inherited, if any (Linux)."""
    with contextlib.suppress(OSError):
        variables = dict(v.partition(b"=")[::2] for v in _environment(Path(f"/proc/{pid}")).split(b"\0"))
        return {variables[MARK.encode()].decode(errors="replace")} if MARK.encode() in variables else set()
    return set()


def _environment(process: Path) -> bytes:
    """The variables that a process was started with. In the middle of an exec they read as none, which is waited for."""
    for _ in range(EXEC_TRIES):
        if found := (process / "environ").read_bytes():
            return found
        (process / "exe").readlink()  # raises OSError for a kernel's thread or a zombie, which have no program
        time.sleep(1e-3)
    return b""
