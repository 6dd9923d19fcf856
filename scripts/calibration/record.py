"""Record launches for the calibration of ``compare`` with the real engine.

    python scripts/calibration/record.py RECORDINGS [CASES [FOLDER]]

Each recording is a run of its own: 16 launches of 4 contenders on the first CASES cases, by default all 25. What is there already
is not run again.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path

# Where others keep every core busy, each parallel region waits milliseconds for its last thread, and every cell would be NOISY.
os.environ["OMP_NUM_THREADS"] = "1"

from work import benchmark

from aieng_bench import machine
from aieng_bench.cli.console import console
from aieng_bench.cli.progress import PlainLines
from aieng_bench.measure import run
from aieng_bench.measure.plan import Plan, make_plan
from aieng_bench.record.store import RunStore

LAUNCHES, ROUNDS = 16, 5


def plan(cases: int) -> Plan:
    """With the turns of a quick run (20 ms) and the processes of all launches alive at once: what costs least."""
    full = make_plan([benchmark], device="cpu")
    return dataclasses.replace(full, units=full.units[:cases], quick=True, launches=LAUNCHES, rounds=ROUNDS, unit_budget_s=20.0)


def record(folder: Path, cases: int) -> None:
    if (folder / "run.json").exists():
        store = RunStore.open(folder)
        if len(store.finished()) >= cases * len(benchmark.contenders):
            return
    else:
        environment = machine.environment(threads=machine.core_count())
        command = "python scripts/calibration/record.py"
        store = RunStore.create(folder, command=command, asked={"launches": LAUNCHES}, environment=environment)
    began = time.monotonic()
    with PlainLines(console(), show=False) as watch:
        run(plan(cases), store, watch, resume=True)
    print(f"{folder}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    recordings, cases = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else len(benchmark.cases("cpu"))
    root = Path(sys.argv[3] if len(sys.argv) > 3 else "runs/calibration")
    for number in range(1, recordings + 1):
        record(root / f"{number:02d}", cases)
