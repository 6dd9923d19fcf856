"""The harness's own hot paths, timed with pytest-benchmark; in the test suite each runs once, as a plain test.

To see what a change does to them, on one machine:

    pytest tests/perf --benchmark-enable --benchmark-json=before.json     # then make the change
    pytest tests/perf --benchmark-enable --benchmark-json=after.json
    aieng-bench compare before.json after.json

One file is one launch; a folder of five files or more a side (``before/1.json`` …) tells much smaller changes apart.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from aieng_bench.record.reading import line, load, parse
from aieng_bench.record.store import RunStore
from aieng_bench.summary import groups
from tests.engine.made import ENVIRONMENT, record


def measured(launches=5, rounds=10, cases=1, run="run"):
    generator = np.random.default_rng(0)
    return [
        record(name, kind, generator.lognormal(5, 0.05, (launches, rounds)).tolist(), case={"S": s, "device": "cpu"}, run=run)
        for s in range(cases)
        for name, kind in (("ours", "ours"), ("other", "ours"), ("torch", "baseline"), ("eager", "baseline"))
    ]


def test_write_a_record(benchmark, tmp_path):
    store = RunStore.create(tmp_path, command="", asked={}, environment=ENVIRONMENT)
    path = benchmark(store.write, measured(run=store.run)[0])
    assert load(path.parent.parent).records


def test_load_two_thousand_records(benchmark, tmp_path):
    file = tmp_path / "published.jsonl"
    file.write_text("".join(line(one) + "\n" for one in measured(cases=500)))
    loaded = benchmark.pedantic(load, (file,), rounds=3)
    assert (len(loaded.records), loaded.broken) == (2000, [])


def test_parse_a_record(benchmark):
    text = line(measured()[0])
    assert line(benchmark(parse, text)) == text


@pytest.mark.parametrize("cases", [1, 40])
def test_summarise(benchmark, cases):
    found = benchmark.pedantic(groups, (measured(cases=cases),), rounds=5)
    assert len(found) == cases
    assert all(row.speedup for group in found for row in group.rows)


def test_ls_from_start_to_end(benchmark):
    command = [sys.executable, "-m", "aieng_bench", "ls", "--json"]
    done = benchmark.pedantic(subprocess.run, (command,), {"capture_output": True, "check": True}, rounds=5)
    assert done.stdout.startswith(b"[")
