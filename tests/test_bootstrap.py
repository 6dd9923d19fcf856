"""scripts/bootstrap.py: of several at once one installs, and a changed source or a torn stamp has it installed again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INSTALL = """
import os, sys, time
sys.path.insert(0, "scripts")
import bootstrap

def install(extras):
    with open("log", "a") as log:
        log.write("begin\\n")
        log.flush()
        time.sleep(0.3)
        os.makedirs(bootstrap.VENV, exist_ok=True)
        log.write("end\\n")

bootstrap.install = install
bootstrap.check_prerequisites = lambda: None
bootstrap.main()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout small enough to watch, whose installing is a stand-in that writes down when it begins and ends."""
    for name in ("pyproject.toml", "setup.py", "constraints.txt"):
        (tmp_path / name).write_text(name)
    for name in ("scripts", "csrc/common"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "csrc/common/hd.h").write_text("int x;")
    shutil.copy(ROOT / "scripts/bootstrap.py", tmp_path / "scripts")
    return tmp_path


def installs(checkout: Path, at_once: int = 1) -> int:
    """Start so many at once; how often it was installed in all so far, never by two at the same time."""
    started = [subprocess.Popen([sys.executable, "-c", INSTALL, "test"], cwd=checkout) for _ in range(at_once)]
    assert [process.wait() for process in started] == [0] * at_once
    lines = (checkout / "log").read_text().split()
    assert lines == ["begin", "end"] * (len(lines) // 2)
    return len(lines) // 2


def test_of_several_at_once_one_installs(checkout: Path) -> None:
    assert installs(checkout, at_once=4) == 1
    assert installs(checkout) == 1


@pytest.mark.parametrize("file", ["csrc/common/hd.h", "constraints.txt", "setup.py", "pyproject.toml"])
def test_what_was_installed_from_other_sources_is_stale(checkout: Path, file: str) -> None:
    assert installs(checkout) == 1
    (checkout / file).write_text("changed")
    assert installs(checkout) == 2


def test_a_new_source_and_a_torn_stamp_have_it_installed_again(checkout: Path) -> None:
    assert installs(checkout) == 1
    (checkout / "csrc/common/new.h").touch()
    assert installs(checkout) == 2
    stamp = checkout / ".venv/aieng-bench.installed"
    stamp.write_text(stamp.read_text()[:10])
    assert installs(checkout) == 3
