"""A true ``aieng-bench run``, with its worker processes, killed at seeded moments and resumed; and Ctrl-C, once and twice."""

from __future__ import annotations

import os
import random
import re
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aieng_bench.record.store import RunStore

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
ROOT = Path(__file__).parents[3]
KILLS, CASES, LONG = 8, 3, 120.0
MARK = "AIENG_BENCH_TEST_VICTIM"


@dataclass
class Victim:
    """A place with a suite of its own: the toy study, whose figures are arithmetic, at three sizes."""

    home: Path
    mark: str

    def start(self, out: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(self.home), str(ROOT), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [sys.executable, "-m", "aieng_bench", "run", "toy/study", "--contender", "good", "--quick", "--resume", "--out", out],
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(self.home / "tmp"), "CUDA_VISIBLE_DEVICES": "", MARK: self.mark},
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, out: str) -> dict[tuple[str, str, str], dict[str, Any]]:
        """Run to the end; the final records, without what names the run and the moment."""
        with self.start(out) as process:
            printed, errors = process.communicate(timeout=LONG)
        assert process.returncode == 0, printed + errors
        loaded = RunStore.open(self.home / out).load()
        assert not loaded.broken
        found = {one.key: one.model_dump(exclude={"run", "created", "setup_s"}) for one in loaded.records}
        assert len(found) == len(loaded.records) == CASES
        return found

    def alive(self) -> list[int]:
        """Every process of ours, whatever session it moved to; zombies wait for whoever inherited them and do nothing."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                ours = f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
                if ours and (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def nobody_left(self) -> bool:
        return within(LONG, lambda: not self.alive())


def within(seconds: float, holds: Any) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(holds())


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    suite, metadata = tmp_path / "victims", tmp_path / "victims-1.dist-info"
    for folder in (suite, metadata, tmp_path / "tmp"):
        folder.mkdir()
    (suite / "__init__.py").touch()
    study = (ROOT / "tests/engine/measure/toy_suite/study.py").read_text()
    sizes = ", ".join(f'{{"size": {n}}}' for n in range(CASES))
    (suite / "study.py").write_text(study.replace('{"size": 3}', sizes).replace("toy_suite", "victims"))
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: victims\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[aieng_bench.suites]\nvictims = victims\n")
    return Victim(tmp_path, secrets.token_hex(8))


def test_a_run_killed_again_and_again_ends_as_an_uninterrupted_one(victim: Victim) -> None:
    draw = random.Random(20)
    killed = []
    acknowledged: dict[str, bytes] = {}
    for _ in range(KILLS):
        with victim.start("run") as process:
            time.sleep(draw.uniform(0.5, 6.0))
            process.kill()
            process.communicate()
        killed.append(process.pid)
        assert victim.nobody_left()
        present = {file.name: file.read_bytes() for file in victim.home.glob("run/records/*.json")}
        assert present.items() >= acknowledged.items()
        acknowledged = present
        if (victim.home / "run/run.json").exists():
            assert not RunStore.open(victim.home / "run").load().broken
    assert victim.finish("run") == victim.finish("uninterrupted")
    assert not list((victim.home / "tmp").iterdir())
    assert not [folder for pid in killed for folder in Path("/dev/shm").glob(f"aieng-bench-{pid}-*")]


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c(victim: Victim, times: int) -> None:
    """Once: what is finished is kept, and said. Twice: it ends at once, and what is finished is kept all the same."""
    with victim.start("run") as process:
        assert within(LONG, lambda: list(victim.home.glob("run/records/*.json")))
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        printed, errors = process.communicate(timeout=LONG)
    assert victim.nobody_left()
    loaded = RunStore.open(victim.home / "run").load()
    assert loaded.records
    assert not loaded.broken
    if times == 1:
        assert process.returncode == 130
        assert re.search(rf"interrupted after \d of {CASES} cases", printed)
        assert "--resume --out run" in printed
        assert "Traceback" not in errors
    else:
        assert process.returncode in (130, -signal.SIGINT)
