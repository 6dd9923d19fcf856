"""A spill and a lost HGMMA planted in real kernels, compiled for real: the command records them, and compare names them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SUITE = """
from dataclasses import replace

from aieng_bench.machine_code import StaticBenchmark, StaticCell


def cells():
    from aieng_kernels.attention.triton_configs import KERNELS, _variant
    from aieng_suites.kernels._static import _compiling

    tile = {{"CHUNK": 64, "BLOCK_M": 128, "BLOCK_N": 64, "D": 64, "CAUSAL": True, "GROUP": 1}}
    sound = _variant("forward", KERNELS["forward"], "bf16", tile, 4, 2)
    yield StaticCell("tiles", "sm_90", _compiling({tiles}))
    yield StaticCell("products", "sm_90", _compiling({products}))


static = StaticBenchmark("planted/static", "Planted", "Faults.", cells)
"""
SOUND = {"tiles": "sound", "products": "sound"}
PLANTED = {
    # One warp has a quarter of the registers that the accumulators need.
    "tiles": "replace(sound, num_warps=1)",
    # 16 rows are too few for a warpgroup, whose products have 64.
    "products": 'replace(sound, constants={**sound.constants, "BLOCK_M": 16}, num_warps=4)',
}


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    roots = [str(folder), str(ROOT), str(ROOT / "kernels"), str(ROOT / "suites")]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": os.pathsep.join(roots)}
    words = [sys.executable, "-m", "aieng_bench", *arguments]
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment)


def record(folder: Path, faults: dict[str, str]) -> None:
    """A distribution with the suite, and its run in ``<folder>/run``."""
    (folder / "planted").mkdir(parents=True)
    (folder / "planted/__init__.py").touch()
    (folder / "planted/faults.py").write_text(SUITE.format(**faults))
    metadata = folder / "planted-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[aieng_bench.suites]\nplanted = planted\n")
    done = command(folder, "static", "planted", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "2 read" in done.stdout


def test_a_planted_spill_and_a_lost_hgmma_are_named(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    record(tmp_path / "base", SOUND)
    record(tmp_path / "head", PLANTED)
    done = command(tmp_path, "compare", "base/run", "head/run")
    assert done.returncode == 1, done.stdout + done.stderr
    told = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert any(line.startswith("SLOWER tiles stack_bytes 0 B →") for line in told), done.stdout
    assert any(line.startswith("SLOWER tiles local_accesses 0 →") for line in told), done.stdout
    (lost,) = (line for line in told if line.startswith("SLOWER products tensor_core"))
    assert lost.startswith("SLOWER products tensor_core 2.00 → 1.00"), lost
    assert command(tmp_path, "compare", "base/run", "base/run").returncode == 0
