"""pytest-benchmark's own JSON, written by pytest-benchmark: read, compared, published."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aieng_bench.cli import app
from aieng_bench.record.pytest_benchmark import convert
from aieng_bench.record.reading import Broken, line, parse
from aieng_bench.record.sources import read

runner = CliRunner()
TESTS = """
import pytest

@pytest.mark.parametrize("n", [10, 2000])
def test_sum(benchmark, n):
    benchmark.pedantic(sum, (range(n),), rounds=20, iterations=50)

class TestLen:
    def test_len(self, benchmark):
        benchmark.pedantic(len, ([],), rounds=20, iterations=50)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("perf")
    (folder / "test_perf.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_perf.py", "--benchmark-json=out.json"]
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}  # as one of several it would measure nothing
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=alone)
    return folder / "out.json"


def test_each_test_is_a_record_that_survives_the_format(saved):
    records = convert([saved])
    found = [(r.definition.benchmark, r.case) for r in records]
    assert found == [
        ("test_perf.py::test_sum", {"n": 10, "device": "cpu"}),
        ("test_perf.py::test_sum", {"n": 2000, "device": "cpu"}),
        ("test_perf.py::TestLen::test_len", {"device": "cpu"}),
    ]
    raw = json.loads(saved.read_text())["benchmarks"]
    for record, test in zip(records, raw):
        assert record.samples["latency_us"] == (tuple(1e6 * second for second in test["stats"]["data"]),)
        assert not record.ranked
        assert parse(line(record)) == record
        assert socket.gethostname() not in record.environment.machine
    assert records[0].definition.suite == "pytest-benchmark"


def test_a_folder_of_files_is_several_launches(saved, tmp_path):
    for name in ("a.json", "b.json", "c.json"):
        shutil.copy(saved, tmp_path / name)
    records = read(str(tmp_path)).records
    assert len(records) == 3
    assert [len(launch) for launch in records[0].samples["latency_us"]] == [20, 20, 20]


def steady(saved, path, factor):
    """The same file with samples that no busy machine made."""
    content = json.loads(saved.read_text())
    for test in content["benchmarks"]:
        test["stats"]["data"] = [factor * 1e-6 * (1 + i % 7 / 500) for i in range(20)]
    path.write_text(json.dumps(content))
    return str(path)


def test_compare_reads_them_and_says_what_it_compares(saved, tmp_path):
    base, slow = steady(saved, tmp_path / "a.json", 1.0), steady(saved, tmp_path / "b.json", 3.0)
    done = runner.invoke(app, ["compare", base, slow])
    assert done.exit_code == 1, done.output
    assert "absolute times are compared" in done.output
    assert "one launch a side" in done.output
    assert "3 SLOWER" in done.output
    assert runner.invoke(app, ["compare", slow, base]).exit_code == 0
    assert "3 SAME" in runner.invoke(app, ["compare", base, base]).output


def test_publish_takes_them(saved, tmp_path):
    done = runner.invoke(app, ["publish", str(saved), "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (file,) = tmp_path.rglob("*.jsonl")
    assert runner.invoke(app, ["verify", str(file)]).exit_code == 0
    assert runner.invoke(app, ["compare", str(file), str(saved)]).exit_code == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        ("[]", r"\$: Input should be"),
        ("{}", r"\$\.machine_info: Field required"),
        ('{"benchmarks": [{"stats": {"min": 1}}]}', "no raw samples; write the file with --benchmark-json"),
        ('{"benchmarks": [{"stats": {"data": [NaN]}}]}', r"\$\.benchmarks\[0\]\.stats\.data\[0\]: not a finite number"),
        ('{"benchmarks": [[]], "machine_info": {}, "datetime": "2025-01-01", "version": "5"}', r"\$\.benchmarks\[0\]: Input"),
    ],
)
def test_what_is_not_theirs_is_broken_with_its_place(tmp_path, content, reason):
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(Broken, match=reason):
        convert([file])
    done = runner.invoke(app, ["compare", str(file), str(file)])
    assert done.exit_code == 4
    assert str(file) in done.stderr
