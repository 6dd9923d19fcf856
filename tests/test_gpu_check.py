"""scripts/gpu_check.sh as far as a machine without a GPU can tell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts/gpu_check.sh"


def test_it_is_valid_shell() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


def test_without_a_device_it_says_so_and_leaves_its_three_files(tmp_path: Path) -> None:
    environment = {**os.environ, "OUT": str(tmp_path / "out"), "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([str(SCRIPT)], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["log.txt", "records.jsonl", "summary.txt"]
    summary = (tmp_path / "out/summary.txt").read_text()
    assert "no CUDA device" in summary
    assert done.stdout.endswith(summary)
