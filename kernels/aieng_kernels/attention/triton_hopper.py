"""Attention on Hopper in Gluon, Triton's lower language: the launches of the kernels beside it. Right and measured on an H200."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from aieng_kernels._family import implementation
from aieng_kernels._launch import device_of
from aieng_kernels.attention.options import Options
from aieng_kernels.attention.triton_flash import TritonFlash, statistics

try:
    from aieng_kernels.attention.triton_hopper_configs import aligned, descriptor, padded, tuned
except ImportError as error:  # Gluon is experimental: another Triton may have it elsewhere or not at all
    _no_gluon: str | None = f"needs Gluon as Triton 3.6 has it ({error})"
else:
    _no_gluon = None


@implementation(
    "attention", "triton_hopper", device="cuda", requires=("triton", "sm_90a"), dtypes=("float16", "bfloat16"), priority=25
)
class TritonHopper:
    """FlashAttention-3's copying warp and overlapped products (arXiv:2407.08608), D a multiple of 8 up to 128."""

    @staticmethod
    def supports(q: Tensor, k: Tensor, v: Tensor, o: Options) -> str | None:
        D = q.shape[3]
        if _no_gluon:
            return _no_gluon
        if D % 8 or not 8 <= D <= 128:
            return f"takes head dims that are multiples of 8 up to 128, not {D}"
        return o.beyond_causal or TritonFlash.supports(q, k, v, o)

    @classmethod
    def forward(cls, q: Tensor, k: Tensor, v: Tensor, o: Options) -> tuple[Tensor, Tensor]:
        B, H, S, D = q.shape
        out = torch.empty_like(q)
        lse = torch.empty((B, H, S), dtype=torch.float32, device=q.device)
        if not q.numel() or not k.numel():
            return out.zero_(), lse.fill_(-torch.inf)
        scale = o.scale
        if scale <= 0:  # the kernel takes maxima before it scales
            q, scale = (-q, -scale) if scale else (q * 0, 1.0)
        operands = [*(descriptor(aligned(x)) for x in (q, k, v)), descriptor(out), lse, *_shape(q, k)]
        with device_of(q):
            cls.launch(B * H, S, padded(D), operands, scale, _bucket(q, k), GROUP=H // k.shape[1], CAUSAL=o.causal)
        return out, lse

    @staticmethod
    def launch(heads: int, S: int, width: int, operands: list[Any], scale: float, bucket: int, **constants: Any) -> None:
        """A block for each tile of rows."""
        tuned("forward", width)[lambda meta: (triton.cdiv(S, 64 * meta["WARPGROUPS"]) * heads,)](
            *operands, scale, bucket, **constants
        )

    @staticmethod
    def backward(
        dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, o: Options
    ) -> tuple[Tensor, Tensor, Tensor]:
        if o.scale <= 0:  # the kernels mask before they scale
            return TritonFlash.backward(dout, q, k, v, out, lse, o)
        dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        if not q.numel() or not k.numel():
            return dq.zero_(), dk.zero_(), dv.zero_()
        B, H, S, D = q.shape
        Hkv, T = k.shape[1:3]
        dout, q, k, v, out = map(aligned, (dout, q, k, v, out))
        constants = {"GROUP": H // Hkv, "CAUSAL": o.causal}
        with device_of(q):
            delta, shift = statistics(out, dout, lse)
            operands = [descriptor(x) for x in (q, dout, k, v, shift, delta, dk, dv)]
            tuned("dkdv", padded(D))[(triton.cdiv(T, 128) * B * Hkv,)](
                *operands, *_shape(q, k), o.scale, _bucket(q, k), **constants
            )  # fmt: skip
            operands = [descriptor(x) for x in (q, dout, k, v, dq)]
            tuned("dq", padded(D))[(triton.cdiv(S, 128) * B * H,)](
                *operands, shift, delta, *_shape(q, k), shift.shape[-1], o.scale, _bucket(q, k), **constants
            )
        return dq, dk, dv


@implementation(
    "attention",
    "triton_hopper_persistent",
    device="cuda",
    requires=("triton", "sm_90a"),
    dtypes=("float16", "bfloat16"),
    priority=-10,
)
class TritonHopperPersistent(TritonHopper):
    """The same forward pass in blocks that stay. Not yet run on a chip, and so taken only by its name."""

    @staticmethod
    def launch(heads: int, S: int, width: int, operands: list[Any], scale: float, bucket: int, **constants: Any) -> None:
        tiles = triton.cdiv(S, 128) * heads
        processors = torch.cuda.get_device_properties(operands[4].device).multi_processor_count
        tuned("persistent", width)[(min(tiles, processors),)](*operands, tiles, scale, bucket, **constants)


def _shape(q: Tensor, k: Tensor) -> tuple[int, int, int]:
    return q.shape[1], q.shape[2], k.shape[2]


def _bucket(q: Tensor, k: Tensor) -> int:
    return max(q.shape[2], k.shape[2]).bit_length()
