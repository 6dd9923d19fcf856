"""The machine as a record describes it, and what it lacks. Imports neither torch nor anything outside the stdlib and pydantic."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from aieng_bench.record.schema import Environment

DISTRIBUTION = "aieng-bench"
ALWAYS_RECORDED = ("aieng-bench", "torch", "numpy", "triton")
ISA_OF_INTEREST = (
    *(
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512_vnni",
        "avx512_bf16",
        "avx512_fp16",
        "amx_tile",
        "amx_bf16",
        "amx_int8",
    ),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"),
)
SPEED_VARIABLES = re.compile(r"(OMP|KMP|GOMP|MKL|OPENBLAS|MALLOC|TORCH|CUBLAS|NVIDIA_TF32)_")
COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class Gpu:
    name: str
    memory_gib: float
    driver: str


def environment(
    packages: Iterable[str] = (),
    *,
    threads: int,
    malloc: Literal["default", "tuned"] = "default",
    variables: Mapping[str, str] = os.environ,
) -> Environment:
    """Where a figure comes from. ``packages``: further distributions whose versions count; ``variables``: the workers' own."""
    cpu, cores, memory, card = cpu_name(), core_count(), memory_gib(), gpu()
    commit, dirty = checkout()
    return Environment(
        machine=slug(cpu, cores, memory, card.name if card else None),
        cpu=cpu,
        cores=cores,
        memory_gib=round(memory, 1),
        isa=isa(),
        gpu=card.name if card else None,
        gpu_memory_gib=round(card.memory_gib, 1) if card else None,
        driver=card.driver if card else None,
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        libraries={name: v for name in sorted({*ALWAYS_RECORDED, *packages} - {""}) if (v := version(name)) is not None},
        commit=commit,
        dirty=dirty,
        threads=threads,
        malloc=malloc,
        # A path tells who ran it and not how fast it was.
        variables={k: v for k, v in sorted(variables.items()) if SPEED_VARIABLES.match(k) and os.sep not in v},
    )


def slug(cpu: str, cores: int, memory: float | None, gpu_name: str | None) -> str:
    """The folder name of a machine, e.g. ``amd-epyc-9354-2c-23gib-h200``: what it is made of, never what it is called."""
    cpu = re.sub(r"\((r|tm|c)\)|@.*|\b(cpu|processor|\d+-core)\b", " ", cpu.lower())
    parts = [cpu, f"{cores}c", f"{int(memory)}gib" if memory is not None else ""]
    if gpu_name:
        parts.append(re.sub(r"\b(nvidia|geforce|tesla)\b", " ", gpu_name.lower()))
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts)).strip("-")


@cache
def cpu_name() -> str:
    return _cpuinfo("model name") or _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine() or "unknown"


def core_count() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


@cache
def isa() -> tuple[str, ...]:
    flags = set((_cpuinfo("flags") or _cpuinfo("Features") or "").split())
    return tuple(flag for flag in ISA_OF_INTEREST if flag in flags)


def _cpuinfo(field: str) -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    found = re.search(rf"^{field}\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def _sysctl(name: str) -> str | None:
    return _output(["sysctl", "-n", name]) if platform.system() == "Darwin" else None


def _output(command: list[str]) -> str | None:
    """What a command prints, or None if there is no such command or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


@cache
def gpu() -> Gpu | None:
    """The first NVIDIA device as its driver names it, or None."""
    try:
        import pynvml
    except ImportError:
        return _gpu_from_tool()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        memory = int(pynvml.nvmlDeviceGetMemoryInfo(device).total) / 2**30
        return Gpu(pynvml.nvmlDeviceGetName(device), memory, pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _gpu_from_tool() -> Gpu | None:
    """A bare GPU machine may lack the Python binding; the tool comes with the driver."""
    text = _output(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"])
    fields = [part.strip() for part in text.splitlines()[0].split(",")] if text else []
    return Gpu(fields[0], float(fields[1]) / 1024, fields[2]) if len(fields) == 3 else None


def devices() -> list[str]:
    """Devices that can be measured here; ``cuda`` needs a GPU and a torch that was built for it."""
    return ["cpu", "cuda"] if gpu() is not None and torch_has_cuda() else ["cpu"]


def default_device() -> str:
    return devices()[-1]


@cache
def torch_has_cuda() -> bool:
    """Whether the installed torch was built for CUDA, read from its version file (importing torch costs over a second)."""
    spec = importlib.util.find_spec("torch")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / "version.py"
        if file.is_file():
            return re.search(r"^cuda\b[^=]*= *['\"]", file.read_text(), re.MULTILINE) is not None
    return False


@cache
def checkout() -> tuple[str | None, bool | None]:
    """Commit and dirtiness of the git checkout that holds this package, else of the current folder's; (None, None) outside one."""
    for folder in (Path(__file__).parent, Path.cwd()):
        commit = _output(["git", "-C", str(folder), "rev-parse", "HEAD"])
        if commit:
            status = _output(["git", "-C", str(folder), "status", "--porcelain"])
            return commit, None if status is None else status != ""
    return None, None


def version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def compiler() -> str | None:
    """The C++ compiler that a build at run time would use, or None."""
    named = os.environ.get("CXX")
    return next((found for name in ([named] if named else COMPILERS) if (found := shutil.which(name))), None)


@cache
def missing(requirement: str) -> str | None:
    """Why ``requirement`` (a distribution's name, or ``compiler``) is not met here, in words for a table cell; None if it is."""
    if requirement == "compiler":
        return None if compiler() else "no C++ compiler on PATH (install g++ or clang++, or set CXX)"
    if version(requirement) is not None:
        return None
    extra = extra_with(requirement)
    target = f"'{DISTRIBUTION}[{extra}]'" if extra else requirement
    return f"{requirement} is not installed (pip install {target})"


def extra_with(distribution: str) -> str | None:
    """The extra of ours that brings a distribution, or None."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for line in lines:
        name, _, marker = line.partition(";")
        if re.match(rf"{re.escape(distribution)}(?![\w.-])", name.strip()) and (
            found := re.search(r"extra == ['\"]([\w-]+)", marker)
        ):
            return found[1]
    return None
