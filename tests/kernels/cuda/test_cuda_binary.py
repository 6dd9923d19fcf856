"""What the compiler made of the CUDA kernels, and that their module imports where there is no driver."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MOST_REGISTERS = 255
LOCAL_MEMORY = re.compile(r"\b(LDL|STL)\b")


@pytest.fixture(scope="module")
def binary() -> Path:
    """The compiled CUDA half; built wherever nvcc is, so only then may it not be missing."""
    spec = importlib.util.find_spec("aieng_kernels._cuda")
    if spec is None and shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed, so the CUDA half is not built")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


@pytest.fixture(scope="module")
def cuobjdump() -> str:
    """The toolkit's, or the one that Triton's wheel carries; nvdisasm lies beside it and must be on PATH."""
    triton = importlib.util.find_spec("triton")
    bundled = [Path(place) / "backends/nvidia/bin" for place in (triton.submodule_search_locations or [])] if triton else []
    folders = [*map(str, bundled), str(Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"), os.environ.get("PATH", "")]
    found = shutil.which("cuobjdump", path=os.pathsep.join(folders))
    if found is None:
        pytest.skip("cuobjdump is neither in Triton's wheel nor in the CUDA toolkit")
    return found


def dump(cuobjdump: str, binary: Path, *what: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(cuobjdump).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run([cuobjdump, *what, str(binary)], capture_output=True, text=True, env=environment, check=True).stdout


def test_registers_and_stack(binary: Path, cuobjdump: str) -> None:
    """On every architecture: no stack, which is what both spilled registers and arrays indexed at run time would need."""
    usage = dump(cuobjdump, binary, "--dump-resource-usage")
    kernels = re.findall(r"Function (\S+):\s+REG:(\d+) STACK:(\d+)", usage)
    assert {*re.findall(r"Fatbin elf code:\s+=+\s+arch = (\w+)", usage)} == {"sm_80", "sm_90a", "sm_100"}
    assert len(kernels) >= 3 * 50
    assert not [k for k in kernels if int(k[1]) > MOST_REGISTERS or int(k[2]) > 0]


def test_instructions(binary: Path, cuobjdump: str) -> None:
    """Tensor cores in every 16-bit attention kernel, asynchronous copies too, and local memory nowhere."""
    code = dump(cuobjdump, binary, "-sass", "-arch", "sm_90a").split("Function : ")[1:]
    kernels = {body.split("\n", 1)[0].strip(): body for body in code}
    products = {name for name in kernels if re.search(r"(forward|backward_q|backward_kv)_sm80", name)}
    assert len(products) == 3 * (5 + 3) * 2  # forward, dq, dkdv; head dims, and those with every option; dtypes
    assert not [name for name in products if "HMMA.16816.F32" not in kernels[name] or "LDGSTS" not in kernels[name]]
    hopper = {name for name in kernels if re.search(r"(forward|backward_q|backward_kv)_sm90", name)}
    assert len(hopper) == (5 + 2 + 2) * 2  # tiles of forward, dq, dkdv; dtypes
    assert not [name for name in hopper if not {"HGMMA", "UTMALDG", "SYNCS"} <= {*re.findall(r"[A-Z0-9]+", kernels[name])}]
    assert not [name for name, body in kernels.items() if LOCAL_MEMORY.search(body)]
    steps = [body for name, body in kernels.items() if "step_kernel" in name]
    # dtypes; noises; with and without guidance, clip, x0, or with a history, or scales of samples, and whatever else
    assert len(steps) == 3 * 3 * (2**3 + 2 + 2)
    assert len([name for name in kernels if "scales_kernel" in name]) == 3
    assert not [body for body in steps if "LDG.E.128" not in body or "STG.E.128" not in body]


def test_imports_without_a_device(binary: Path) -> None:
    """In a process that sees no device the module imports, counts none, and a launch says what is wrong."""
    code = (
        "from aieng_kernels import _cuda\n"
        "assert _cuda.device_count() == 0\n"
        "try:\n"
        "    _cuda.diffusion_step([0] * 7, 4, [0] * 2, 4, 0, [0.0] * 9, 0, 0, 0, 0)\n"
        "except RuntimeError as error:\n"
        "    assert 'cuda' in str(error).lower(), error\n"
        "else:\n"
        "    raise SystemExit('no exception')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
