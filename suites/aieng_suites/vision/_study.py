"""What the studies share: metrics, the hash of what a study is made of, the attention under a transformer, the run of a network.

Importing this imports no torch, as importing a study must not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aieng_kernels._family import candidates, declared

from aieng_bench.define import Case, Metric, Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from aieng_suites.vision._training import Figure, Recipe, Task
    from aieng_suites.vision.models.vit import Attention

Run = Callable[[int], "Mapping[str, Figure]"]
FOLDER = Path(__file__).parent
PRELOAD = ("torch", "torch._dynamo", "transformers.modeling_utils")
"""What most contenders import, and what of it takes longest; optimizers import the second."""
SHARED = ("_study.py", "_training.py", "_exhibits.py", "data/__init__.py")


def figures_of(quality: Metric, target: float, things: str = "images") -> tuple[Metric, ...]:
    """The metrics of a trained network, as ``_training.figures`` gives them: quality, time to it, speed, size, memory.

    ``things`` are what the network sees many of, the task's ``things``.
    """
    percent = round(100 * target)
    return (
        quality,
        Metric(f"time_to_{percent}_s", "s", "lower", f"training time to {percent} % validation {quality.name}", optional=True),
        Metric(f"train_{things}_per_s", f"{things}/s", "higher", "training throughput"),
        Metric(f"inference_{things}_per_s", f"{things}/s", "higher", "inference throughput, batch 256"),
        Metric("latency_p50_us", "µs", "lower", "latency p50, batch 1"),
        Metric("latency_p99_us", "µs", "lower", "latency p99, batch 1"),
        Metric("latency_64_p50_us", "µs", "lower", "latency p50, batch 64"),
        Metric("latency_64_p99_us", "µs", "lower", "latency p99, batch 64"),
        Metric("flops", "FLOP", "lower", f"operations of one {things[:-1]}"),
        Metric("parameters", "", "lower", "parameters"),
        Metric("peak_bytes", "B", "lower", "peak memory of training"),
    )


def source(*files: str, attention: bool = False) -> Callable[[], str]:
    """Function that hashes what a study is made of: ``files`` of this folder, what all share and, if asked, our attention."""

    def hashed() -> str:
        whole = hashlib.sha256(b"\0".join((FOLDER / name).read_bytes() for name in (*SHARED, *files)))
        if attention:
            whole.update(declared("attention")[0].source_hash().encode())
        return whole.hexdigest()[:16]

    return hashed


def our_attention(case: Case) -> Attention:
    """Our attention as the models call it, at every size; torch's where a mask wants a gradient, which ours does not give.

    (The drop-in hands small calls on a CPU to torch.) Unsupported where only the plain-torch definition of ours would run.
    """
    if all(i.name == "reference" for i in candidates("attention", case.device, "float32")):
        raise Unsupported(f"no compiled attention for float32 on {case.device} here")
    from aieng_kernels.attention import attention

    torchs = torch_attention()

    def ours(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        if attn_mask is not None and attn_mask.requires_grad:
            return torchs(q, k, v, attn_mask=attn_mask, is_causal=is_causal)
        return attention(q, k, v, attn_mask=attn_mask, is_causal=is_causal)

    return ours


def torch_attention() -> Attention:
    """torch's own."""
    from torch.nn.functional import scaled_dot_product_attention

    return scaled_dot_product_attention


def network(case: Case, build: Callable[[], Any], recipe: Recipe, task: Task | Callable[[int], Task]) -> Run:
    """The run of a network: train it for the case's epochs from the seed, judge it on the test part, time its inference.

    ``task`` may be a function of the seed.
    """
    from aieng_suites.vision import _training

    device, epochs = case.device, case.epochs

    def run(seed: int) -> dict[str, Figure]:
        given = task if isinstance(task, _training.Task) else task(seed)
        return _training.figures(build, recipe, given, epochs=epochs, seed=seed, device=device)

    return run
