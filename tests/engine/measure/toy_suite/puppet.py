"""A worker process that does as it is told, however bad: for the tests of its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from typing import Any

from aieng_bench.define import Unsupported
from aieng_bench.measure.serve import serve

DESCRIPTOR = int(sys.argv[1])


def echo(**fields: Any) -> dict[str, Any]:
    return fields


def segfault() -> dict[str, Any]:
    return {"never": ctypes.string_at(0)}


def exit_now(code: int) -> dict[str, Any]:
    os._exit(code)


def send_signal(number: int) -> dict[str, Any]:
    os.kill(os.getpid(), number)
    time.sleep(60)
    return {}


def hang(deaf: bool) -> dict[str, Any]:
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)
    return {}


def flood(megabytes: int) -> dict[str, Any]:
    for _ in range(megabytes):
        sys.stdout.write("x" * 2**20)
    print("\nlast words")
    return {}


def forge() -> dict[str, Any]:
    """What a contender might write into the socket: an answer of its own."""
    body = b'{"token": "guessed", "ok": true, "value": {"samples": {"latency_us": 0.001}}}'
    os.write(DESCRIPTOR, len(body).to_bytes(4, "big") + body)
    return {}


def litter(new_session: bool) -> dict[str, Any]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=new_session)
    return {"child": child.pid}


def litter_and_die() -> dict[str, Any]:
    litter(new_session=True)
    os._exit(3)


def say(kind: str) -> dict[str, Any]:
    import torch

    errors: dict[str, BaseException] = {
        "unsupported": Unsupported("head dimension 7"),
        "memory": MemoryError("no more"),
        "gpu_memory": torch.OutOfMemoryError("CUDA out of memory"),
        "device": RuntimeError("CUDA error: an illegal memory access was encountered"),
        "value": ValueError("first line\nsecond line"),
        "exit": SystemExit(0),
        "interrupt": KeyboardInterrupt(),
    }
    raise errors[kind]


def spin() -> dict[str, Any]:
    """Start a thread that counts for ever, as OpenMP's do after a parallel region."""
    import threading

    def count() -> None:
        while True:
            COUNT[0] += 1

    threading.Thread(target=count, daemon=True).start()
    return {}


def counted() -> dict[str, Any]:
    return {"cpu_s": time.process_time()}


def imported(name: str) -> dict[str, Any]:
    return {"imported": name in sys.modules}


COUNT = [0]


def main() -> None:
    operations = (echo, segfault, exit_now, send_signal, hang, flood, forge, litter, litter_and_die, say, spin, counted, imported)
    serve({operation.__name__: operation for operation in operations})


if __name__ == "__main__":
    main()
