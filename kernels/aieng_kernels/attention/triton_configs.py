"""Configurations of the attention kernels: a few by kernel, padded head dimension and element size, all of which fit sm_90.

Every one compiles ahead of time for sm_90 without stack, local memory or more shared memory than a block has (the tests hold
it); which is fastest is left to the autotuner. Speeds are of bfloat16, B2 H16 S8192 D128 and B4 H32 S4096 D64.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import triton

from aieng_kernels._aot import Variant
from aieng_kernels.attention import triton_backward, triton_forward

KERNELS: dict[str, Any] = {
    "forward": triton_forward.forward_kernel,
    "dkdv": triton_backward.dkdv_kernel,
    "dq": triton_backward.dq_kernel,
}
STATISTICS_PADDING = 128
"""Rows of statistics are rounded up to this: the largest BLOCK_M below."""

# (kernel, padded head dimension, bytes of an element) -> (BLOCK_M, BLOCK_N, num_warps, num_stages), the first for the interpreter
_TABLE: dict[tuple[str, int, int], list[tuple[int, int, int, int]]] = {
    ("forward", 32, 2): [(128, 64, 4, 3)],
    ("forward", 64, 2): [(64, 64, 4, 3), (128, 64, 4, 3)],  # measured on an H200: 373 and 345 TFLOP/s, causal 350 and 333
    ("forward", 128, 2): [(128, 128, 8, 3), (64, 64, 4, 3)],  # measured on an H200: 442 and 374 TFLOP/s, causal 415 and 370
    ("forward", 256, 2): [(128, 32, 8, 3)],
    ("forward", 32, 4): [(64, 64, 8, 2)],
    ("forward", 64, 4): [(64, 64, 8, 2)],
    ("forward", 128, 4): [(64, 32, 8, 2)],
    ("forward", 256, 4): [(32, 32, 8, 2)],
    ("dkdv", 32, 2): [(64, 128, 8, 2)],
    ("dkdv", 64, 2): [(64, 128, 8, 2), (64, 128, 8, 3), (32, 64, 4, 2)],
    ("dkdv", 128, 2): [(32, 128, 8, 2), (16, 64, 4, 2)],
    ("dkdv", 256, 2): [(32, 128, 8, 2)],
    ("dkdv", 32, 4): [(32, 64, 8, 2)],
    ("dkdv", 64, 4): [(32, 32, 8, 2)],
    ("dkdv", 128, 4): [(16, 32, 8, 2)],
    ("dkdv", 256, 4): [(16, 32, 8, 2)],
    ("dq", 32, 2): [(128, 64, 8, 3)],
    ("dq", 64, 2): [(128, 64, 8, 3), (128, 128, 8, 3), (64, 64, 4, 3)],
    ("dq", 128, 2): [(128, 64, 8, 2), (128, 64, 8, 3), (64, 64, 4, 2)],
    ("dq", 256, 2): [(128, 32, 8, 2)],
    ("dq", 32, 4): [(64, 32, 8, 2)],
    ("dq", 64, 4): [(32, 64, 8, 2)],
    ("dq", 128, 4): [(64, 32, 8, 2)],
    ("dq", 256, 4): [(32, 16, 8, 2)],
}

# Those that fit in the registers only where a head dimension fills its tile, so that no column is masked.
_FILLED: dict[tuple[str, int, int], list[tuple[int, int, int, int]]] = {
    ("dkdv", 128, 2): [(64, 128, 8, 2)],
    ("dq", 128, 2): [(128, 128, 8, 2)],
}


def padded(D: int) -> int:
    """Width of a tile that holds head dimension D: the next power of two, at least 32."""
    return max(32, 1 << (D - 1).bit_length())


def gradients_at_once(width: int) -> list[tuple[bool, bool]]:
    """(WANT_DK, WANT_DV) of each run of dkdv: beyond 128 dimensions the accumulators of both do not fit in the registers."""
    return [(True, True)] if width <= 128 else [(True, False), (False, True)]


def configurations(name: str, D: int, bytes_each: int) -> list[triton.Config]:
    """Configurations of a kernel for head dimension ``D`` and elements of ``bytes_each``."""
    width = padded(D)
    found = _TABLE[name, width, bytes_each] + (_FILLED.get((name, width, bytes_each), []) if width == D else [])
    chunk = 32 if bytes_each == 4 else width
    return [
        triton.Config({"CHUNK": chunk, "BLOCK_M": m, "BLOCK_N": n}, num_warps=warps, num_stages=stages)
        for m, n, warps, stages in found
    ]


@cache
def tuned(name: str, D: int, bytes_each: int) -> Any:
    """The kernel, choosing its configuration by trial once for causal or not, and power of two of the longer sequence."""
    found = configurations(name, D, bytes_each)
    if triton.knobs.runtime.interpret:
        found = found[:1]  # nothing to time
    key = ["CAUSAL", "GROUP", "bucket"] + (["WANT_DK"] if name == "dkdv" else [])
    return triton.autotune(configs=found, key=key)(KERNELS[name])


def statistics_block(width: int) -> int:
    """Rows that one program of the statistics kernel takes: 4096 elements."""
    return 4096 // width


def variants() -> Iterator[Variant]:
    """Every kernel in every configuration and dtype, at the head dimension that fills its tile and at one that does not."""
    for dtype in ("fp32", "fp16", "bf16"):
        for width in (32, 64, 128, 256):
            rows = {"D": width, "BLOCK_M": statistics_block(width)}
            yield _variant("statistics", triton_backward.statistics_kernel, dtype, rows, 4, 3)
            for name in KERNELS:
                yield from _variants(name, dtype, width, D=width, causal=True)
                if dtype != "fp16":  # whose code is bfloat16's but for the type in its instructions
                    yield from _variants(name, dtype, width, D=width, causal=False)
                    yield from _variants(name, dtype, width, D=width - 8, causal=True, group=4)


def _variants(name: str, dtype: str, width: int, *, D: int, causal: bool, group: int = 1) -> Iterator[Variant]:
    for config in configurations(name, D, 4 if dtype == "fp32" else 2):
        constants = {**config.kwargs, "D": D, "CAUSAL": causal, "GROUP": group}
        for want in gradients_at_once(width) if name == "dkdv" else [()]:
            chosen = constants | dict(zip(("WANT_DK", "WANT_DV"), want, strict=False))
            yield _variant(name, KERNELS[name], dtype, chosen, config.num_warps, config.num_stages)


def _variant(name: str, kernel: Any, dtype: str, constants: dict[str, Any], num_warps: int, num_stages: int) -> Variant:
    constants = {**constants, "BLOCK_D": padded(constants["D"])}
    single = {"lse_ptr": "*fp32", "shift_ptr": "*fp32", "delta_ptr": "*fp32", "scale": "fp32"}
    rest = [a for a in kernel.arg_names if a not in constants]
    signature = {a: single.get(a, f"*{dtype}" if a.endswith("_ptr") else "i32") for a in rest}
    divisible = frozenset(a for a in rest if a.endswith("_ptr") or a == "P")
    label = " ".join([name, dtype, *(f"{k}={v}" for k, v in constants.items()), f"warps={num_warps}", f"stages={num_stages}"])
    return Variant(label, kernel, signature, constants, num_warps, num_stages, divisible)
