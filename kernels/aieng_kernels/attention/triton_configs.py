"""Configurations of the attention kernels: a few by kernel, padded head dimension and element size, all of which fit sm_90.

Every one compiles ahead of time for sm_90 without stack, local memory or more shared memory than a block has, options among them
as :func:`variants` combines them (the tests hold it); which is fastest is left to the autotuner. Speeds are of bfloat16,
B2 H16 S8192 D128 and B4 H32 S4096 D64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

import triton

from aieng_kernels._aot import Variant
from aieng_kernels.attention import triton_backward, triton_forward
from aieng_kernels.attention.triton_options import ADDED_MASK, BOOL_MASK, SLOPES

Kind = Literal["plain", "bounded", "packed", "laden"]
"""By what is asked: causal at most; a window or lengths; sequences of several lengths; a soft cap, a mask or dropout."""
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

# In place of the table's where there are sequences of several lengths.
_PACKED: dict[tuple[str, int, int], list[tuple[int, int, int, int]]] = {
    ("forward", 128, 2): [(128, 64, 8, 3), (64, 64, 4, 3)],
}
# With a soft cap, a mask or dropout, whose tiles take registers of their own: what fits with all of them at once and a window.
# (A mask of elements of 1 or 2 bytes whose rows start off 16 bytes takes more, and then some spill.) Not yet timed on a chip.
_LADEN: dict[tuple[str, int, int], tuple[int, int, int, int]] = {
    ("forward", 32, 2): (64, 32, 4, 2),
    ("forward", 64, 2): (128, 64, 8, 2),
    ("forward", 128, 2): (128, 32, 8, 2),
    ("forward", 256, 2): (64, 32, 8, 2),
    ("forward", 32, 4): (64, 32, 8, 2),
    ("forward", 64, 4): (64, 32, 8, 2),
    ("forward", 128, 4): (32, 32, 8, 2),
    ("forward", 256, 4): (32, 32, 8, 2),
    ("dkdv", 32, 2): (64, 64, 8, 2),
    ("dkdv", 64, 2): (32, 128, 8, 2),
    ("dkdv", 128, 2): (16, 128, 8, 2),
    ("dkdv", 256, 2): (16, 128, 8, 2),
    ("dkdv", 32, 4): (32, 32, 8, 2),
    ("dkdv", 64, 4): (16, 32, 8, 2),
    ("dkdv", 128, 4): (16, 32, 8, 2),
    ("dkdv", 256, 4): (16, 32, 8, 2),
    ("dq", 32, 2): (64, 32, 4, 2),
    ("dq", 64, 2): (128, 64, 8, 2),
    ("dq", 128, 2): (128, 32, 8, 2),
    ("dq", 256, 2): (64, 16, 8, 2),
    ("dq", 32, 4): (32, 32, 8, 2),
    ("dq", 64, 4): (32, 32, 8, 2),
    ("dq", 128, 4): (64, 32, 8, 2),
    ("dq", 256, 4): (32, 16, 8, 2),
}
# In place of those above where a head dimension does not fill its tile: with a window or several lengths, and laden.
_BOUNDED_UNFILLED: dict[tuple[str, int, int], list[tuple[int, int, int, int]]] = {
    ("dkdv", 64, 2): [(64, 128, 8, 2), (32, 64, 4, 2)],
    ("dkdv", 128, 2): [(32, 128, 8, 2)],
    ("dq", 128, 2): [(128, 64, 8, 2), (128, 64, 8, 3)],
    ("dq", 256, 2): [(64, 16, 8, 2)],
}
_LADEN_UNFILLED: dict[tuple[str, int, int], tuple[int, int, int, int]] = {
    ("dkdv", 32, 2): (32, 64, 4, 2),
    ("dkdv", 64, 2): (32, 64, 8, 2),
    ("dkdv", 128, 2): (16, 64, 8, 2),
    ("dkdv", 256, 2): (16, 64, 8, 2),
    ("dq", 128, 2): (128, 16, 8, 2),
}
OPTIONS = ("WINDOW", "CAPPED", "MASK", "DROPOUT", "VARLEN", "LENGTHS")
"""The kernels' constants for what is asked beyond scale and causal."""
_ARGUMENTS = {
    "WINDOW": {"left": "i32", "right": "i32", "bottom": "i32"},
    "CAPPED": {"softcap": "fp32"},
    "MASK": {"mask_ptr": "*u8", "stride_mb": "i32", "stride_mh": "i32", "stride_ms": "i32"},
    "DROPOUT": {"seed_ptr": "*i64", "last_dropped": "i32", "undropped": "fp32", "longest_q": "i32", "longest_k": "i32"},
    "VARLEN": {"q_starts_ptr": "*i32", "k_starts_ptr": "*i32", "longest_q": "i32", "longest_k": "i32"},
    "LENGTHS": {"k_lengths_ptr": "*i32"},
}
"""Arguments that an option has, and their types."""


def padded(D: int) -> int:
    """Width of a tile that holds head dimension D: the next power of two, at least 32."""
    return max(32, 1 << (D - 1).bit_length())


def gradients_at_once(width: int) -> list[tuple[bool, bool]]:
    """(WANT_DK, WANT_DV) of each run of dkdv: beyond 128 dimensions the accumulators of both do not fit in the registers."""
    return [(True, True)] if width <= 128 else [(True, False), (False, True)]


def kind(asked: Mapping[str, Any]) -> Kind:
    """Which configurations these options, by the kernels' names, are run in."""
    if any(asked.get(option) for option in ("CAPPED", "MASK", "DROPOUT")):
        return "laden"
    if asked.get("VARLEN"):
        return "packed"
    return "bounded" if asked.get("WINDOW") or asked.get("LENGTHS") else "plain"


def configurations(name: str, D: int, bytes_each: int, wanted: Kind = "plain") -> list[triton.Config]:
    """Configurations of a kernel for head dimension ``D`` and elements of ``bytes_each``."""
    width = padded(D)
    key = name, width, bytes_each
    if wanted == "laden":
        found = [_LADEN[key] if width == D else _LADEN_UNFILLED.get(key, _LADEN[key])]
    else:
        found = (_PACKED if wanted == "packed" and key in _PACKED else _TABLE)[key]
        if width == D:
            found = found + _FILLED.get(key, [])
        elif wanted != "plain":
            found = _BOUNDED_UNFILLED.get(key, found)
    chunk = 32 if bytes_each == 4 else width
    return [
        triton.Config({"CHUNK": chunk, "BLOCK_M": m, "BLOCK_N": n}, num_warps=warps, num_stages=stages)
        for m, n, warps, stages in found
    ]


@cache
def tuned(name: str, D: int, bytes_each: int, wanted: Kind = "plain") -> Any:
    """The kernel, choosing its configuration by trial once for causal or not, options, and power of two of the longer sequence."""
    found = configurations(name, D, bytes_each, wanted)
    if triton.knobs.runtime.interpret:
        found = found[:1]  # nothing to time
    key = ["CAUSAL", "GROUP", "bucket", *OPTIONS] + (["WANT_DK"] if name == "dkdv" else [])
    return triton.autotune(configs=found, key=key)(KERNELS[name])


def statistics_block(width: int) -> int:
    """Rows that one program of the statistics kernel takes: 4096 elements."""
    return 4096 // width


def variants() -> Iterator[Variant]:
    """Every kernel in every configuration and dtype, at the head dimension that fills its tile and at one that does not.

    Not every option is in every combination: what takes registers all at once, and each option by itself or with a window.
    """
    for dtype in ("fp32", "fp16", "bf16"):
        for width in (32, 64, 128, 256):
            rows = {"D": width, "BLOCK_M": statistics_block(width)}
            yield _variant("statistics", triton_backward.statistics_kernel, dtype, rows, 4, 3)
            for name in KERNELS:
                yield from _variants(name, dtype, width, D=width, causal=True)
                if dtype != "fp16":  # whose code is bfloat16's but for the type in its instructions
                    yield from _variants(name, dtype, width, D=width, causal=False)
                    yield from _variants(name, dtype, width, D=width - 8, causal=True, group=4)
                    yield from _variants(name, dtype, width, D=width, causal=False, asked=_WEIGHING)
                if dtype == "bf16":
                    yield from _variants(name, dtype, width, D=width - 8, causal=False, group=4, asked=_WEIGHING)
    for name in KERNELS:
        for dtype, D, asked in _EACH:
            yield from _variants(name, dtype, padded(D), D=D, causal=False, group=1 if padded(D) == D else 4, asked=asked)


_WEIGHING = {"WINDOW": True, "CAPPED": True, "MASK": ADDED_MASK.value, "DROPOUT": True}
_EACH: list[tuple[str, int, dict[str, int]]] = [
    ("bf16", 128, {"WINDOW": True, "LENGTHS": True}),
    ("fp16", 64, {"WINDOW": True, "VARLEN": True}),
    ("bf16", 120, {"WINDOW": True, "VARLEN": True}),
    ("bf16", 64, {"MASK": BOOL_MASK.value}),
    ("fp16", 128, {"MASK": ADDED_MASK.value}),
    ("bf16", 128, {"MASK": SLOPES.value, "VARLEN": True}),
    ("fp16", 64, {"DROPOUT": True}),
    ("bf16", 128, {"CAPPED": True}),
]


def _variants(
    name: str, dtype: str, width: int, *, D: int, causal: bool, group: int = 1, asked: dict[str, int] | None = None
) -> Iterator[Variant]:
    asked = asked or {}
    for config in configurations(name, D, 4 if dtype == "fp32" else 2, kind(asked)):
        constants = {**config.kwargs, "D": D, "CAUSAL": causal, "GROUP": group}
        for want in gradients_at_once(width) if name == "dkdv" else [()]:
            chosen = constants | dict(zip(("WANT_DK", "WANT_DV"), want, strict=False)) | asked
            yield _variant(name, KERNELS[name], dtype, chosen, config.num_warps, config.num_stages)


def _variant(name: str, kernel: Any, dtype: str, constants: dict[str, Any], num_warps: int, num_stages: int) -> Variant:
    constants = {**constants, "BLOCK_D": padded(constants["D"])}
    label = " ".join([name, dtype, *(f"{k}={v}" for k, v in constants.items()), f"warps={num_warps}", f"stages={num_stages}"])
    types = {"lse_ptr": "*fp32", "shift_ptr": "*fp32", "delta_ptr": "*fp32", "scale": "fp32"}
    for option in OPTIONS:
        types |= _ARGUMENTS[option] if constants.get(option) else {}
    mask = constants.get("MASK")
    if mask == SLOPES.value:
        types = {name: kind for name, kind in types.items() if not name.startswith("stride_m")}
    elif mask:
        constants["stride_mt"] = 1
    if mask in (ADDED_MASK.value, SLOPES.value):
        types["mask_ptr"] = "*fp32"
    constants = {p.name: p.default for p in kernel.params if p.has_default and p.name not in types} | constants
    rest = [a for a in kernel.arg_names if a not in constants]
    signature = {a: types.get(a, f"*{dtype}" if a.endswith("_ptr") else "i32") for a in rest}
    divisible = frozenset(a for a in rest if a.endswith("_ptr") or a == "P")
    return Variant(label, kernel, signature, constants, num_warps, num_stages, divisible)
