"""What is done on a failing disk: ``python -m tests.engine.failing_disk SCENARIO FOLDER``, under failing_disk.cpp for most.

Each scenario repeats an operation with its first, second, … file operation failing, until one passes untouched, and checks after
each failure that what was there before is there still.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import aieng_bench.measure
from aieng_bench import ceilings
from aieng_bench.cli import app
from aieng_bench.record import Record
from aieng_bench.record.publish import publish, verify
from aieng_bench.record.store import RunStore, load
from tests.engine.made import ENVIRONMENT, record

runner = CliRunner()
KINDS = tuple(product((errno.ENOSPC, errno.EIO), (False, True)))
"""The error, and whether everything after fails too."""


def every_failure(folder: Path, operate: Callable[[], Any], check: Callable[[], Any], silent: bool = False) -> None:
    """``check`` after each attempt. Unless ``silent``, an operation that failed may not return as if it had not."""
    shim = ctypes.CDLL(None)
    for error, sticky in KINDS:
        for n in count():
            raised = None
            shim.fault_arm(os.fsencode(folder), ctypes.c_long(n), error, sticky)
            try:
                operate()
            except OSError as caught:
                raised = caught
            seen = shim.fault_disarm()
            assert silent or (raised is not None) == (seen > n), (n, error, sticky, raised)
            check()
            if seen <= n:
                assert n > 3, "the shim saw nothing"
                break


def new_run(folder: Path, *records: Record) -> RunStore:
    store = RunStore.create(folder / "run", command="aieng-bench run attention", asked={}, environment=ENVIRONMENT)
    for one in records:
        store.write(one.model_copy(update={"run": store.run}))
    return store


def command(*arguments: str) -> Callable[[], None]:
    """A command line that may fail in one way alone: exit code 4 and one line; raises OSError then."""

    def call() -> None:
        done = runner.invoke(app, arguments)
        if done.exit_code:
            assert done.exit_code == 4, (done.exit_code, done.output, done.exception)
            assert len(done.stderr.splitlines()) == 1, done.stderr
            assert done.stderr.startswith("aieng-bench: "), done.stderr
            raise OSError(done.stderr)

    return call


def records(folder: Path) -> None:
    """A new record beside an old one, and one in the place of another."""
    store = new_run(folder, record("old"), record("again", outcome="CRASHED"))
    old = store.finished()
    new, again = record("new", run=store.run), record("again", run=store.run)

    def check(*may: Record) -> None:
        loaded = store.load()
        assert not loaded.broken, loaded.broken
        assert all(one in (*old.values(), *may) for one in loaded.records)
        assert old.keys() <= {one.key for one in loaded.records}

    every_failure(folder, lambda: store.write(new), lambda: check(new))
    store.write(record("again", run=store.run, outcome="CRASHED"))
    every_failure(folder, lambda: store.write(again), lambda: check(new, again))
    assert store.finished()[again.key] == again


def manifest(folder: Path) -> None:
    """A new run: no run, or a whole one."""

    def check() -> None:
        if (folder / "run/run.json").exists():
            RunStore.open(folder / "run")
        shutil.rmtree(folder / "run", ignore_errors=True)

    every_failure(folder, lambda: new_run(folder), check)


def published(folder: Path) -> None:
    """``publish`` into a folder that holds another file."""
    run, results = new_run(folder, record(), record("torch", "baseline")), folder / "results"
    other = publish(load(new_run(folder / "other", record(created="2024-01-01T00:00:00Z")).folder), results)
    before = other.read_bytes()

    def check() -> None:
        assert other.read_bytes() == before
        assert verify(results) == []
        for file in set(results.rglob("*.jsonl")) - {other}:
            file.unlink()

    every_failure(results, command("publish", str(run.folder), "--results", str(results)), check)


def report(folder: Path) -> None:
    """``report`` over older pages: each file is the old one or a new one, whole."""
    run, pages = new_run(folder, record(), record("torch", "baseline", [[200.0] * 3] * 3)), folder / "pages"
    command("report", str(run.folder), "--out", str(pages), "--title", "new")()
    new = {file.name: file.read_bytes() for file in pages.iterdir()}
    command("report", str(run.folder), "--out", str(pages), "--title", "old")()
    old = {file.name: file.read_bytes() for file in pages.iterdir()}

    def check() -> None:
        found = {file.name: file.read_bytes() for file in pages.iterdir()}
        assert found.keys() == old.keys()
        assert all(text in (old[name], new[name]) for name, text in found.items())

    every_failure(pages, command("report", str(run.folder), "--out", str(pages), "--title", "new"), check)


def measuring(folder: Path) -> None:
    """``run`` whose measuring is a stand-in: whatever it had stored stays, and resuming it on a mended disk completes it."""
    names = ("one", "two", "three")

    def measure(plan: Any, store: RunStore, progress: Any, resume: bool) -> None:
        done = store.finished()
        for one in (record(name, run=store.run) for name in names):
            if one.key not in done:
                store.write(one)

    aieng_bench.measure.run = measure  # type: ignore[assignment]
    call = command("run", "attention/forward", "--quick", "--device", "cpu", "--resume", "--out", str(folder / "run"))

    def check() -> None:
        loaded = load(folder / "run") if (folder / "run").exists() else None
        assert loaded is None or not loaded.broken
        call()
        assert len(RunStore.open(folder / "run").finished()) == len(names)
        shutil.rmtree(folder / "run")

    every_failure(folder, call, check)


def cache(folder: Path) -> None:
    """The ceilings' cache: an older figure or the new one, and never an error."""
    os.environ["XDG_CACHE_HOME"] = str(folder)

    def made(rate: float) -> ceilings.Ceilings:
        known = {"machine": ceilings.fingerprint(), "device": "cpu", "threads": 1, "quick": True, "created": "2025-01-01T00:00:00Z"}
        return ceilings.Ceilings.model_validate({**known, "bandwidth": {4096: {"read": rate}}, "rates": {"float32": rate}})

    old, new = made(1e9), made(2e9)
    ceilings.remember(old)

    def check() -> None:
        assert ceilings.recall("cpu", 1) in (old, new)
        ceilings.remember(old)

    every_failure(folder, lambda: ceilings.remember(new), check, silent=True)


def full(folder: Path) -> None:
    """A real disk of a few hundred kilobytes, filled, then read-only: what was acknowledged stays and the command says one line."""
    store = new_run(folder)
    acknowledged: list[Record] = []

    def fill() -> None:
        for i in count():
            one = record(f"cell-{i}", latency=[[float(i)] * 1000] * 3, run=store.run)
            store.write(one)
            acknowledged.append(one)

    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        fill()
    publishing = command("publish", str(store.folder), "--results", str(folder / "results"))
    for mended in ([], ["mount", "-o", "remount,ro", str(folder)]):
        subprocess.run(mended or ["true"], check=True)
        loaded = store.load()
        assert not loaded.broken
        assert len(acknowledged) > 3
        assert {one.key: one for one in loaded.records} == {one.key: one for one in acknowledged}
        with pytest.raises(OSError, match="aieng-bench: "):
            publishing()


SCENARIOS = {f.__name__: f for f in (records, manifest, published, report, measuring, cache, full)}

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]](Path(sys.argv[2]))
