"""200 seeded ``kill -9`` of a process that writes a run, each followed by a resume: nothing acknowledged is lost or half."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from aieng_bench.record import Record
from aieng_bench.record.schema import Outcome
from aieng_bench.record.store import RunStore, load
from tests.engine.made import ENVIRONMENT
from tests.engine.writers import CELLS, Key, planned, write_the_rest

KILLS, RUNS = 10, 20


def begin(folder: Path) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    """A writer, forked from a server that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.engine.writers"])
    ours, theirs = context.Pipe(duplex=False)
    writer = context.Process(target=write_the_rest, args=(folder, theirs))
    writer.start()
    theirs.close()
    return writer, ours


def received(acknowledged: Connection, most: int) -> list[Key]:
    """The next acknowledgements, until ``most``, the last, or the writer's end."""
    found: list[Key] = []
    try:
        while len(found) < most and (key := acknowledged.recv()) is not None:
            found.append(key)
    except EOFError:
        pass
    return found


def kill_once(folder: Path, seed: int) -> list[Key]:
    """Start a writer, kill it at a moment that the seed gives, and return what it had acknowledged by then."""
    draw = random.Random(seed)
    writer, acknowledged = begin(folder)
    keys = received(acknowledged, draw.randrange(5))
    time.sleep(draw.random() * 0.004)
    writer.kill()
    writer.join()
    keys += received(acknowledged, CELLS)
    acknowledged.close()
    return keys


def crashed_before(folder: Path) -> dict[Key, Record]:
    """A new run in which every third cell has crashed, so that resuming replaces records too."""
    store = RunStore.create(folder, command="aieng-bench run toy", asked={}, environment=ENVIRONMENT)
    for made in planned(store.run)[::3]:
        store.write(made.model_copy(update={"outcome": Outcome.CRASHED, "samples": {}, "rounds": ()}))
    return store.finished()


def texts(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "records").glob("*.json")}


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("run", range(RUNS))
def test_killed_at_any_moment_a_run_ends_as_if_it_had_not_been(tmp_path: Path, run: int) -> None:
    folder = tmp_path / "run"
    before = crashed_before(folder)
    due = {made.key: made for made in planned(RunStore.open(folder).run)}
    acknowledged: set[Key] = set()
    for kill in range(KILLS):
        acknowledged |= set(kill_once(folder, seed=1000 * run + kill))
        loaded = load(folder)
        found = {one.key: one for one in loaded.records}
        assert not loaded.broken
        assert len(found) == len(loaded.records)
        assert all(found[key] == due[key] for key in acknowledged)
        assert all(one in (due[key], before.get(key)) for key, one in found.items())
        assert before.keys() <= found.keys()

    uninterrupted = tmp_path / "uninterrupted"
    (uninterrupted / "records").mkdir(parents=True)
    shutil.copy(folder / "run.json", uninterrupted)
    for place in (folder, uninterrupted):
        writer, acknowledgements = begin(place)
        received(acknowledgements, CELLS + 1)
        writer.join()
        acknowledgements.close()
    assert len(texts(folder)) == CELLS
    assert texts(folder) == texts(uninterrupted)
