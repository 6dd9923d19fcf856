"""Inputs of a case: made from a seed anywhere in the same way, digested, and copied for the cold-cache figure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aieng_bench.define import Case, KernelBenchmark

_PLACE = ("device", "malloc")
"""Axes that say where and how a case runs; they leave its inputs alone, so that figures of two devices are of one problem."""


def seed_of(benchmark: str, case: Case, seed: int) -> int:
    """The generator's seed: a hash of the benchmark, the case without its place, and the number of the seed."""
    axes = ",".join(f"{axis}={value}" for axis, value in case.items() if axis not in _PLACE)
    return int.from_bytes(hashlib.sha256(f"{benchmark}\0{axes}\0{seed}".encode()).digest()[:7], "big")


def make_inputs(benchmark: KernelBenchmark, case: Case, seed: int) -> dict[str, Any]:
    """Fresh inputs on the case's device, drawn on the CPU."""
    generator = torch.Generator().manual_seed(seed_of(benchmark.name, case, seed))
    made = benchmark.inputs(case, generator)
    return {name: to_device(value, str(case["device"])) for name, value in made.items()}


def to_device(value: Any, device: str) -> Any:
    if not isinstance(value, Tensor) or device == "cpu":
        return value
    return value.detach().to(device).requires_grad_(value.requires_grad)


def digest(inputs: Mapping[str, Any]) -> dict[str, str]:
    """A hash per input, of its value, layout and the whole memory behind it: what a contender may not change."""
    return {name: digest_of(value) for name, value in inputs.items()}


def digest_of(value: Any) -> str:
    if not isinstance(value, Tensor):
        return hashlib.sha256(repr(value).encode()).hexdigest()
    memory = bytes_of(value).cpu()
    layout = f"{value.dtype} {tuple(value.shape)} {value.stride()} {value.storage_offset()}"
    return hashlib.sha256(layout.encode() + hashlib.sha256(memory.numpy().data).digest()).hexdigest()


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
