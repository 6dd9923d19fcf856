"""The native kernels, driven without Python, under AddressSanitizer and UndefinedBehaviorSanitizer, those of BF16 emulated."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
COMPILER = shutil.which(os.environ.get("CXX", "g++"))


@pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C++ compiler with the sanitizers, on Linux")
def test_no_stray_access_and_no_undefined_behaviour(tmp_path: Path) -> None:
    with mock.patch("setuptools.setup"):  # the build's own choice of flags by file name
        flags_for = runpy.run_path(str(ROOT / "setup.py"))["flags_for"]
    sources = [s for s in sorted((ROOT / "csrc/attention").glob("cpu_*.cpp")) if flags_for(s) is not None]
    common = [
        str(COMPILER), "-std=c++17", "-O2", "-g1", "-fopenmp", "-fno-sanitize-recover=all", "-fsanitize=address,undefined",
        "-DAIENG_KEEP_NO_SCRATCH",
        f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/common'}", f"-I{ROOT / 'csrc/attention'}",
    ]  # fmt: skip

    def compiled(source: Path) -> str:
        target, flags = str(tmp_path / f"{source.stem}.o"), flags_for(source)
        if "-mavx512bf16" in flags:
            flags = [*(f for f in flags if f != "-mavx512bf16"), "-include", str(HERE / "emulated_bf16.h")]
        run([*common, *flags, "-c", str(source), "-o", target])
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, [HERE / "attention_driver.cpp", *sources]))
    driver = str(tmp_path / "driver")
    run([*common, *objects, "-o", driver])
    # Fresh memory is filled with 0xff, which is NaN in every type, so a value read before it is written reaches a result.
    # Leaks are not looked for: OpenMP's threads live to the end.
    options = f"detect_leaks=0:malloc_fill_byte=255:max_malloc_fill_size={1 << 30}"
    out = run([driver], ASAN_OPTIONS=options, OMP_WAIT_POLICY="passive")
    ran, wrong = (int(word) for word in out.split() if word.isdigit())
    assert ran >= 180
    assert wrong == 0, out


def run(command: list[str], **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=500)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
