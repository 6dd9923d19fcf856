"""A process that writes a run as a resumed one does, to be killed. It imports little, as hundreds of it are started."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from aieng_bench.record import Record
from aieng_bench.record.store import RunStore
from tests.engine.made import record

CELLS = 36
Key = tuple[str, str, str]


def planned(run: str) -> list[Record]:
    """What an uninterrupted run ends with; samples of some length, so that a kill may fall into the middle of a write."""
    return [record(f"cell-{i}", latency=[[float(i + 1)] * 400] * 3, run=run) for i in range(CELLS)]


def write_the_rest(folder: Path, acknowledge: Connection) -> None:
    """What is finished stays, what crashed before is replaced, each record is acknowledged once written; None at the end."""
    store = RunStore.open(folder)
    finished = store.finished()
    for made in planned(store.run):
        if finished.get(made.key) != made:
            store.write(made)
            acknowledge.send(made.key)
    acknowledge.send(None)
