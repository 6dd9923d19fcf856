"""What the attention benchmarks share: inputs, the oracle in float64, the work of a case, and what people use today."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aieng_bench.define import Case, KernelBenchmark, Unsupported, Work

if TYPE_CHECKING:
    from torch import Tensor

    Attention = Callable[..., Tensor]
    Product = Callable[[Tensor, Tensor], Tensor]

ORACLE_SCORES = 1 << 24
"""Scores the oracle holds at once (128 MiB), so that long sequences need no S x T matrix per head."""
BLOCK = 256
"""Queries a block of the best-effort plain-torch attention takes."""


def tensors(case: Case, generator: Any, *names: str) -> dict[str, Any]:
    """Independent normal tensors (B, H, S, D) in the case's dtype."""
    import torch

    dtype = getattr(torch, case.dtype)
    shape = (case.B, case.H, case.S, case.D)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name in names}


def pairs(case: Case) -> int:
    """Query-key pairs that must be scored: S (S + 1) / 2 under causal, else S squared."""
    pairs_of_a_head = case.S * (case.S + 1) // 2 if case.causal else case.S**2
    return int(case.B * case.H * pairs_of_a_head)


def work(case: Case, products: int, tensors_moved: int) -> Work:
    """``products`` matrix products of 2 D operations a pair; on the CPU no unit multiplies float16, so float32 bounds it."""
    size = 4 if case.dtype == "float32" else 2
    wide = case.dtype == "float32" or (case.dtype == "float16" and case.device == "cpu")
    moved = tensors_moved * case.B * case.H * case.S * case.D * size
    return Work(flops=products * 2 * case.D * pairs(case), bytes=moved, compute="float32" if wide else "bfloat16")


def oracle_blocks(case: Case, inputs: Mapping[str, Any]) -> Iterator[tuple[Any, slice, Any]]:
    """(head, queries, probabilities) over all of q: softmax(q k^T / sqrt(D)) in float64 from the quantised inputs."""
    import torch

    rows = max(1, ORACLE_SCORES // case.S)
    for head in [(b, h) for b in range(case.B) for h in range(case.H)]:
        q, k = inputs["q"][head].double(), inputs["k"][head].double()
        for first in range(0, case.S, rows):
            block = slice(first, min(first + rows, case.S))
            scores = q[block] @ k.T / math.sqrt(case.D)
            if case.causal:
                query = torch.arange(block.start, block.stop, device=q.device)[:, None]
                scores.masked_fill_(torch.arange(case.S, device=q.device) > query, -torch.inf)
            yield head, block, scores.softmax(-1)


def sdpa(case: Case) -> Attention:
    from torch.nn.functional import scaled_dot_product_attention

    return lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=case.causal)


def textbook(case: Case, product: Product) -> Attention:
    """Three lines of torch."""
    import torch

    hidden = torch.ones(case.S, case.S, dtype=torch.bool, device=case.device).triu(1) if case.causal else None

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = product(q, k.transpose(-2, -1)) / math.sqrt(case.D)
        scores = scores if hidden is None else scores.masked_fill(hidden, -torch.inf)
        return product(scores.softmax(-1), v)

    return attention


def eager(case: Case) -> Attention:
    import torch

    refuse_float16_products(case)
    return textbook(case, torch.matmul)


def by_heads(case: Case, inputs: Mapping[str, Any], f: Callable[[Attention], Callable[..., Any]]) -> list[Any]:
    """``f`` of textbook attention, one head after another: the framework's own result, each operation rounded to the case's dtype.

    This is the yardstick of Dao et al., FlashAttention (2022), whose tests allow twice its error.
    """
    import torch

    def upcast(a: Tensor, b: Tensor) -> Tensor:
        return (a.float() @ b.float()).to(a.dtype)

    slow = case.device == "cpu" and case.dtype == "float16"
    call = f(textbook(case, upcast if slow else torch.matmul))
    results = [call(**{n: x[b, h] for n, x in inputs.items()}) for b in range(case.B) for h in range(case.H)]
    columns = zip(*(r if isinstance(r, tuple) else (r,) for r in results), strict=True)
    return [torch.stack(column).view(case.B, case.H, case.S, case.D) for column in columns]


def compiled(case: Case) -> Attention:
    import torch

    compiled: Attention = torch.compile(eager(case), dynamic=False)
    return compiled


def blocked(case: Case) -> Attention:
    """The best we know in plain torch: a block of queries at a time, so that scores stay in cache and causal work is skipped."""
    import torch

    refuse_float16_products(case)
    scale, block = 1.0 / math.sqrt(case.D), min(BLOCK, case.S)
    hidden = torch.ones(block, block, dtype=torch.bool, device=case.device).triu(1) if case.causal else None

    def rows(q: Tensor, kt: Tensor, v: Tensor, first: int) -> Tensor:
        seen = first + q.shape[1] if case.causal else kt.shape[2]
        scores = torch.baddbmm(q.new_empty(()), q, kt[:, :, :seen], beta=0, alpha=scale)
        if hidden is not None:
            mask = hidden[: q.shape[1], : q.shape[1]]
            scores = torch.cat([scores[:, :, :first], scores[:, :, first:].masked_fill(mask, -torch.inf)], -1)
        return torch.bmm(scores.softmax(-1), v[:, :seen])

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q3, k3, v3 = (x.flatten(0, 1) for x in (q, k, v))
        kt = k3.transpose(1, 2)
        parts = [rows(q3[:, i : i + block], kt, v3, i) for i in range(0, case.S, block)]
        return torch.cat(parts, 1).view(q.shape)

    return attention


def refuse_float16_products(case: Case) -> None:
    if case.device == "cpu" and case.dtype == "float16":
        raise Unsupported("torch has no fast float16 matrix product on the CPU (under 6 GFLOP/s)")


def ours(case: Case, backend: str) -> Attention:
    """Our implementation ``backend``."""
    from aieng_kernels.attention import attention

    shape = (case.B, case.H, case.S, case.D)
    refuse_unsupported(case, backend, shape, shape)
    return lambda q, k, v: attention(q, k, v, is_causal=case.causal, backend=backend)


def refuse_unsupported(case: Case, backend: str, queries: tuple[int, ...], keys: tuple[int, ...]) -> None:
    """Raise Unsupported, with the implementation's own words, if it does not take tensors of these shapes."""
    import torch
    from aieng_kernels._family import named
    from aieng_kernels.attention.options import Options

    q, k = (torch.empty(shape, dtype=getattr(torch, case.dtype), device="meta") for shape in (queries, keys))
    if reason := named("attention", backend).load().supports(q, k, k, Options()):
        raise Unsupported(reason)


def sdpa_by(case: Case, backend: str) -> Attention:
    """torch's fused function held to one of its CUDA backends: ``CUDNN_``, ``FLASH_`` or ``EFFICIENT_ATTENTION``."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    chosen, attention = getattr(SDPBackend, backend), sdpa(case)

    def held(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(chosen):
            return attention(q, k, v)

    return held


def flash_attn(case: Case) -> Attention:
    """FlashAttention's own package, where it is installed; it takes heads behind the length."""
    from flash_attn import flash_attn_func

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = flash_attn_func(*(x.transpose(1, 2) for x in (q, k, v)), causal=case.causal)
        return out.transpose(1, 2)

    return attention


def add_fused_peers(benchmark: KernelBenchmark, wrap: Callable[[Attention], Callable[..., Any]]) -> None:
    """The fused attentions that people use on CUDA, each by name; ``wrap`` makes of one what is timed."""
    for backend in ("cudnn", "flash", "efficient"):

        def setup(case: Case, name: str = f"{backend.upper()}_ATTENTION") -> Callable[..., Any]:
            return wrap(sdpa_by(case, name))

        benchmark.contender(f"torch_{backend}", package="torch", devices=("cuda",), dtypes=("bfloat16", "float16"))(setup)
    benchmark.contender(
        "flash_attn", package="flash-attn", requires=("flash-attn",), devices=("cuda",), dtypes=("bfloat16", "float16")
    )(lambda case: wrap(flash_attn(case)))
