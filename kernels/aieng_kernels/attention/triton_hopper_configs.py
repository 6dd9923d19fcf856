"""Configurations and tensor descriptors of the Gluon kernels. Importing this needs a Triton with Gluon (3.6)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.experimental.gluon.language import NVMMASharedLayout
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from aieng_kernels._aot import Variant
from aieng_kernels.attention.triton_hopper_backward import hopper_dkdv_kernel, hopper_dq_kernel
from aieng_kernels.attention.triton_hopper_forward import ROWS, hopper_kernel
from aieng_kernels.attention.triton_hopper_persistent import hopper_persistent_kernel


class Kernel(NamedTuple):
    """A kernel, what its configurations set, and the descriptors whose tiles have as many rows as the block that it loops over."""

    kernel: Any
    parameters: tuple[str, ...]
    looped: tuple[str, ...]


KERNELS = {
    "forward": Kernel(hopper_kernel, ("BLOCK_N", "STAGES", "WARPGROUPS", "PINGPONG"), ("k_desc", "v_desc")),
    "persistent": Kernel(hopper_persistent_kernel, ("BLOCK_N", "STAGES"), ("k_desc", "v_desc")),
    "dkdv": Kernel(hopper_dkdv_kernel, ("BLOCK_M", "STAGES"), ("q_desc", "dout_desc", "shift_desc", "delta_desc")),
    "dq": Kernel(hopper_dq_kernel, ("BLOCK_N", "STAGES"), ("k_desc", "v_desc")),
}
# (kernel, padded head dimension) -> values of the kernel's parameters
_TABLE: dict[tuple[str, int], list[tuple[int, ...]]] = {
    ("forward", 64): [(64, 3, 3, False), (128, 3, 2, False), (128, 3, 2, True)],
    ("forward", 128): [(128, 2, 2, False), (128, 2, 2, True)],
    ("persistent", 64): [(128, 3), (64, 4)],
    ("persistent", 128): [(128, 2), (64, 3)],
    ("dkdv", 64): [(64, 3), (64, 2)],
    ("dkdv", 128): [(64, 2)],
    ("dq", 64): [(128, 3), (64, 3)],
    ("dq", 128): [(128, 2), (64, 3)],
}


def padded(D: int) -> int:
    """Width of a tile that holds head dimension D."""
    return 64 if D <= 64 else 128


def layout(rank: int) -> NVMMASharedLayout:
    """How a tile lies in shared memory: of rank 4, 16-bit rows of a head; of rank 3, float32 statistics of rows."""
    return NVMMASharedLayout(128 if rank == 4 else 0, 16 if rank == 4 else 32, rank=rank)


def descriptor(x: Tensor) -> TensorDescriptor:
    """x (B, H, S, D), or statistics (B, H, P), as the TMA takes it, in tiles of 64 rows; see :func:`aligned`."""
    # The stride of a dimension of size 1 is never used and may be anything, which the driver would refuse.
    strides = [s if n > 1 else x.shape[-1] for n, s in zip(x.shape[:-1], x.stride())]
    tile = [1, 1, ROWS.value, padded(x.shape[3])] if x.ndim == 4 else [1, 1, ROWS.value]
    return TensorDescriptor(x, list(x.shape), [*strides, 1], tile, layout(x.ndim))


def aligned(x: Tensor) -> Tensor:
    """x itself where the TMA takes it, else a copy: rows start at 16 bytes, and no stride is 0."""
    good = x.data_ptr() % 16 == 0 and all(s % 8 == 0 and s > 0 for n, s in zip(x.shape[:3], x.stride()) if n > 1)
    return x if good else x.clone(memory_format=torch.contiguous_format)


def configurations(name: str, width: int) -> list[triton.Config]:
    """Configurations of a kernel for tiles of ``width`` dimensions."""
    _, parameters, looped = KERNELS[name]

    def fit_tiles(arguments: dict[str, Any]) -> None:
        for one in looped:
            arguments[one].block_shape[2] = arguments[parameters[0]]

    return [
        triton.Config(dict(zip(parameters, values, strict=True)), num_warps=4, pre_hook=fit_tiles) for values in _TABLE[name, width]
    ]


@cache
def tuned(name: str, width: int) -> Any:
    """The kernel, choosing its configuration by trial once for causal or not, and power of two of the longer sequence."""
    return triton.autotune(configs=configurations(name, width), key=["CAUSAL", "GROUP", "bucket"])(KERNELS[name].kernel)


def variants() -> Iterator[Variant]:
    """Every kernel in every configuration and dtype."""
    for name, width in _TABLE:
        for config in configurations(name, width):
            for dtype, causal, group in (("bf16", False, 1), ("bf16", True, 4), ("fp16", True, 1)):
                yield _variant(name, dtype, width, {**config.kwargs, "CAUSAL": causal, "GROUP": group})


def _variant(name: str, dtype: str, width: int, constants: dict[str, Any]) -> Variant:
    kernel, parameters, looped = KERNELS[name]

    def type_of(argument: str) -> str:
        if not argument.endswith("_desc"):
            return "*fp32" if argument.endswith("_ptr") else "fp32" if argument == "scale" else "i32"
        rows = constants[parameters[0]] if argument in looped else ROWS.value
        if argument in ("shift_desc", "delta_desc"):
            return f"tensordesc<fp32[1, 1, {rows}],{layout(3)!r}>"
        return f"tensordesc<{dtype}[1, 1, {rows}, {width}],{layout(4)!r}>"

    signature = {a: type_of(a) for a in kernel.arg_names if a not in constants}
    divisible = frozenset(a for a in signature if a.endswith("_ptr") or a == "P")
    label = " ".join([name, dtype, f"BLOCK_D={width}", *(f"{k}={v}" for k, v in constants.items())])
    return Variant(label, kernel, signature, constants, 4, 3, divisible)
