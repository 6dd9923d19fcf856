"""Outputs on their way from worker to checker: bytes in a file, a description in JSON, and the contract they are held to."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aieng_bench.measure.inputs import content, digest_of

PLAIN = (Tensor, torch.nn.Parameter)


class Changed(ValueError):
    """An output's file does not hold what lay in memory."""


@dataclass(frozen=True)
class Described:
    """What an output is, apart from its values. ``file`` is empty for something that is no plain tensor."""

    type: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    device: str = ""
    alias: str = ""
    """Name of the input whose memory it shares."""
    file: str = ""
    digest: str = ""
    """Of its bytes as they lay in memory, and the key of that hash: the file is not the only witness."""


def named(result: Any, names: Sequence[str]) -> dict[str, Any]:
    """A contender's result by output name. Raises TypeError if there are not as many as declared."""
    if isinstance(result, dict):
        if set(result) != set(names):
            raise TypeError(f"returned {', '.join(map(str, result))}; declared are {', '.join(names)}")
        return {name: result[name] for name in names}
    values = tuple(result) if isinstance(result, (tuple, list)) else (result,)
    if len(values) != len(names):
        raise TypeError(f"returned {len(values)} outputs; declared are {', '.join(names)}")
    return dict(zip(names, values, strict=True))


def fingerprint(result: Any, names: Sequence[str]) -> str:
    """Equal for bit-equal outputs of equal layout."""
    values = named(result, names)
    return " ".join(digest_of(v.detach().contiguous()) if plain(v) else repr(type(v)) for v in values.values())


def plain(value: Any) -> bool:
    """Whether it is a dense tensor with memory of its own: asking a lazy subclass for its values would do the work it put off."""
    return type(value) in PLAIN and value.layout is torch.strided and value.device.type != "meta"


def sizes(result: Any, names: Sequence[str]) -> list[int]:
    """Bytes of memory behind each output that has any."""
    return [value.untyped_storage().nbytes() for value in named(result, names).values() if plain(value)]


def dump(result: Any, names: Sequence[str], inputs: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Write the outputs' bytes into ``folder``; their descriptions, in the order of ``names``."""
    return [asdict(_dump(value, inputs, folder)) for value in named(result, names).values()]


def _dump(value: Any, inputs: Mapping[str, Any], folder: Path) -> Described:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if not plain(value):
        return Described(f"{kind} without memory" if type(value) in PLAIN and value.is_meta else kind)
    shares = [n for n, v in inputs.items() if isinstance(v, Tensor) and _memory(v) == _memory(value) and value.numel()]
    path = folder / secrets.token_hex(8)
    values = value.detach().contiguous().reshape(-1).view(torch.uint8)
    _write(values, path)
    key = secrets.randbits(62)
    return Described(
        type=kind,
        dtype=str(value.dtype).removeprefix("torch."),
        shape=tuple(value.shape),
        strides=value.stride(),
        device=value.device.type,
        alias=shares[0] if shares else "",
        file=str(path),
        digest=f"{key} {content(values, key)}",
    )


def _write(values: Tensor, path: Path) -> None:
    """Bytes straight from where they are into the file's pages. Raises OSError if there is no room, which a page would die of."""
    with path.open("wb") as file:
        if values.numel() and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, values.numel())
    if values.numel():
        torch.from_file(str(path), shared=True, size=values.numel(), dtype=torch.uint8).copy_(values)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def load(described: Described) -> Tensor:
    """The tensor of a description, on its device; its file is removed. Raises Changed if the file is not what the worker wrote."""
    path = Path(described.file)
    size = path.stat().st_size
    memory = torch.empty(size, dtype=torch.uint8, device=described.device)
    if size:  # a copy, as whoever has the file open may still write to it
        memory.copy_(torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8))
    path.unlink()
    dtype = getattr(torch, described.dtype)
    if size != math.prod(described.shape) * dtype.itemsize:
        raise Changed(f"{size} bytes for shape {described.shape} of {described.dtype}")
    key, _, digest = described.digest.partition(" ")
    if content(memory, int(key)) != digest:
        raise Changed("its bytes are not those that were in memory")
    return memory.view(dtype).reshape(described.shape)


def broken_contract(name: str, described: Described, framework: Tensor) -> str:
    """How an output differs from the framework's in type, dtype, shape, device or memory; '' if it does not."""
    if not described.file:
        return f"{name} is a {described.type}, not a plain dense torch.Tensor"
    due = {"dtype": str(framework.dtype).removeprefix("torch."), "shape": tuple(framework.shape), "device": framework.device.type}
    for what, value in due.items():
        got = getattr(described, what)
        if got != value:
            return f"{name} has {what} {got}; due is {value}"
    if described.alias:
        return f"{name} shares memory with the input {described.alias}"
    if overlaps(described.shape, described.strides):
        return f"{name} has elements that share memory (strides {described.strides})"
    return ""


def overlaps(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether two elements may lie at one address: each stride must step over all that the smaller ones span."""
    if 0 in shape:
        return False
    span = 0
    for size, stride in sorted(((n, s) for n, s in zip(shape, strides, strict=True) if n > 1), key=lambda dim: dim[1]):
        if stride <= span:
            return True
        span += (size - 1) * stride
    return False
