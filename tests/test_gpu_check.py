"""scripts/gpu_check.sh as far as a machine without a GPU can tell."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts/gpu_check.sh"


def test_it_is_valid_shell() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


def test_the_suites_are_found_without_a_build(tmp_path: Path) -> None:
    """The part of the script that stands in for an installation where native modules lie in place already."""
    text = SCRIPT.read_text()
    function = text[text.index("declare_suites() {") : text.index("\nbuild() {")]
    command = f"python={sys.executable} work={tmp_path}\n{function}\ndeclare_suites"
    subprocess.run(["bash", "-ec", command], check=True, cwd=SCRIPT.parent.parent)
    found = Distribution.at(next((tmp_path / "site").glob("*.dist-info")))
    assert found.metadata["Name"] == "aieng-bench"
    groups = {(e.group, e.name) for e in found.entry_points}
    assert groups >= {("aieng_bench.suites", "kernels"), ("aieng_bench.redteam", "redteam")}


def test_without_a_device_it_says_so_and_leaves_its_three_files(tmp_path: Path) -> None:
    environment = {**os.environ, "OUT": str(tmp_path / "out"), "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([str(SCRIPT)], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["log.txt", "records.jsonl", "summary.txt"]
    summary = (tmp_path / "out/summary.txt").read_text()
    assert "no CUDA device" in summary
    assert done.stdout.endswith(summary)
