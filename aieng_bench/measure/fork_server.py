"""Workers forked from one process that has imported what they share: ``python -m aieng_bench.measure.fork_server SOCKET PARENT``.

Of the time that a study's process takes to start, imports are nearly all. They are made once here, before anything is run, and each
worker begins as a copy of that: of imported modules, not of anything that a contender did. Kernels' workers are not forked: their
launches are samples of how a process may lie in memory, which copies of one would share. Linux alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import secrets
import select
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import IO

from aieng_bench.measure.process import MARK, START_S
from aieng_bench.measure.serve import die_with

ADOPTION_S = 10.0
"""Time that the system may take to give an orphan a new parent."""
_PR_SET_CHILD_SUBREAPER = 36
_TICK_S = 1e-3


class ForkServer:
    """The parent's side. What it forks are the parent's own children, as those of ``subprocess.Popen`` are."""

    def __init__(self, modules: Sequence[str], variables: Mapping[str, str]) -> None:
        """``modules`` are imported as it starts, where they are installed; ``variables`` are its environment and its copies'."""
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", "aieng_bench.measure.fork_server", str(theirs.fileno()), str(os.getpid()), *modules]
        environment = {**variables, MARK: secrets.token_hex(8)}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        theirs.close()

    def fork(self, module: str, arguments: Sequence[str], mark: str, descriptor: int) -> Forked:
        """Start ``module`` as a worker that keeps ``descriptor``, a socket, as its own.

        Raises OSError where that cannot be, and from then on.
        """
        output, theirs = os.pipe()
        try:
            request = json.dumps({"module": module, "arguments": list(arguments), "mark": mark}).encode()
            _adopt_orphans(True)
            socket.send_fds(self._end, [request], [descriptor, theirs])
            pid = int(self._answer())
        except BaseException:
            os.close(output)
            self.close()  # or an answer that comes late would be taken for that to the next request
            raise
        finally:
            os.close(theirs)
            _adopt_orphans(False)
        return Forked(pid, os.fdopen(output, "rb", buffering=0))

    def close(self) -> None:
        self._end.close()
        self._process.kill()
        self._process.wait()

    def _answer(self) -> bytes:
        if not select.select([self._end], [], [], START_S)[0]:
            raise OSError(f"nothing was forked within {START_S:g} s")
        answer = self._end.recv(64)
        if not answer:
            raise OSError("the process that workers are forked from has died")
        return answer


class Forked:
    """A child that was forked elsewhere, with what is needed of ``subprocess.Popen``."""

    def __init__(self, pid: int, stdout: IO[bytes]) -> None:
        self.pid, self.stdout = pid, stdout
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it lives."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self, timeout: float) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(_TICK_S)
        return code


def _adopt_orphans(yes: bool) -> None:
    """Whether a process whose parent ends becomes a child of this one."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot adopt what another process forks")


def main() -> None:
    descriptor, parent = map(int, sys.argv[1:3])
    die_with(parent)
    for name in sys.argv[3:]:
        with contextlib.suppress(Exception):  # whoever needs it will say what is wrong with it
            importlib.import_module(name)
    gc.freeze()  # or the collector's marks would have every copy write to all pages
    end = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    while True:
        request, descriptors, *_ = socket.recv_fds(end, 1 << 16, 2)
        if not request:
            os._exit(0)
        between = os.fork()
        if not between:
            # A copy of the copy, whose parent ends: so it becomes a child of the run, which asked to have such.
            if os.fork():
                os._exit(0)
            _work(end, parent, descriptors, **json.loads(request))
        os.waitpid(between, 0)
        for each in descriptors:
            os.close(each)


def _work(end: socket.socket, parent: int, descriptors: Sequence[int], module: str, arguments: Sequence[str], mark: str) -> None:
    """Become a worker; never returns."""
    end_of_patience = time.monotonic() + ADOPTION_S
    while os.getppid() != parent:
        if time.monotonic() > end_of_patience:  # it died, or has died since
            os._exit(0)
        time.sleep(_TICK_S)
    os.setsid()
    _be_marked(mark)
    channel, output = descriptors
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    end.send(str(os.getpid()).encode())
    end.close()
    sys.argv = [module, str(channel), *arguments]
    try:
        importlib.import_module(module).main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)


def _be_marked(mark: str) -> None:
    """Bear this mark where others look for it: in the variables that the process was started with, written over in place."""
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    ctypes.memmove(libc.getenv(MARK.encode()), mark.encode(), len(mark))
    os.environ[MARK] = mark


if __name__ == "__main__":
    main()
