"""Builds the native modules: aieng_kernels._cpu always, aieng_kernels._cuda where nvcc is found, aieng_bench._ceilings always.

No torch headers, so no torch at build time and one binary for every torch. Sources are found by name, so adding a kernel edits
nothing here: ``csrc/<family>/bind_cpu.cpp`` and ``cpu_<technique>[_avx2|_avx512|_avx512_bf16].cpp``;
``bind_cuda.cpp`` and ``*.cu``. The ending of a C++ file's name chooses its instruction set, ``cuda_sm90_`` before a CUDA file's
the one chip it is for; dispatch between them happens at run time.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from pybind11 import get_include
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
CSRC = ROOT / "csrc"
X86 = platform.machine() in ("x86_64", "AMD64")
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
ISA = {"_avx512_bf16": [*AVX512, "-mavx512bf16"], "_avx512": AVX512, "_avx2": AVX2}
# Machine code, and PTX last: a driver compiles it for devices that none of the machine codes fits.
CUDA_ARCHITECTURES = ("sm_80", "sm_90a", "sm_100", "compute_80")


def flags_for(source: Path) -> list[str] | None:
    """Instruction-set flags by the file's name; None if this machine's architecture cannot compile it."""
    for ending, flags in ISA.items():
        if source.stem.endswith(ending):
            return flags if X86 else None
    return []


def cpu_sources() -> list[Path]:
    found = [*CSRC.glob("*/bind_cpu.cpp"), *CSRC.glob("*/cpu_*.cpp"), CSRC / "common/module_cpu.cpp"]
    return sorted(s for s in found if flags_for(s) is not None)


def cuda_home() -> Path | None:
    """The toolkit that holds nvcc and its libraries: CUDA_HOME, else beside the real nvcc (the one on PATH may be a shim)."""
    nvcc = shutil.which("nvcc")
    places = [os.environ.get("CUDA_HOME"), "/usr/local/cuda", *sorted(map(str, Path("/usr/local").glob("cuda-*")), reverse=True)]
    if nvcc:
        places.append(str(Path(nvcc).resolve().parent.parent))
    for place in places:
        if place and (Path(place) / "bin/nvcc").exists() and any(Path(place).glob("lib64/libcudart_static.a")):
            return Path(place)
    return None


@cache
def cuda_architectures(home: Path, alone: str | None) -> list[str]:
    """Those of ours that this toolkit's compiler knows; of those only ``alone`` where it is named."""
    known = subprocess.run([home / "bin/nvcc", "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout.split()
    ours = CUDA_ARCHITECTURES if alone is None else (alone,)
    return [a for a in ours if a.replace("sm", "compute").rstrip("a") in known]


class Build(build_ext):
    """Compiles each source with its own flags, and only when something that it includes is newer than its object."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # Objects stay in the tree, so that an editable install after a small change compiles only that.
        self.build_temp = str(ROOT / "build" / f"native-{sys.implementation.cache_tag}-{platform.machine()}")

    def build_extension(self, ext: Extension) -> None:
        self._ext = ext
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(self.build_temp) / ext.name.rsplit(".", 1)[-1]
        folder.mkdir(parents=True, exist_ok=True)
        jobs = []
        for source in map(Path, ext.sources):
            path = ROOT / source
            obj = folder / ("__".join(source.parts[1:]) + ".o")
            if stale(obj):
                jobs.append([*self.command(path, obj), "-MMD", "-MF", str(obj.with_suffix(".d"))])
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            list(pool.map(run, jobs))
        objects = [str(folder / ("__".join(Path(s).parts[1:]) + ".o")) for s in ext.sources]
        link = [cxx(), "-shared", *objects, "-o", str(target), *ext.extra_link_args]
        if sys.platform == "darwin":
            link += ["-undefined", "dynamic_lookup"]
        run(link)

    def command(self, source: Path, obj: Path) -> list[str]:
        includes = [f"-I{CSRC}", f"-I{CSRC / 'common'}", f"-I{get_include()}", f"-I{python_include()}"]
        if source.suffix == ".cu":
            home = cuda_home()
            assert home is not None
            alone = "sm_90a" if source.stem.startswith("cuda_sm90_") else None  # instructions that no other chip has
            codes = [f"-gencode=arch={code.replace('sm', 'compute')},code={code}" for code in cuda_architectures(home, alone)]
            return [
                str(home / "bin/nvcc"), "-O3", "-std=c++17", "-Xcompiler=-fPIC,-fvisibility=hidden", "--expt-relaxed-constexpr",
                *codes, *includes, "-c", str(source), "-o", str(obj),
            ]  # fmt: skip
        flags = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-Wall", "-Wextra", *openmp()]
        if self._ext.name.endswith("_cuda"):
            home = cuda_home()
            includes.append(f"-I{home}/include")
        return [cxx(), *flags, *(flags_for(source) or []), *includes, "-c", str(source), "-o", str(obj)]


def stale(obj: Path) -> bool:
    """Whether an object is missing, or older than a file that the compiler read for it the last time."""
    listed = obj.with_suffix(".d")
    if not (obj.exists() and listed.exists()):
        return True
    made, read = obj.stat().st_mtime, listed.read_text().replace("\\\n", " ").split(": ", 1)[1].split()
    return any(not Path(f).exists() or Path(f).stat().st_mtime > made for f in [*read, __file__])


def cxx() -> str:
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or "c++"


def python_include() -> str:
    import sysconfig

    return sysconfig.get_paths()["include"]


def openmp() -> list[str]:
    """OpenMP on Linux, where torch's wheel carries the runtime; elsewhere the portable path runs on one thread."""
    return ["-fopenmp"] if sys.platform == "linux" else []


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.stderr:
        print(done.stderr, file=sys.stderr)
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}\n{done.stderr}")


def extensions() -> list[Extension]:
    def relative(paths: list[Path]) -> list[str]:
        return [str(p.relative_to(ROOT)) for p in paths]

    found = [Extension("aieng_kernels._cpu", relative(cpu_sources()), extra_link_args=openmp())]
    ceilings = sorted(s for s in CSRC.glob("ceilings/*.cpp") if flags_for(s) is not None)
    if ceilings:
        found.append(Extension("aieng_bench._ceilings", relative(ceilings), extra_link_args=openmp()))
    cuda = sorted([*CSRC.glob("*/*.cu"), *CSRC.glob("*/bind_cuda.cpp"), CSRC / "common/module_cuda.cpp"])
    home = cuda_home()
    if home and any(s.suffix == ".cu" for s in cuda):
        link = [f"-L{home}/lib64", "-lcudart_static", "-lrt", "-ldl", "-lpthread"]
        found.append(Extension("aieng_kernels._cuda", relative(cuda), extra_link_args=link))
    return found


setup(ext_modules=extensions(), cmdclass={"build_ext": Build})
