"""Every parser of what comes from outside, for atheris: ``python tests/fuzz/fuzz_parsers.py TARGET [-runs=N …] [corpus]``.

A target lets nothing through but the parser's own named error; whatever else is raised is a finding, and ends the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["aieng_bench"]):
    from aieng_bench.measure.channel import Channel, Closed
    from aieng_bench.measure.process import Failure, Worker
    from aieng_bench.record.publish import verify
    from aieng_bench.record.pytest_benchmark import convert
    from aieng_bench.record.reading import Broken, line, parse
    from aieng_bench.record.schema import canonical
    from aieng_bench.record.store import RunStore

FOLDER = Path(tempfile.mkdtemp())
TOKEN = "token"


def record(data: bytes) -> None:
    """A record's text, as it is and with its hash made to fit, as whoever changes a record can do."""
    texts = [data.decode(errors="replace")]
    with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
        content = json.loads(data)["record"]
        texts.append(canonical({"sha256": hashlib.sha256(canonical(content).encode()).hexdigest(), "record": content}))
    for text in texts:
        with contextlib.suppress(Broken):
            made = parse(text)
            assert parse(line(made)) == made


def manifest(data: bytes) -> None:
    """run.json."""
    (FOLDER / "run.json").write_bytes(data)
    with contextlib.suppress(Broken):
        RunStore.open(FOLDER)


def published(data: bytes) -> None:
    """A published file: ``verify`` says what is wrong and raises nothing."""
    file = FOLDER / "published.jsonl"
    file.write_bytes(data)
    for problem in verify(file):
        assert str(problem).startswith(str(file))


def pytest_benchmark(data: bytes) -> None:
    """pytest-benchmark's JSON: records that survive our own format, or a named error."""
    file = FOLDER / "theirs.json"
    file.write_bytes(data)
    with contextlib.suppress(Broken):
        for made in convert([file]):
            assert parse(line(made)) == made


class Puppet(Worker):
    """A worker without a process."""

    def __init__(self) -> None:
        self.closed = True


def frames(data: bytes) -> None:
    """Whatever a worker may write into its channel, and what its parent makes of it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data[:100_000])
        theirs.close()
        channel = Channel(ours)
        with contextlib.suppress(Closed):
            while True:
                with contextlib.suppress(Failure):
                    Puppet()._unpack(channel.receive(), "turn", TOKEN)


TARGETS: dict[str, Callable[[bytes], None]] = {f.__name__: f for f in (record, manifest, published, pytest_benchmark, frames)}

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
