"""Attention, forward: ours, torch's fused function, and attention in plain torch, eager, blocked and compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aieng_bench.define import Case, KernelBenchmark, Work, grid
from aieng_suites.kernels import _attention as shared
from aieng_suites.kernels._ours import add_ours, compiles_long


def inputs(case: Case, generator: Any) -> dict[str, Any]:
    return shared.tensors(case, generator, "q", "k", "v")


def oracle(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    out = inputs["q"].double()
    for head, block, p in shared.oracle_blocks(case, inputs):
        out[head][block] = p @ inputs["v"][head].double()
    return {"out": out}


def framework(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"out": shared.by_heads(case, inputs, lambda attention: attention)[0]}


def work(case: Case) -> Work:
    return shared.work(case, products=2, tensors_moved=4)


HALF = ["bfloat16", "float16"]
VISION = grid(B=32, H=3, S=65, D=64, dtype=["bfloat16", "float32"], causal=False)
"""A small vision transformer's: 64 patches and a class token."""
CPU = [
    *grid(B=1, H=8, S=[512, 1024, 2048, 4096], D=[64, 128], dtype=["bfloat16", "float32", "float16"], causal=[False, True]),
    *VISION,
]
QUICK_CPU = [
    *grid(B=2, H=8, S=512, D=64, dtype="float32", causal=False),
    *grid(B=2, H=8, S=1024, D=64, dtype="bfloat16", causal=True),
]
CUDA = grid(B=4, H=16, S=[2048, 4096, 8192, 16384], D=[64, 128], dtype=HALF, causal=[False, True])
QUICK_CUDA = grid(B=4, H=16, S=4096, D=[64, 128], dtype="bfloat16", causal=[False, True])

benchmark = KernelBenchmark(
    name="attention/forward",
    title="Attention, forward",
    summary="softmax(q kᵀ / √D) v for q, k, v of shape (B, H, S, D); causal is aligned top-left.",
    baseline="torch_sdpa",
    full={"cpu": CPU, "cuda": CUDA},
    quick={"cpu": QUICK_CPU, "cuda": QUICK_CUDA},
    inputs=inputs,
    oracle=oracle,
    framework=framework,
    work=work,
)


@benchmark.contender("torch_sdpa", package="torch")
def _sdpa(case: Case) -> Callable[..., Any]:
    return shared.sdpa(case)


@benchmark.contender("eager", package="torch")
def _eager(case: Case) -> Callable[..., Any]:
    return shared.eager(case)


@benchmark.contender("blocked", package="torch")
def _blocked(case: Case) -> Callable[..., Any]:
    return shared.blocked(case)


@benchmark.contender("torch_compile", package="torch", requires=("compiler",), left_out=compiles_long)
def _compiled(case: Case) -> Callable[..., Any]:
    return shared.compiled(case)


@benchmark.contender("flex_attention", package="torch", requires=("compiler",), left_out=compiles_long)
def _flex(case: Case) -> Callable[..., Any]:
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def seen(b: Any, h: Any, query: Any, key: Any) -> Any:
        return query >= key

    mask = create_block_mask(seen, None, None, case.S, case.S, device=case.device) if case.causal else None
    flex = torch.compile(flex_attention, dynamic=False)
    return lambda q, k, v: flex(q, k, v, block_mask=mask)


shared.add_fused_peers(benchmark, lambda attention: attention)
add_ours(benchmark, "attention", shared.ours)
