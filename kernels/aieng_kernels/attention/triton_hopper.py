"""Attention on Hopper in Gluon, Triton's lower language: the launch of the forward kernel; the backward pass is Triton's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from aieng_kernels._aot import Variant
from aieng_kernels._family import implementation
from aieng_kernels._launch import device_of
from aieng_kernels.attention.triton_flash import TritonFlash

try:
    from triton.experimental.gluon.language import NVMMASharedLayout
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    from aieng_kernels.attention.triton_hopper_forward import ROWS, hopper_kernel
except ImportError as error:  # Gluon is experimental: another Triton may have it elsewhere or not at all
    _no_gluon: str | None = f"needs Gluon as in Triton 3.6 ({error})"
else:
    _no_gluon = None

_TABLE: dict[int, list[tuple[int, int, int]]] = {64: [(3, 128, 3), (2, 128, 3)], 128: [(2, 128, 2), (2, 64, 3)]}
"""Padded head dimension -> (WARPGROUPS, BLOCK_N, STAGES), of which the autotuner chooses."""


@implementation(
    "attention", "triton_hopper", device="cuda", requires=("triton", "sm_90a"), dtypes=("float16", "bfloat16"), priority=25
)
class TritonHopper:
    """FlashAttention-3's pipeline (arXiv:2407.08608), D a multiple of 8 up to 128; backward as triton_flash."""

    @staticmethod
    def supports(q: Tensor, k: Tensor, v: Tensor) -> str | None:
        D = q.shape[3]
        if _no_gluon:
            return _no_gluon
        if D % 8 or not 8 <= D <= 128:
            return f"takes head dims that are multiples of 8 up to 128, not {D}"
        return TritonFlash.supports(q, k, v)

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
        B, H, S, D = q.shape
        T = k.shape[2]
        out = torch.empty_like(q)
        lse = torch.empty((B, H, S), dtype=torch.float32, device=q.device)
        if not q.numel() or not k.numel():
            return out.zero_(), lse.fill_(-torch.inf)
        if scale <= 0:  # the kernel takes maxima before it scales
            q, scale = (-q, -scale) if scale else (q * 0, 1.0)
        width = 64 if D <= 64 else 128
        operands = [descriptor(x, width) for x in (q, k, v, out)]
        with device_of(q):
            tuned(width)[lambda meta: (triton.cdiv(S, 64 * meta["WARPGROUPS"]) * B * H,)](
                *operands, lse, H, S, T, scale, max(S, T).bit_length(), GROUP=H // k.shape[1], CAUSAL=causal
            )
        return out, lse

    backward = TritonFlash.backward


def descriptor(x: Tensor, width: int) -> TensorDescriptor:
    """x (B, H, S, D) as the TMA takes it, in tiles of 64 rows by ``width``; copied if rows start off 16 bytes or are shared.

    Strides of 0 are refused by the driver; that of a dimension of size 1 is never used, and may be any.
    """
    if x.data_ptr() % 16 or any(s % 8 or not s for n, s in zip(x.shape[:3], x.stride()) if n > 1):
        x = x.clone(memory_format=torch.contiguous_format)
    strides = [s if n > 1 else x.shape[3] for n, s in zip(x.shape[:3], x.stride())]
    return TensorDescriptor(x, list(x.shape), [*strides, 1], [1, 1, ROWS.value, width], _tile_layout())


def _tile_layout() -> NVMMASharedLayout:
    return NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=4)


@cache
def tuned(width: int) -> Any:
    """The kernel, choosing its configuration by trial once for causal or not and power of two of the longer sequence."""
    return triton.autotune(configs=configurations(width), key=["CAUSAL", "GROUP", "bucket"])(hopper_kernel)


def configurations(width: int) -> list[triton.Config]:
    """Configurations for tiles of ``width`` dimensions."""
    return [
        triton.Config({"WARPGROUPS": w, "BLOCK_N": n, "STAGES": s}, num_warps=4, pre_hook=_fit_key_tiles)
        for w, n, s in _TABLE[width]
    ]


def _fit_key_tiles(arguments: dict[str, Any]) -> None:
    for name in ("k_desc", "v_desc"):
        tile = arguments[name].block_shape
        arguments[name].block_shape = [1, 1, arguments["BLOCK_N"], tile[3]]


def variants() -> Iterator[Variant]:
    """The kernel in every configuration and dtype."""
    for width in _TABLE:
        for config in configurations(width):
            for dtype, causal, group in (("bf16", False, 1), ("bf16", True, 4), ("fp16", True, 1)):
                yield _variant(dtype, width, {**config.kwargs, "CAUSAL": causal, "GROUP": group})


def _variant(dtype: str, width: int, constants: dict[str, Any]) -> Variant:
    def tile(rows: int) -> str:
        return f"tensordesc<{dtype}[1, 1, {rows}, {width}],{_tile_layout()!r}>"

    tiles = {"q_desc": ROWS.value, "k_desc": constants["BLOCK_N"], "v_desc": constants["BLOCK_N"], "out_desc": ROWS.value}
    signature = {name: tile(rows) for name, rows in tiles.items()}
    signature |= {"lse_ptr": "*fp32", "H": "i32", "S": "i32", "T": "i32", "scale": "fp32", "bucket": "i32"}
    label = " ".join(["hopper", dtype, f"BLOCK_D={width}", *(f"{k}={v}" for k, v in constants.items())])
    return Variant(label, hopper_kernel, signature, constants, 4, 3, frozenset({"lse_ptr"}))
