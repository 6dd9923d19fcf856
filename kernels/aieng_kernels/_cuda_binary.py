"""The CUDA kernels inside the built module ``_cuda``, as its own machine code describes them; needs no GPU.

Shared memory is the static part alone: ours is asked for at launch, and the binary does not know how much.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import math
import re
from functools import cache
from pathlib import Path

from aieng_kernels._aot import Compiled, opcodes, tool

ARCHITECTURES = ("sm_80", "sm_90a", "sm_100")
_RESERVED = 1024
"""From sm_90 on the shared memory of a kernel that uses any is reported with what the system keeps of it."""
_USAGE = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)")
_INFO = re.compile(r"^\.nv\.info\.(\S+)$(.*?)(?=^\.\S)", re.MULTILINE | re.DOTALL)
_THREADS = re.compile(r"EIATTR_MAX_THREADS\s+Format:\s+\S+\s+Value:\s+(0x\w+) (0x\w+) (0x\w+)")


def module() -> Path | None:
    """The built module, None where there is none."""
    spec = importlib.util.find_spec("aieng_kernels._cuda")
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


@cache
def usage(binary: Path, arch: str) -> dict[str, tuple[str, int, int, int]]:
    """Every kernel of a binary for one architecture by its C++ name: symbol, registers, stack and static shared memory."""
    found: dict[str, tuple[str, int, int, int]] = {}
    for symbol, registers, stack, shared in _USAGE.findall(tool("cuobjdump", "--dump-resource-usage", "-arch", arch, str(binary))):
        name = demangled(symbol)
        reserved = _RESERVED if arch != "sm_80" and int(shared) >= _RESERVED else 0
        numbers = symbol, int(registers), int(stack), int(shared) - reserved
        # A template that two sources launch is compiled in each, and is one kernel.
        if found.setdefault(name, numbers) != numbers:
            raise ValueError(f"two kernels for {arch} are named {name}")
    return found


@cache
def kernels(binary: Path, arch: str) -> dict[str, Compiled]:
    """The same kernels with their instructions, which takes seconds; ``threads`` is a kernel's launch bound."""
    headers = tool("cuobjdump", "-elf", "-arch", arch, str(binary))
    bounds = ((name, _THREADS.search(body)) for name, body in _INFO.findall(headers))
    threads = {name: math.prod(int(size, 16) for size in bound.groups()) for name, bound in bounds if bound}
    bodies = tool("cuobjdump", "-sass", "-arch", arch, str(binary)).split("Function : ")[1:]
    sass = {body.split("\n", 1)[0].strip(): opcodes(body) for body in bodies}
    return {
        name: Compiled(name, registers, shared, stack, threads.get(symbol, 0), sass[symbol])
        for name, (symbol, registers, stack, shared) in usage(binary, arch).items()
    }


@cache
def demangled(name: str) -> str:
    """The C++ name behind a symbol, by the C++ runtime that the module itself is linked with; the symbol where that cannot tell."""
    runtime = ctypes.CDLL(ctypes.util.find_library("stdc++") or "libstdc++.so.6")
    runtime.__cxa_demangle.restype = ctypes.c_void_p
    status = ctypes.c_int()
    text = runtime.__cxa_demangle(name.encode(), None, None, ctypes.byref(status))
    if not text:
        return name
    try:
        return ctypes.string_at(text).decode()
    finally:
        ctypes.CDLL(None).free(ctypes.c_void_p(text))
