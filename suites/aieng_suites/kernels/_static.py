"""The kernels of a family as cells of a static benchmark: Triton's compiled here, the CUDA ones read from the built module."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from aieng_bench.define import Unsupported
from aieng_bench.machine_code import MachineCode, StaticBenchmark, StaticCell

if TYPE_CHECKING:
    from aieng_kernels._aot import Compiled, Variant

TRITON_ARCH = "sm_90"


def declare(family: str, title: str, triton_module: str) -> StaticBenchmark:
    """``triton_module`` has ``variants()``, every compilation of the family's Triton kernels."""

    def cells() -> Iterator[StaticCell]:
        yield from _cuda(family)
        yield from _triton(triton_module)

    return StaticBenchmark(
        name=f"{family}/static",
        title=title,
        summary="What the compiler says of each kernel, without running it: stack and local memory (spilled registers or arrays "
        "indexed at run time), theoretical occupancy, and whether products run on the tensor cores. Of the CUDA kernels, shared "
        "memory that is asked for at launch is not in the occupancy.",
        cells=cells,
        packages=("triton",),
    )


def _triton(module: str) -> Iterator[StaticCell]:
    if importlib.util.find_spec("triton") is None:
        yield _absent("triton", TRITON_ARCH, "Triton is not installed (pip install 'aieng-bench[gpu]')")
        return
    for variant in importlib.import_module(module).variants():
        source = inspect.getsourcefile(inspect.unwrap(variant.kernel.fn))
        yield StaticCell(f"triton {variant.label}", TRITON_ARCH, _compiling(variant), _hash(Path(str(source))))


def _compiling(variant: Variant) -> Callable[[], MachineCode]:
    from aieng_kernels._aot import compile_variant

    return lambda: _code(compile_variant(variant))


def _cuda(family: str) -> Iterator[StaticCell]:
    from aieng_kernels import _cuda_binary

    binary = _cuda_binary.module()
    for arch in _cuda_binary.ARCHITECTURES:
        if binary is None:
            yield _absent("cuda", arch, "the CUDA kernels are not built (nvcc was not found when aieng-bench was installed)")
            continue
        try:
            names = sorted(_cuda_binary.usage(binary, arch))
        except FileNotFoundError as error:
            yield _absent("cuda", arch, str(error))
            continue
        for name in names:
            if f"aieng::{family}::" in name:
                yield StaticCell(f"cuda {short(name)}", arch, _reading(binary, arch, name), _hash(binary))


def _reading(binary: Path, arch: str, name: str) -> Callable[[], MachineCode]:
    from aieng_kernels._cuda_binary import kernels

    return lambda: _code(kernels(binary, arch)[name])


def short(name: str) -> str:
    """A kernel's C++ name without what all of them share: result, namespaces, parameters."""
    name = name.replace("(anonymous namespace)::", "")
    if name.endswith(")"):
        start, open_ones = len(name) - 1, 1
        while open_ones:
            start -= 1
            open_ones += (name[start] == ")") - (name[start] == "(")
        name = name[:start]
    return re.sub(r"^void |aieng::\w+::(cuda::)?", "", name)


def _absent(kernel: str, arch: str, reason: str) -> StaticCell:
    def read() -> MachineCode:
        raise Unsupported(reason)

    return StaticCell(kernel, arch, read)


def _code(found: Compiled) -> MachineCode:
    return MachineCode(found.registers, found.stack, found.shared, found.threads, found.instructions)


@cache
def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
