"""Compiles the CUDA kernels for the CPU with a C++ compiler, against the shim, once for each state of the sources."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[3]
CSRC = ROOT / "csrc"
SHIM = Path(__file__).parent / "shim"
SANITIZERS = ("-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-fPIC", "-fvisibility=hidden")


def compiler() -> str | None:
    """The C++ compiler, or None; the shim needs Linux's ucontext."""
    return shutil.which("g++")


def build(name: str, sources: Sequence[Path], flags: Sequence[str] = (), link: Sequence[str] = ()) -> Path:
    """The program or library ``name`` from ``sources``. Whoever else wants it waits for whoever began."""
    folder = ROOT / "build" / "cuda_shim" / _state(sources, (*flags, *link))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / name).exists():
            _make(folder / name, sources, flags, link)
    return folder / name


def _make(target: Path, sources: Sequence[Path], flags: Sequence[str], link: Sequence[str]) -> None:
    """Build it apart and move it into place, so that it is there whole or not at all."""
    apart = target.parent / f"making-{target.name}"
    apart.mkdir(exist_ok=True)
    objects = [apart / f"{i}.o" for i in range(len(sources))]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        list(pool.map(_run, ([*_compile(flags), str(s), "-o", str(o)] for s, o in zip(sources, objects, strict=True))))
    _run([str(compiler()), *flags, *map(str, objects), "-o", str(apart / target.name), *link])
    os.replace(apart / target.name, target)
    shutil.rmtree(apart)


def _compile(flags: Sequence[str]) -> list[str]:
    import pybind11

    folders = (
        CSRC,
        CSRC / "common",
        CSRC / "attention",
        CSRC / "diffusion",
        SHIM,
        pybind11.get_include(),
        sysconfig.get_path("include"),
    )
    return [str(compiler()), *FLAGS, *flags, *(f"-I{folder}" for folder in folders), "-x", "c++", "-c"]


def _state(sources: Sequence[Path], flags: Sequence[str]) -> str:
    headers = [h for folder in (CSRC, SHIM) for kind in ("*.h", "*.cuh") for h in folder.rglob(kind)]
    digest = hashlib.sha256(repr((FLAGS, *flags)).encode())
    for path in sorted({*headers, *sources}):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stderr}")
