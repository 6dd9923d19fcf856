"""Ahead-of-time compilation of Triton kernels for a GPU that need not be here, and what the machine code says of itself.

Registers, shared memory, stack and instruction counts are facts of the compiled code; they say nothing of its speed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHARED_LIMIT = 232_448
"""Shared memory in bytes that one block can have on sm_90 (227 KiB)."""
_SASS = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")


@dataclass(frozen=True)
class Variant:
    """One compilation of a kernel: argument types by name (``*bf16``, ``i32``, ``fp32``), constants, and its configuration.

    ``divisible`` names the arguments known to be multiples of 16, as the launcher finds them for aligned inputs.
    """

    label: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int
    num_stages: int
    divisible: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Compiled:
    """What the machine code of a variant uses: registers a thread, shared and stack bytes, and instructions by full opcode."""

    label: str
    registers: int
    shared: int
    stack: int
    threads: int
    """Of a block; 0 where the code does not say."""
    instructions: Counter[str] = field(repr=False)

    def count(self, prefix: str) -> int:
        """Instructions whose opcode starts with ``prefix``, e.g. ``HGMMA`` or ``LDG.E.128``."""
        return sum(n for opcode, n in self.instructions.items() if opcode.startswith(prefix))

    @property
    def local(self) -> int:
        """Accesses to local memory: registers spilled, or an array indexed at run time."""
        return self.count("LDL") + self.count("STL")


def compile_variant(variant: Variant, capability: int = 90) -> Compiled:
    """Compile for ``sm_<capability>`` with Triton's own ptxas and read the result with its cuobjdump; needs no GPU.

    Raises RuntimeError in a process that interprets kernels (TRITON_INTERPRET=1), where there is nothing to compile.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    kernel = variant.kernel
    if not isinstance(kernel, triton.runtime.JITFunction):
        raise RuntimeError(f"{variant.label}: not a compilable kernel ({type(kernel).__name__}); is TRITON_INTERPRET set?")
    signature = {name: variant.signature.get(name, "constexpr") for name in kernel.arg_names}
    attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in sorted(variant.divisible)}
    language = GluonASTSource if kernel.is_gluon() else ASTSource
    source = language(kernel, signature, constexprs=dict(variant.constants), attrs=attributes)
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages}
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(built.asm["cubin"])
        usage = _USAGE.search(tool("cuobjdump", "--dump-resource-usage", str(cubin)))
        sass = tool("nvdisasm", "-c", str(cubin))
    if usage is None:
        raise RuntimeError(f"{variant.label}: cuobjdump reports no resource usage")
    registers, stack = map(int, usage.groups())
    threads = 32 * built.metadata.num_warps  # with those of every role, where warps are specialized
    return Compiled(variant.label, registers, built.metadata.shared, stack, threads, opcodes(sass))


def opcodes(sass: str) -> Counter[str]:
    """Instructions of a disassembly by full opcode."""
    return Counter(_SASS.findall(sass))


def tool(name: str, *arguments: str) -> str:
    """Output of a CUDA binary tool: the one that Triton's wheel carries, else the toolkit's. Raises FileNotFoundError without."""
    spec = importlib.util.find_spec("triton")
    folders = [str(Path(place) / "backends/nvidia/bin") for place in (spec.submodule_search_locations or [])] if spec else []
    folders += [str(Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"), os.environ.get("PATH", "")]
    path = os.pathsep.join(folders)
    found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(f"{name} is neither in Triton's wheel nor in a CUDA toolkit")
    # cuobjdump looks for nvdisasm on PATH.
    done = subprocess.run([found, *arguments], check=True, capture_output=True, text=True, env={**os.environ, "PATH": path})
    return done.stdout
