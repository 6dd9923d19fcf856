"""What processes do that write to one run, to be killed or to race. It imports little, as hundreds of them are started."""

from __future__ import annotations

from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from aieng_bench.record import Record
from aieng_bench.record.store import RunStore
from tests.engine.made import ENVIRONMENT, record

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


def begin_a_run(folder: Path, won: SimpleQueue[str]) -> None:
    """Tell the id of the run that was begun in ``folder``, '' if another process was first."""
    try:
        won.put(RunStore.create(folder, command="aieng-bench run toy", asked={}, environment=ENVIRONMENT).run)
    except FileExistsError:
        won.put("")
