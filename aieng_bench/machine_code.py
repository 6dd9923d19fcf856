"""How a suite declares kernels whose machine code is to be read, and what a chip can hold of them. Imports nothing but the stdlib.

A static benchmark is one module of a suite with one module-level name, ``static``; the registry finds it as it finds benchmarks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

WARP = 32
_WARPS_PER_SM = 64
_BLOCKS_PER_SM = 32
_REGISTERS_PER_SM = 65_536
_REGISTERS_PER_THREAD = 255
_REGISTER_UNIT = 256
"""Registers are given to a warp in this unit, and an SM's four partitions have a quarter of them each."""
_PARTITIONS = 4
_SHARED_UNIT = 128
_SHARED_RESERVED = 1024
"""Bytes of shared memory that the system takes for each block."""
_SHARED_PER_SM = {"sm_80": 164 * 1024, "sm_90": 228 * 1024, "sm_100": 228 * 1024}
"""Bytes, of which one block may have all but the reserved ones. The other limits above are the same on these three.

CUDA C++ Programming Guide, "Technical Specifications per Compute Capability", and the occupancy calculator of Nsight Compute."""


@dataclass(frozen=True)
class MachineCode:
    """What a compiled kernel uses. ``threads`` of a block; ``instructions`` counts full opcodes, e.g. ``LDG.E.128``."""

    registers: int
    stack_bytes: int
    shared_bytes: int
    threads: int
    instructions: Mapping[str, int]

    def count(self, *prefixes: str) -> int:
        """Instructions whose opcode starts with one of ``prefixes``."""
        return sum(n for opcode, n in self.instructions.items() if opcode.startswith(prefixes))


@dataclass(frozen=True)
class StaticCell:
    """One kernel in one configuration for one architecture. ``read`` compiles it, or raises Unsupported with the reason."""

    kernel: str
    arch: str
    """As the compiler names it, e.g. ``sm_90a``."""
    read: Callable[[], MachineCode]
    source_hash: str = ""


@dataclass
class StaticBenchmark:
    """Kernels by what their compiler says. ``cells`` may import whatever it needs, and tells what is absent by cells that raise."""

    name: str
    """``group/what``, e.g. ``attention/static``."""
    title: str
    summary: str
    cells: Callable[[], Iterable[StaticCell]]
    packages: tuple[str, ...] = ()
    """Distributions whose versions decide what the code is, e.g. ``triton``."""
    suite: str = ""
    """Name of the entry point that brought it; set by the registry."""


def occupancy(code: MachineCode, arch: str) -> float:
    """Share of an SM's warps that can be resident at once, 0 for a block that does not fit; limits as documented for ``arch``.

    ``min`` over threads, registers, shared memory and blocks of the blocks that fit, times a block's warps, over the SM's. Dynamic
    shared memory that the host chooses at launch is in it only if ``code.shared_bytes`` has it. Raises LookupError for an
    architecture whose limits are not in the table.
    """
    family = arch.rstrip("af")
    if family not in _SHARED_PER_SM:
        raise LookupError(f"no limits known for {arch}; there are {', '.join(_SHARED_PER_SM)}")
    warps = math.ceil(code.threads / WARP)
    shared = _rounded(code.shared_bytes + _SHARED_RESERVED, _SHARED_UNIT)
    if code.registers > _REGISTERS_PER_THREAD or shared > _SHARED_PER_SM[family] or not 0 < code.threads <= 1024:
        return 0.0
    registers_of_warp = _rounded(max(code.registers, 1) * WARP, _REGISTER_UNIT)
    warps_by_registers = _REGISTERS_PER_SM // _PARTITIONS // registers_of_warp * _PARTITIONS
    blocks = min(_BLOCKS_PER_SM, _WARPS_PER_SM // warps, warps_by_registers // warps, _SHARED_PER_SM[family] // shared)
    return blocks * warps / _WARPS_PER_SM


def _rounded(value: int, unit: int) -> int:
    return -(-value // unit) * unit
