"""CONTRIBUTING.md's first walk-through, followed to the letter on a copy of the suite."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from aieng_bench.record.reading import load

ROOT = Path(__file__).parent.parent


def test_add_a_contender(tmp_path: Path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    code = re.search(r"```python\n(@benchmark\.contender.*?)```", text, re.DOTALL)
    command = re.search(r"\.venv/bin/aieng-bench (run .*)", text)
    file = re.search(r"Append this to `(suites/[^`]+)`", text)
    assert code
    assert command
    assert file
    shutil.copytree(ROOT / "suites", tmp_path / "suites")
    with (tmp_path / file[1]).open("a") as suite:
        suite.write("\n\n" + code[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "suites"), os.environ.get("PYTHONPATH", "")])}
    arguments = [*command[1].split(), "--out", str(tmp_path / "run")]
    subprocess.run([sys.executable, "-m", "aieng_bench", *arguments], check=True, cwd=tmp_path, env=environment)
    records = [r for r in load(tmp_path / "run").records if r.contender.name == "torch_math"]
    assert records
    assert all(r.check.verdict == "PASSED" for r in records), [r.check for r in records]
