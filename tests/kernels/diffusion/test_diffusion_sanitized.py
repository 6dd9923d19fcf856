"""The native steps, driven without Python, under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parents[2] / "csrc"
COMPILER = shutil.which(os.environ.get("CXX", "g++"))
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
BF16 = [*AVX512, "-include", str(HERE.parent / "attention" / "emulated_bf16.h")]
FLAGS = {"avx2": AVX2, "avx512": AVX512, "avx512_bf16": BF16, "portable": []}


@pytest.mark.skipif(COMPILER is None or platform.system() != "Linux", reason="needs a C++ compiler with the sanitizers, on Linux")
def test_no_stray_access_and_no_undefined_behaviour(tmp_path: Path) -> None:
    sources = [(HERE / "sanitized.cpp", [])]
    for isa, flags in FLAGS.items():
        if isa == "portable" or platform.machine() == "x86_64":
            sources.append((CSRC / "diffusion" / f"cpu_step_{isa}.cpp", flags))
    common = [
        str(COMPILER), "-std=c++17", "-O1", "-g1", "-fopenmp", "-fno-sanitize-recover=all", "-fsanitize=address,undefined",
        f"-I{CSRC}", f"-I{CSRC / 'common'}", f"-I{CSRC / 'diffusion'}",
    ]  # fmt: skip
    objects = []
    for source, flags in sources:
        objects.append(str(tmp_path / f"{source.stem}.o"))
        run([*common, *flags, "-c", str(source), "-o", objects[-1]])
    run([*common, *objects, "-o", str(tmp_path / "driver")])
    # Leaks are not looked for: OpenMP's threads live to the end.
    out = run([str(tmp_path / "driver")], ASAN_OPTIONS="detect_leaks=0", OMP_WAIT_POLICY="passive")
    assert out.strip() == "ok"


def run(command: list[str], **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
