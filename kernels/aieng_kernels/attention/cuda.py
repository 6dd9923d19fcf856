"""Attention in CUDA C++: tensor cores for 16-bit inputs (``sm80_*.cuh``), plain arithmetic for float32 (``simt_tile.cuh``).

Source: Dao, FlashAttention-2 (2023), algorithms 1 and 2. Results are the same on every run: no atomics.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aieng_kernels._cuda_launch import launcher, place
from aieng_kernels._family import implementation
from aieng_kernels.attention.native_options import asked
from aieng_kernels.attention.options import Options

LARGEST_HEAD_DIM = 256
LARGEST_SM90_BACKWARD = 128
"""Head dimension; the gradients of wider keys and values do not fit in a warpgroup's registers together."""
LARGEST_LENGTH = 2**30
"""Rows are counted in 32 bits within a head."""

DTYPE_NAMES = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float32"}


@implementation("attention", "cuda_sm80", device="cuda", requires=("cuda", "sm_80"), dtypes=("bfloat16", "float16"), priority=15)
class CudaSm80:
    """FlashAttention-2 on ``mma.sync`` and ``cp.async``, D a multiple of 8 up to 256; right on an H200 before it took options, of
    which only the scale and top-left causal have run there."""

    @staticmethod
    def supports(q: Tensor, k: Tensor, v: Tensor, o: Options) -> str | None:
        if q.shape[-1] % 8:
            return f"head dim {q.shape[-1]} is not a multiple of 8"
        return _too_large(q, k)

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, o: Options) -> tuple[Tensor, Tensor]:
        return _forward("sm80", torch.empty_like(q), _aligned(q), _aligned(k), _aligned(v), o)

    @staticmethod
    def backward(
        dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, o: Options
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _backward("sm80", [_aligned(x) for x in (dout, q, k, v, out)], lse, o)


@implementation("attention", "cuda_sm90", device="cuda", requires=("cuda", "sm_90a"), dtypes=("bfloat16", "float16"), priority=30)
class CudaSm90:
    """FlashAttention-3 on warpgroup products and the copy engine (``sm90_*.cuh``); backward beyond D = 128 is cuda_sm80's.

    On an H200 about as fast as torch's cuDNN forward, 0.8 times backward (``results/notes/2026-11-26-h200.md``).
    """

    technique = "sm90"

    @staticmethod
    def supports(q: Tensor, k: Tensor, v: Tensor, o: Options) -> str | None:
        return o.beyond_causal or CudaSm80.supports(q, k, v, o)

    @classmethod
    def forward(cls, q: Tensor, k: Tensor, v: Tensor, o: Options) -> tuple[Tensor, Tensor]:
        if not k.numel():
            return torch.zeros_like(q), q.new_full(q.shape[:3], -torch.inf, dtype=torch.float32)
        operands = (_aligned(q, expanded=False), _aligned(k, expanded=False), _aligned(v, expanded=False))
        return _forward(cls.technique, torch.empty_like(q), *operands, o)

    @staticmethod
    def backward(
        dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, o: Options
    ) -> tuple[Tensor, Tensor, Tensor]:
        if q.shape[-1] > LARGEST_SM90_BACKWARD or not k.numel():
            return CudaSm80.backward(dout, q, k, v, out, lse, o)
        return _backward("sm90", [_aligned(x, expanded=False) for x in (dout, q, k, v, out)], lse, o)


@implementation(
    "attention",
    "cuda_sm90_polynomial",
    device="cuda",
    requires=("cuda", "sm_90a"),
    dtypes=("bfloat16", "float16"),
    priority=-20,
)
class CudaSm90Polynomial(CudaSm90):
    """The same with a quarter of the exponentials from a polynomial, D up to 64, which exponentials bind. Not yet run on a chip,
    and so taken only by its name."""

    technique = "sm90_polynomial"

    @staticmethod
    def supports(q: Tensor, k: Tensor, v: Tensor, o: Options) -> str | None:
        if q.shape[-1] > 64:
            return f"head dim {q.shape[-1]} is over 64"
        return CudaSm90.supports(q, k, v, o)


@implementation("attention", "cuda_simt", device="cuda", requires=("cuda", "sm_80"), dtypes=("float32",), priority=10)
class CudaSimt:
    """The same algorithm in float32 multiply-adds, D up to 256; its speed is not yet measured on a chip, and of the options only
    the scale and top-left causal have run."""

    @staticmethod
    def supports(q: Tensor, k: Tensor, v: Tensor, o: Options) -> str | None:
        return _too_large(q, k)

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, o: Options) -> tuple[Tensor, Tensor]:
        return _forward("simt", torch.empty_like(q), q, k, v, o)

    @staticmethod
    def backward(
        dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, o: Options
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _backward("simt", [dout, q, k, v, out], lse, o)


def _too_large(q: Tensor, k: Tensor) -> str | None:
    if not 0 < q.shape[-1] <= LARGEST_HEAD_DIM:
        return f"head dim {q.shape[-1]} is not between 1 and {LARGEST_HEAD_DIM}"
    if max(q.shape[2], k.shape[2]) > LARGEST_LENGTH:
        return f"more than {LARGEST_LENGTH} queries or keys"
    return None


def _aligned(x: Tensor, expanded: bool = True) -> Tensor:
    """x, or a copy of it if some row does not start at a multiple of 16 bytes, as asynchronous copies need.

    Without ``expanded`` also if several elements lie in one place (stride 0), which the copy engine does not take.
    """
    steps = [stride for size, stride in zip(x.shape[:3], x.stride()[:3], strict=True) if size > 1]
    whole = x.data_ptr() % 16 == 0 and all(step * x.element_size() % 16 == 0 for step in steps)
    if whole and (expanded or all(steps)):
        return x
    return x.clone(memory_format=torch.contiguous_format)


def _numbers(x: Tensor) -> tuple[int, ...]:
    return (x.data_ptr(), *x.stride()[:3])


def _shape(q: Tensor, k: Tensor) -> tuple[int, ...]:
    return (q.shape[0], q.shape[1], k.shape[1], q.shape[2], k.shape[2], q.shape[3])


def _forward(technique: str, out: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Options) -> tuple[Tensor, Tensor]:
    lse = q.new_empty(q.shape[:3], dtype=torch.float32)
    tensors = [_numbers(x) for x in (q, k, v, out)]
    kernel = f"{technique}_{DTYPE_NAMES[q.dtype]}"
    launcher("attention_forward")(kernel, _shape(q, k), _asked(q, o), *tensors, lse.data_ptr(), *place(q))
    return out, lse


def _asked(q: Tensor, o: Options) -> Any:
    return asked(launcher("AttentionOptions"), q, o)


def _backward(technique: str, saved: list[Tensor], lse: Tensor, o: Options) -> tuple[Tensor, Tensor, Tensor]:
    _, q, k, v, _ = saved
    # Kernels do not write the gradients of keys beyond a batch's own number.
    new = torch.zeros if o.k_lengths is not None else torch.empty
    dq, dk, dv = (new(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    delta = torch.empty_like(lse)
    inputs, gradients = [_numbers(x) for x in saved], [_numbers(x) for x in (dq, dk, dv)]
    kernel = f"{technique}_{DTYPE_NAMES[q.dtype]}"
    launcher("attention_backward")(
        kernel, _shape(q, k), _asked(q, o), inputs, lse.data_ptr(), delta.data_ptr(), gradients, *place(q)
    )
    return dq, dk, dv
