"""Inputs of a case: made from a seed anywhere in the same way, digested, and copied for the cold-cache figure."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aieng_bench.define import Case, KernelBenchmark

_PLACE = ("device", "malloc")
"""Axes that say where and how a case runs; they leave its seed alone."""
PUBLIC = 0
"""Key of the digest that a record carries; that of a process is its own secret."""
_SECRET = secrets.randbits(62)
WORDS = 1 << 22
"""Words of 32 bits that a device multiplies by its weights at once (32 MiB of products)."""


def seed_of(benchmark: str, case: Case, seed: int) -> int:
    """The generator's seed: a hash of the benchmark, the case without its place, and the number of the seed."""
    axes = ",".join(f"{axis}={value}" for axis, value in case.items() if axis not in _PLACE)
    return int.from_bytes(hashlib.sha256(f"{benchmark}\0{axes}\0{seed}".encode()).digest()[:7], "big")


def make_inputs(benchmark: KernelBenchmark, case: Case, seed: int) -> dict[str, Any]:
    """Fresh inputs, drawn on the case's device: a CPU's generator takes half a second for 100 MB of normal numbers."""
    device = str(case["device"])
    generator = torch.Generator(device).manual_seed(seed_of(benchmark.name, case, seed))
    if device == "cpu":
        return benchmark.inputs(case, generator)
    with torch.device(device):
        made = benchmark.inputs(case, generator)
    return {name: to_device(value, device) for name, value in made.items()}


def to_device(value: Any, device: str) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.detach().to(device).requires_grad_(value.requires_grad)


def digest(inputs: Mapping[str, Any], key: int = _SECRET) -> dict[str, str]:
    """A hash per input, of its value, layout and the whole memory behind it: what a contender may not change."""
    return {name: digest_of(value, key) for name, value in inputs.items()}


def digest_of(value: Any, key: int = _SECRET) -> str:
    if not isinstance(value, Tensor):
        return hashlib.sha256(repr(value).encode()).hexdigest()
    layout = f"{value.dtype} {tuple(value.shape)} {value.stride()} {value.storage_offset()}"
    return hashlib.sha256(f"{layout} {content(bytes_of(value), key)}".encode()).hexdigest()


def content(memory: Tensor, key: int) -> str:
    """Hash of some bytes: SHA-256 on the CPU; on a device, from which they would have to be moved first, :func:`summed`."""
    return hashlib.sha256(memory.numpy().data).hexdigest() if memory.device.type == "cpu" else summed(memory, key)


def summed(memory: Tensor, key: int) -> str:
    """SHA-256 over ``Σ wᵢ xᵢ mod 2^64`` of each so many 32-bit words xᵢ, the weights w drawn from ``key``.

    Two contents that differ have equal sums under one key in 2^33 at most (Lemire and Kaser, arXiv:1202.4961), and sums of integers
    depend on no order. One key means the same weights on devices of one kind alone.
    """
    size = memory.numel()
    if size % 4 or memory.storage_offset() % 4:
        memory = torch.cat([memory, memory.new_zeros(-size % 4)])
    words = memory.view(torch.int32)
    weights = torch.empty(min(words.numel(), WORDS), dtype=torch.int64, device=memory.device)
    weights.random_(generator=torch.Generator(memory.device).manual_seed(key))
    parts = [words[first : first + WORDS] for first in range(0, words.numel(), WORDS)]
    sums = [(part * weights[: part.numel()]).sum() for part in parts]
    return hashlib.sha256(f"{size} {torch.stack(sums).tolist() if sums else []}".encode()).hexdigest()


def bytes_of(value: Tensor) -> Tensor:
    """The whole memory behind a tensor, as bytes."""
    return torch.empty(0, dtype=torch.uint8, device=value.device).set_(value.untyped_storage())


def differing(inputs: Mapping[str, Any], digests: Mapping[str, str]) -> list[str]:
    """Names of the inputs that are no longer what was digested."""
    now = digest(inputs)
    return [name for name, was in digests.items() if now[name] != was]


def refill(inputs: dict[str, Any], fresh: Mapping[str, Any]) -> None:
    """Give every input the values of ``fresh`` where it lies; one that cannot hold them is replaced by a copy."""
    for name, value in fresh.items():
        old = inputs[name]
        if not isinstance(value, Tensor) or value.untyped_storage().nbytes() != old.untyped_storage().nbytes():
            inputs[name] = copied(value)
        else:
            bytes_of(old).copy_(bytes_of(value))


def combined(digests: Mapping[str, str]) -> str:
    """One hash of all inputs, as the record carries it."""
    return hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()[:16]


def size_of(inputs: Mapping[str, Any]) -> int:
    return sum(v.untyped_storage().nbytes() for v in inputs.values() if isinstance(v, Tensor))


def copies(inputs: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """``count`` copies of equal layout in memory of their own."""
    return [{name: copied(value) for name, value in inputs.items()} for _ in range(count)]


def copied(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    memory = bytes_of(value).clone().untyped_storage()
    copy = torch.empty(0, dtype=value.dtype, device=value.device)
    return copy.set_(memory, value.storage_offset(), value.shape, value.stride()).requires_grad_(value.requires_grad)
