"""Attention of one new query over a cache of keys and values, as when text is made token by token: ours, torch's, plain torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from aieng_bench.define import Case, KernelBenchmark, Work, grid
from aieng_suites.kernels import _attention as shared
from aieng_suites.kernels._ours import add_ours


def inputs(case: Case, generator: Any) -> dict[str, Any]:
    import torch

    dtype = getattr(torch, case.dtype)
    shapes = {"q": (case.B, case.H, 1, case.D)} | dict.fromkeys(("k", "v"), (case.B, case.Hkv, case.T, case.D))
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def textbook(q: Any, k: Any, v: Any, case: Case) -> Any:
    """Query heads that share a key head are rows of one product."""
    rows = q.view(case.B, case.Hkv, case.H // case.Hkv, case.D)
    weights = (rows @ k.transpose(-2, -1) / math.sqrt(case.D)).softmax(-1)
    return (weights @ v).view(q.shape)


def oracle(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"out": textbook(**{name: x.double() for name, x in inputs.items()}, case=case)}


def fused(case: Case) -> Callable[..., Any]:
    from torch.nn.functional import scaled_dot_product_attention

    return lambda q, k, v: scaled_dot_product_attention(q, k, v, enable_gqa=case.Hkv != case.H)


def framework(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The textbook form's, each operation rounded to the dtype; in float32 torch's fused function's, as in attention/backward.

    Where heads share keys, the textbook's are products of matrices; torch's fused function is 3.2 times as far off at 8,192 keys
    (D 128), and would not pass beside them.
    """
    return {"out": fused(case)(**inputs) if case.dtype == "float32" else textbook(**inputs, case=case)}


def work(case: Case) -> Work:
    """Every key and value is read once; each meets H / Hkv queries in two products of 2 D operations."""
    size = 4 if case.dtype == "float32" else 2
    moved = 2 * case.B * (case.Hkv * case.T + case.H) * case.D * size
    return Work(flops=4 * case.B * case.H * case.T * case.D, bytes=moved, compute="float32")


HALF = ["bfloat16", "float16"]
CPU = [
    *grid(B=1, H=8, Hkv=8, T=[1024, 8192], D=[64, 128], dtype=["bfloat16", "float32", "float16"]),
    *grid(B=1, H=32, Hkv=8, T=8192, D=128, dtype=["bfloat16", "float32"]),
]
CUDA = [
    *grid(B=[1, 16], H=32, Hkv=8, T=[8192, 65536], D=128, dtype=HALF),
    *grid(B=16, H=16, Hkv=16, T=8192, D=64, dtype=HALF),
]

benchmark = KernelBenchmark(
    name="attention/decode",
    title="Attention, one query over a cache",
    summary="softmax(q kᵀ / √D) v for q of shape (B, H, 1, D), k and v of shape (B, Hkv, T, D), H / Hkv query heads to a key head.",
    baseline="torch_sdpa",
    full={"cpu": CPU, "cuda": CUDA},
    quick={
        "cpu": grid(B=1, H=8, Hkv=8, T=8192, D=64, dtype="bfloat16"),
        "cuda": grid(B=16, H=32, Hkv=8, T=8192, D=128, dtype="bfloat16"),
    },
    inputs=inputs,
    oracle=oracle,
    framework=framework,
    work=work,
)


@benchmark.contender("torch_sdpa", package="torch")
def _sdpa(case: Case) -> Callable[..., Any]:
    return fused(case)


@benchmark.contender("eager", package="torch")
def _eager(case: Case) -> Callable[..., Any]:
    shared.refuse_float16_products(case)
    return lambda q, k, v: textbook(q, k, v, case)


@benchmark.contender("flash_attn", package="flash-attn", requires=("flash-attn",), devices=("cuda",), dtypes=tuple(HALF))
def _flash_attn(case: Case) -> Callable[..., Any]:
    from flash_attn import flash_attn_with_kvcache

    return lambda q, k, v: flash_attn_with_kvcache(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)


def _ours(case: Case, backend: str) -> Callable[..., Any]:
    from aieng_kernels.attention import attention

    shared.refuse_unsupported(case, backend, queries=(case.B, case.H, 1, case.D), keys=(case.B, case.Hkv, case.T, case.D))
    return lambda q, k, v: attention(q, k, v, backend=backend)


add_ours(benchmark, "attention", _ours)
