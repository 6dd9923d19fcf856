"""Disk full and I/O errors at every file operation: see tests/engine/failing_disk.py for what is done and checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aieng_bench import machine
from tests.engine.failing_disk import SCENARIOS

ROOT = Path(__file__).parents[3]
COMPILER = machine.compiler()
linux = pytest.mark.skipif(sys.platform != "linux" or COMPILER is None, reason="needs Linux and a C++ compiler")


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shim") / "failing_disk.so"
    source = ROOT / "tests/engine/failing_disk.cpp"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O1", str(source), "-o", str(made), "-ldl"], check=True)
    return made


@linux
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "full"])
def test_whatever_operation_fails_what_was_there_stays(shim: Path, tmp_path: Path, scenario: str) -> None:
    command = [sys.executable, "-m", "tests.engine.failing_disk", scenario, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "LD_PRELOAD": str(shim)}, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def may_mount() -> bool:
    """Whether a user namespace here may mount a disk of its own."""
    if sys.platform != "linux" or not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs the right to mount a small tmpfs in a namespace of its own (unshare -rm)")
def test_a_disk_that_is_really_full_and_then_read_only(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o size=400k tmpfs "$1" && exec "{sys.executable}" -m tests.engine.failing_disk full "$1"'
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
