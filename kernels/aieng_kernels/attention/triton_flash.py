"""Attention forward and backward in Triton: launches of the kernels beside this file."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from aieng_kernels._family import implementation
from aieng_kernels._launch import device_of
from aieng_kernels.attention.options import Options
from aieng_kernels.attention.triton_backward import statistics_kernel
from aieng_kernels.attention.triton_configs import STATISTICS_PADDING, gradients_at_once, padded, statistics_block, tuned

_FEWEST_ROWS = 16
"""Smallest block of any configuration."""


@implementation(
    "attention", "triton_flash", device="cuda", requires=("triton",), dtypes=("float32", "float16", "bfloat16"), priority=20
)
class TritonFlash:
    """FlashAttention-2 (arXiv:2307.08691), head dimensions that are multiples of 8 up to 256; float32 without TF32."""

    @staticmethod
    def supports(q: Tensor, k: Tensor, v: Tensor, o: Options) -> str | None:
        if o.beyond_causal:
            return o.beyond_causal
        D, longest = q.shape[3], max(q.shape[2], k.shape[2])
        if D % 8 or not 8 <= D <= 256:
            return f"takes head dims that are multiples of 8 up to 256, not {D}"
        if longest > 2**30 or q.shape[0] * q.shape[1] * triton.cdiv(longest, _FEWEST_ROWS) >= 2**31:
            return f"takes fewer than 2^31 blocks of rows; these lengths are {q.shape[2]} and {k.shape[2]}"
        return None

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, o: Options) -> tuple[Tensor, Tensor]:
        B, H, S, D = q.shape
        out = torch.empty_like(q)
        lse = torch.empty((B, H, S), dtype=torch.float32, device=q.device)
        if not q.numel() or not k.numel():
            return out.zero_(), lse.fill_(-torch.inf)
        q, k, v = map(_aligned, (q, k, v))
        scale = o.scale
        if scale <= 0:  # the kernel takes maxima before it scales
            q, scale = (-q, -scale) if scale else (q * 0, 1.0)
        kernel = tuned("forward", D, q.element_size())
        strides = (*_strides(q), *_strides(k), *_strides(v), *_strides(out))
        with device_of(q):
            kernel[lambda meta: (triton.cdiv(S, meta["BLOCK_M"]) * B * H,)](
                q, k, v, out, lse, *strides, *_shape(q, k), scale, _bucket(q, k), **_constants(q, k, o.causal)
            )
        return out, lse

    @staticmethod
    def backward(
        dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, o: Options
    ) -> tuple[Tensor, Tensor, Tensor]:
        dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        if not q.numel() or not k.numel():
            return dq.zero_(), dk.zero_(), dv.zero_()
        B, H, S, D = q.shape
        Hkv, T = k.shape[1:3]
        dout, q, k, v, out = map(_aligned, (dout, q, k, v, out))
        strides = (*_strides(q), *_strides(k), *_strides(v), *_strides(dout))
        constants = _constants(q, k, o.causal)
        with device_of(q):
            delta, shift = statistics(out, dout, lse)
            shape = (*_shape(q, k), delta.shape[-1], o.scale, _bucket(q, k))
            dkdv = tuned("dkdv", D, q.element_size())
            for want_dk, want_dv in gradients_at_once(padded(D)):
                dkdv[lambda meta: (triton.cdiv(T, meta["BLOCK_N"]) * B * Hkv,)](
                    q, k, v, dout, delta, shift, dk, dv, *strides, *shape, **constants, WANT_DK=want_dk, WANT_DV=want_dv
                )
            tuned("dq", D, q.element_size())[lambda meta: (triton.cdiv(S, meta["BLOCK_M"]) * B * H,)](
                q, k, v, dout, delta, shift, dq, *strides, *shape, **constants
            )
        return dq, dk, dv


def statistics(out: Tensor, dout: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """delta and lse in the exponent's base, [B, H, P] float32, P being S rounded up."""
    B, H, S, D = out.shape
    P = triton.cdiv(S, STATISTICS_PADDING) * STATISTICS_PADDING
    delta, shift = (torch.empty((B, H, P), dtype=torch.float32, device=out.device) for _ in range(2))
    rows = statistics_block(padded(D))
    statistics_kernel[(P // rows * B * H,)](
        out, dout, lse, delta, shift, *_strides(out), *_strides(dout), H, S, P, D=D, BLOCK_D=padded(D), BLOCK_M=rows
    )
    return delta, shift


def _aligned(x: Tensor) -> Tensor:
    """x itself if every row starts at 16 bytes and strides are whole units of 8 elements, as the kernels take them; else a copy."""
    good = x.data_ptr() % 16 == 0 and all(s % 8 == 0 for s in x.stride()[:3])
    return x if good else x.clone(memory_format=torch.contiguous_format)


def _strides(x: Tensor) -> tuple[int, ...]:
    return tuple(s // 8 for s in x.stride()[:3])


def _shape(q: Tensor, k: Tensor) -> tuple[int, int, int]:
    return q.shape[1], q.shape[2], k.shape[2]


def _bucket(q: Tensor, k: Tensor) -> int:
    return max(q.shape[2], k.shape[2]).bit_length()


def _constants(q: Tensor, k: Tensor, causal: bool) -> dict[str, int | bool]:
    D = q.shape[3]
    return {"GROUP": q.shape[1] // k.shape[1], "D": D, "BLOCK_D": padded(D), "CAUSAL": causal}
