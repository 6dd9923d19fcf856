"""Attention on the CPU: the native kernels, one implementation per instruction set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aieng_kernels._family import implementation
from aieng_kernels._native_cpu import cpu
from aieng_kernels.attention.native_options import address, asked, numbers
from aieng_kernels.attention.options import Options

_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_LARGEST_HEAD_DIM = 256


def _contiguous_like(*tensors: Tensor) -> list[Tensor]:
    return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in tensors]


def _problem(isa: str, q: Tensor, k: Tensor, o: Options) -> tuple[Any, ...]:
    """What both passes are told first; the thread count is passed because a thread of ours would not inherit torch's."""
    return isa, _TYPES[q.dtype], q.shape, k.shape, asked(cpu.AttentionOptions, q, o), torch.get_num_threads()


class _Native:
    """The caller holds every tensor whose address is passed until the native call returns."""

    isa: str

    @classmethod
    def small(
        cls, q: Tensor, k: Tensor, v: Tensor, scale: float | None, is_causal: bool, grouped: bool, lse: Tensor | None = None
    ) -> Tensor | None:
        """The output of tensors whose fitness the native module judges itself; None, soon, unless they are few and fit.

        ``lse`` is written too if given.
        """
        out = torch.empty_like(q)
        done = cpu.attention_small(cls.isa, q, k, v, out, address(lse), scale, is_causal, grouped, torch.get_num_threads())
        return out if done else None

    @classmethod
    def small_backward(
        cls, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, scale: float | None, is_causal: bool
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """The gradients of a call that :meth:`small` took; None if dout is of another kind."""
        dq, dk, dv = _contiguous_like(q, k, v)
        results = (dq.data_ptr(), dk.data_ptr(), dv.data_ptr())
        done = cpu.attention_small_backward(
            cls.isa, dout, q, k, v, out, lse.data_ptr(), *results, scale, is_causal, torch.get_num_threads()
        )
        return (dq, dk, dv) if done else None

    @staticmethod
    def supports(q: Tensor, k: Tensor, v: Tensor, o: Options) -> str | None:
        head_dim = q.shape[-1]
        return None if 1 <= head_dim <= _LARGEST_HEAD_DIM else f"head dim {head_dim} is not in 1..{_LARGEST_HEAD_DIM}"

    @classmethod
    def forward(cls, q: Tensor, k: Tensor, v: Tensor, o: Options) -> tuple[Tensor, Tensor]:
        batch, heads, queries, _ = q.shape
        out, lse = torch.empty_like(q), torch.empty((batch, heads, queries), dtype=torch.float32)
        cpu.attention_forward(*_problem(cls.isa, q, k, o), numbers(q), numbers(k), numbers(v), numbers(out), lse.data_ptr())
        return out, lse

    @classmethod
    def backward(
        cls, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, o: Options
    ) -> tuple[Tensor, Tensor, Tensor]:
        dq, dk, dv = _contiguous_like(q, k, v)
        inputs = (numbers(dout), numbers(q), numbers(k), numbers(v), numbers(out), lse.data_ptr())
        cpu.attention_backward(*_problem(cls.isa, q, k, o), *inputs, dq.data_ptr(), dk.data_ptr(), dv.data_ptr())
        return dq, dk, dv


@implementation("attention", "cpu_avx512_bf16", device="cpu", requires=("avx512_bf16",), dtypes=("bfloat16",), priority=30)
class Avx512Bf16(_Native):
    """bfloat16 dot products (vdpbf16ps)."""

    isa = "avx512_bf16"


@implementation(
    "attention", "cpu_avx512", device="cpu", requires=("avx512",), dtypes=("float32", "float16", "bfloat16"), priority=20
)
class Avx512(_Native):
    """float32 arithmetic, sixteen lanes."""

    isa = "avx512"


@implementation("attention", "cpu_avx2", device="cpu", requires=("avx2",), dtypes=("float32", "float16", "bfloat16"), priority=10)
class Avx2(_Native):
    """float32 arithmetic, eight lanes with FMA."""

    isa = "avx2"


@implementation(
    "attention", "cpu_portable", device="cpu", requires=("native",), dtypes=("float32", "float16", "bfloat16"), priority=0
)
class Portable(_Native):
    """float32 arithmetic, four lanes in whatever vector unit the target has."""

    isa = "portable"
