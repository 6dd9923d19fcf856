"""Attention forward and backward in Triton: launches of the kernels beside this file.

With the scale and top-left causal alone it is right and measured on an H200; every other option is interpreted against the
definition, forward and every gradient, and compiled for sm_90, but not yet run on a chip.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from aieng_kernels._family import implementation
from aieng_kernels._launch import device_of
from aieng_kernels.attention.options import UNLIMITED, Options
from aieng_kernels.attention.triton_backward import statistics_kernel
from aieng_kernels.attention.triton_configs import STATISTICS_PADDING, gradients_at_once, kind, padded, statistics_block, tuned
from aieng_kernels.attention.triton_options import ADDED_MASK, BOOL_MASK, NO_MASK, SLOPES

_FEWEST_ROWS = 16
"""Smallest block of any configuration."""


@implementation(
    "attention", "triton_flash", device="cuda", requires=("triton",), dtypes=("float32", "float16", "bfloat16"), priority=20
)
class TritonFlash:
    """FlashAttention-2 (arXiv:2307.08691), head dimensions that are multiples of 8 up to 256; float32 without TF32."""

    @staticmethod
    def supports(q: Tensor, k: Tensor, v: Tensor, o: Options) -> str | None:
        D, longest = q.shape[3], max(_lengths(q, k, o))
        if D % 8 or not 8 <= D <= 256:
            return f"takes head dims that are multiples of 8 up to 256, not {D}"
        if longest > 2**30 or _sequences(q, o) * q.shape[1] * triton.cdiv(longest, _FEWEST_ROWS) >= 2**31:
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
        asked = _asked(q, k, o)
        kernel, longest, heads = tuned("forward", D, q.element_size(), kind(asked)), _lengths(q, k, o)[0], _sequences(q, o) * H
        strides = (*_strides(q), *_strides(k), *_strides(v), *_strides(out))
        with device_of(q):
            kernel[lambda meta: (triton.cdiv(longest, meta["BLOCK_M"]) * heads,)](
                q, k, v, out, lse, *strides, *_shape(q, k), scale, _bucket(q, k, o), **_constants(q, k), **asked
            )
        return out, lse

    @staticmethod
    def backward(
        dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, o: Options
    ) -> tuple[Tensor, Tensor, Tensor]:
        dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        if not q.numel() or not k.numel():
            return dq.zero_(), dk.zero_(), dv.zero_()
        H, Hkv, D = q.shape[1], k.shape[1], q.shape[3]
        dout, q, k, v, out = map(_aligned, (dout, q, k, v, out))
        strides = (*_strides(q), *_strides(k), *_strides(v), *_strides(dout))
        asked = _asked(q, k, o)
        constants = _constants(q, k)
        longest_q, longest_k = _lengths(q, k, o)
        sequences = _sequences(q, o)
        with device_of(q):
            delta, shift = statistics(out, dout, lse, natural=asked.get("MASK", 0) >= ADDED_MASK.value)
            shape = (*_shape(q, k), delta.shape[-1], o.scale, _bucket(q, k, o))
            dkdv = tuned("dkdv", D, q.element_size(), kind(asked))
            for want_dk, want_dv in gradients_at_once(padded(D)):
                dkdv[lambda meta: (triton.cdiv(longest_k, meta["BLOCK_N"]) * sequences * Hkv,)](
                    q, k, v, dout, delta, shift, dk, dv, *strides, *shape, **constants, **asked, WANT_DK=want_dk, WANT_DV=want_dv
                )
            tuned("dq", D, q.element_size(), kind(asked))[lambda meta: (triton.cdiv(longest_q, meta["BLOCK_M"]) * sequences * H,)](
                q, k, v, dout, delta, shift, dq, *strides, *shape, **constants, **asked
            )
        return dq, dk, dv


def statistics(out: Tensor, dout: Tensor, lse: Tensor, natural: bool = False) -> tuple[Tensor, Tensor]:
    """delta and lse in the exponent's base, e for any dtype if ``natural``, [B, H, P] float32, P being S rounded up."""
    B, H, S, D = out.shape
    P = triton.cdiv(S, STATISTICS_PADDING) * STATISTICS_PADDING
    delta, shift = (torch.empty((B, H, P), dtype=torch.float32, device=out.device) for _ in range(2))
    rows = statistics_block(padded(D))
    statistics_kernel[(P // rows * B * H,)](
        out, dout, lse, delta, shift, *_strides(out), *_strides(dout), H, S, P, D=D, BLOCK_D=padded(D), BLOCK_M=rows,
        NATURAL=natural,
    )  # fmt: skip
    return delta, shift


def _aligned(x: Tensor) -> Tensor:
    """x itself if every row starts at 16 bytes and strides are whole units of 8 elements, as the kernels take them; else a copy."""
    good = x.data_ptr() % 16 == 0 and all(s % 8 == 0 for s in x.stride()[:3])
    return x if good else x.clone(memory_format=torch.contiguous_format)


def _strides(x: Tensor) -> tuple[int, ...]:
    return tuple(s // 8 for s in x.stride()[:3])


def _shape(q: Tensor, k: Tensor) -> tuple[int, int, int]:
    return q.shape[1], q.shape[2], k.shape[2]


def _lengths(q: Tensor, k: Tensor, o: Options) -> tuple[int, int]:
    """Queries and keys of the longest sequence."""
    return (q.shape[2], k.shape[2]) if o.q_starts is None else (o.longest_q, o.longest_k)


def _sequences(q: Tensor, o: Options) -> int:
    return q.shape[0] if o.q_starts is None else o.q_starts.shape[0] - 1


def _bucket(q: Tensor, k: Tensor, o: Options) -> int:
    return max(_lengths(q, k, o)).bit_length()


def _constants(q: Tensor, k: Tensor) -> dict[str, int]:
    D = q.shape[3]
    return {"GROUP": q.shape[1] // k.shape[1], "D": D, "BLOCK_D": padded(D)}


def _asked(q: Tensor, k: Tensor, o: Options) -> dict[str, Any]:
    """The kernels' arguments for the options: CAUSAL alone where no other is asked, else all of them."""
    if o.beyond_causal is None:
        return {"CAUSAL": o.causal}
    longest_q, longest_k = _lengths(q, k, o)
    all_keys = max(longest_q, longest_k) - 1  # on one side, however a query stands
    window = o.left != UNLIMITED or o.right not in (UNLIMITED, 0) or (o.bottom_right and o.causal)
    asked: dict[str, Any] = {"CAUSAL": o.causal and not window, "WINDOW": window, "CAPPED": o.softcap != 0}
    asked |= {"MASK": NO_MASK.value, "DROPOUT": False, "VARLEN": o.q_starts is not None, "LENGTHS": o.k_lengths is not None}
    if window:
        left, right = (all_keys if side == UNLIMITED else min(side, all_keys) for side in (o.left, o.right))
        asked |= {"left": left, "right": right, "bottom": int(o.bottom_right)}
    if o.softcap:
        asked["softcap"] = o.softcap
    if o.mask is not None:
        added = o.mask.dtype is not torch.bool
        asked |= {"MASK": (ADDED_MASK if added else BOOL_MASK).value, "mask_ptr": o.mask if added else o.mask.view(torch.uint8)}
        asked |= dict(zip(("stride_mb", "stride_mh", "stride_ms", "stride_mt"), o.mask.stride(), strict=True))
    if o.slopes is not None:
        asked |= {"MASK": SLOPES.value, "mask_ptr": o.slopes}
    if o.dropped_words:  # 32 bits, as a signed integer whatever they are
        asked |= {"DROPOUT": True, "seed_ptr": o.seed, "last_dropped": (o.dropped_words - 1 ^ 1 << 31) - (1 << 31)}
        asked["undropped"] = 1 / (1 - o.dropout)
    asked |= {"q_starts_ptr": o.q_starts, "k_starts_ptr": o.k_starts, "k_lengths_ptr": o.k_lengths}
    return asked | {"longest_q": longest_q, "longest_k": longest_k}
