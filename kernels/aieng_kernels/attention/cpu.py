"""Attention on the CPU: the native kernels, one implementation per instruction set."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from aieng_kernels._family import implementation
from aieng_kernels._native_cpu import cpu
from aieng_kernels.attention.options import Options

_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_LARGEST_HEAD_DIM = 256
_NO_TENSOR = (0, (0, 0, 0, 0))


def _tensor(x: Tensor) -> tuple[int, tuple[int, ...]]:
    return x.data_ptr(), x.stride()


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def _contiguous_like(*tensors: Tensor) -> list[Tensor]:
    return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in tensors]


def _mask(q: Tensor | None, o: Options) -> tuple[int, tuple[int, tuple[int, ...]]]:
    """Its kind, as Mask::Kind in cpu_api.h, and where it, or what makes it, lies."""
    if o.slopes is not None:
        return 4, (o.slopes.data_ptr(), (*o.slopes.stride(), 0, 0))
    if o.mask is None:
        return 0, _NO_TENSOR
    assert q is not None
    return 1 if o.mask.dtype is torch.bool else 3 if o.mask.dtype is q.dtype else 2, _tensor(o.mask)


def _asked(q: Tensor, o: Options) -> Any:
    """The options as the native module keeps them; those without a tensor are made once, for a small call is soon done."""
    return _made(q, o) if o.tensors else _asked_without_tensors(o)


@lru_cache
def _asked_without_tensors(o: Options) -> Any:
    return _made(None, o)


def _made(q: Tensor | None, o: Options) -> Any:
    dropped = (_address(o.seed), o.dropped_words, 1 / (1 - o.dropout))
    sequences = 0 if o.q_starts is None else o.q_starts.shape[0] - 1
    lengths = (sequences, _address(o.q_starts), _address(o.k_starts), _address(o.k_lengths), o.longest_q, o.longest_k)
    return cpu.AttentionOptions(o.scale, (o.left, o.right, o.bottom_right), o.softcap, _mask(q, o), dropped, lengths)


def _problem(isa: str, q: Tensor, k: Tensor, o: Options) -> tuple[Any, ...]:
    """What both passes are told first; the thread count is passed because a thread of ours would not inherit torch's."""
    return isa, _TYPES[q.dtype], q.shape, k.shape, _asked(q, o), torch.get_num_threads()


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
        done = cpu.attention_small(cls.isa, q, k, v, out, _address(lse), scale, is_causal, grouped, torch.get_num_threads())
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
        cpu.attention_forward(*_problem(cls.isa, q, k, o), _tensor(q), _tensor(k), _tensor(v), _tensor(out), lse.data_ptr())
        return out, lse

    @classmethod
    def backward(
        cls, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, o: Options
    ) -> tuple[Tensor, Tensor, Tensor]:
        dq, dk, dv = _contiguous_like(q, k, v)
        inputs = (_tensor(dout), _tensor(q), _tensor(k), _tensor(v), _tensor(out), lse.data_ptr())
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
