"""Attention, forward and backward in one: ours, torch's fused function, and attention in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aieng_bench.define import Case, KernelBenchmark, Work, grid
from aieng_suites.kernels import _attention as shared
from aieng_suites.kernels._ours import add_ours, compiles_long


def inputs(case: Case, generator: Any) -> dict[str, Any]:
    return shared.tensors(case, generator, "dout", "q", "k", "v")


def oracle(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """dv = pᵀ dout, dp = dout vᵀ, ds = p (dp − rowsum(p dp)) / √D, dq = ds k, dk = dsᵀ q."""
    import torch

    wide = {name: x.double() for name, x in inputs.items()}
    dq, dk, dv = (torch.zeros_like(wide["q"]) for _ in range(3))
    for head, block, p in shared.oracle_blocks(case, inputs):
        q, k, v, dout = wide["q"][head][block], wide["k"][head], wide["v"][head], wide["dout"][head][block]
        dp = dout @ v.T
        ds = p * (dp - (p * dp).sum(-1, keepdim=True)) / case.D**0.5
        dq[head][block] = ds @ k
        dk[head] += ds.T @ q
        dv[head] += p.T @ dout
    return {"dq": dq, "dk": dk, "dv": dv}


def with_gradients(attention: shared.Attention) -> Callable[..., Any]:
    """One training step's worth: out from q, k, v, then their gradients from dout."""
    import torch

    def step(dout: Any, q: Any, k: Any, v: Any) -> Any:
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]
        return torch.autograd.grad(attention(leaves[0], leaves[1], leaves[2]), leaves, dout)

    return step


def framework(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The textbook form's, each operation rounded to the dtype; in float32 torch's fused function's.

    A fused backward pass forms probabilities again from rounded scores. In float32, in single rows under a causal mask, torch's is
    2.6 times as far off as the textbook's (S 1024, D 128), and would not pass beside it.
    """
    fused = case.dtype == "float32"
    results = with_gradients(shared.sdpa(case))(**inputs) if fused else shared.by_heads(case, inputs, with_gradients)
    return dict(zip(benchmark.outputs, results, strict=True))


def work(case: Case) -> Work:
    return shared.work(case, products=2 + 5, tensors_moved=7)


HALF = ["bfloat16", "float16"]
CPU = [
    *grid(B=1, H=8, S=[512, 1024, 2048], D=[64, 128], dtype=["bfloat16", "float32"], causal=[False, True]),
    *grid(B=1, H=8, S=[512, 1024], D=[64, 128], dtype="float16", causal=[False, True]),
    *grid(B=32, H=3, S=65, D=64, dtype=["bfloat16", "float32"], causal=False),
]
CUDA = grid(B=4, H=16, S=[2048, 4096, 8192, 16384], D=[64, 128], dtype=HALF, causal=[False, True])

benchmark = KernelBenchmark(
    name="attention/backward",
    title="Attention, forward + backward",
    summary="Attention and, from dout, its gradients dq, dk and dv: forward and backward are timed together, for all alike.",
    baseline="torch_sdpa",
    full={"cpu": CPU, "cuda": CUDA},
    quick={
        "cpu": grid(B=1, H=8, S=1024, D=64, dtype="bfloat16", causal=False),
        "cuda": grid(B=4, H=16, S=4096, D=[64, 128], dtype="bfloat16", causal=False),
    },
    outputs=("dq", "dk", "dv"),
    inputs=inputs,
    oracle=oracle,
    framework=framework,
    work=work,
)


@benchmark.contender("torch_sdpa", package="torch")
def _sdpa(case: Case) -> Callable[..., Any]:
    return with_gradients(shared.sdpa(case))


@benchmark.contender("eager", package="torch")
def _eager(case: Case) -> Callable[..., Any]:
    return with_gradients(shared.eager(case))


@benchmark.contender("blocked", package="torch")
def _blocked(case: Case) -> Callable[..., Any]:
    return with_gradients(shared.blocked(case))


@benchmark.contender("torch_compile", package="torch", requires=("compiler",), left_out=compiles_long)
def _compiled(case: Case) -> Callable[..., Any]:
    return with_gradients(shared.compiled(case))


shared.add_fused_peers(benchmark, with_gradients)
add_ours(benchmark, "attention", lambda case, backend: with_gradients(shared.ours(case, backend)))
