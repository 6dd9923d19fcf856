"""A bounded run of each fuzz target; let one run for hours with the command in docs/reliability.md."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGETS = sorted(folder.name for folder in (HERE / "seeds").iterdir())
RUNS = 20_000


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris, which has wheels for Linux on x86-64 alone")
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_but_named_errors(tmp_path: Path, target: str) -> None:
    (tmp_path / "found").mkdir()
    options = [f"-runs={RUNS}", "-seed=1", "-max_len=8192", "-rss_limit_mb=4096", f"-artifact_prefix={tmp_path}/"]
    command = [sys.executable, "fuzz_parsers.py", target, *options, str(tmp_path / "found"), str(HERE / "seeds" / target)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert f"Done {RUNS} runs" in done.stderr
