"""Gluon kernels for Hopper run in numpy: a block's roles are threads, and barriers, copies and products behave as the chip's.

Triton has no interpreter for Gluon. This one runs a kernel's own Python code with a numpy stand-in for the language. It knows no
layouts, which the compiler checks. What it finds is what the compiler cannot see: wrong values, a deadlock (a wait of more than
PATIENCE seconds), a tile that is overwritten while a product reads it, one read before it was written (shared memory starts as
NaN), and a transfer that was not announced.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

PATIENCE = 20.0


class Tensor(np.ndarray):
    """A numpy array with what a kernel asks of a Gluon tensor."""

    @property
    def type(self) -> Any:
        return types.SimpleNamespace(layout=None)

    def to(self, dtype: Any) -> Tensor:
        return self.astype(dtype)


class Barrier:
    """An mbarrier: its phase ends when all arrivals and all announced bytes are there."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._phase = self._bytes = self._due = self._count = 0

    def init(self, count: int) -> None:
        self._count = self._due = count

    def arrive(self, expected: int = 0) -> None:
        with self._changed:
            assert self._due > 0, "more arrivals than the barrier counts"
            self._due -= 1
            self._bytes += expected
            self._settle()

    def transferred(self, count: int) -> None:
        with self._changed:
            self._bytes -= count
            assert self._bytes >= 0, "a transfer that no one expects"
            self._settle()

    def _settle(self) -> None:
        if self._due == self._bytes == 0:
            self._phase, self._due = self._phase + 1, self._count
            self._changed.notify_all()

    def wait(self, parity: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._phase % 2 != parity, PATIENCE), "deadlock"


class Shared:
    """Shared memory: a view of an array, which may be of barriers."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.shape = data, data.shape

    def index(self, i: int) -> Any:
        assert 0 <= i < len(self.data)
        part = self.data[i]
        return part[0] if isinstance(part, np.ndarray) and part.dtype == object else Shared(part)

    def reshape(self, shape: Sequence[int]) -> Shared:
        view = self.data.view()
        view.shape = tuple(shape)  # fails where it would copy
        return Shared(view)

    def permute(self, order: Sequence[int]) -> Shared:
        return Shared(self.data.transpose(order))

    def load(self, layout: Any) -> Tensor:
        return self.data.copy().view(Tensor)

    def store(self, value: np.ndarray) -> None:
        self.data[...] = value

    @property
    def dtype(self) -> Any:
        return self.data.dtype


class Descriptor:
    """A tensor as the TMA sees it: tiles read zeros and write nothing beyond its shape."""

    def __init__(self, array: np.ndarray, block_shape: Sequence[int]) -> None:
        self.array, self.block_shape, self.dtype, self.layout = array, tuple(block_shape), array.dtype, None
        self.block_type = types.SimpleNamespace(nbytes=int(np.prod(block_shape)) * array.itemsize)

    def inside(self, start: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The part of a tile within the tensor: slices of the tensor and of the tile."""
        extent = [max(0, min(b, n - s)) for s, b, n in zip(start, self.block_shape, self.array.shape)]
        return tuple(slice(s, s + e) for s, e in zip(start, extent)), tuple(slice(0, e) for e in extent)


class Pointer:
    """A pointer to an array's elements, to which indices are added."""

    def __init__(self, array: np.ndarray, indices: Any = 0) -> None:
        self.array, self.indices = array, indices

    def __add__(self, offset: Any) -> Pointer:
        return Pointer(self.array, self.indices + offset)


class _Product:
    """A product in flight: computed only when waited for, from operands that must still be what they were."""

    def __init__(self, a: Any, b: Shared, acc: np.ndarray, use_acc: bool) -> None:
        self.operands = [x.data if isinstance(x, Shared) else x for x in (a, b)]
        self.snapshots = [x.copy() for x in self.operands]
        self.acc = acc if use_acc else np.zeros_like(acc)

    def value(self) -> Tensor:
        for now, then in zip(self.operands, self.snapshots):
            assert np.array_equal(now, then, equal_nan=True), "an operand changed while a product read it"
        a, b = (x.astype(np.float32) for x in self.snapshots)
        return (self.acc + a @ b).view(Tensor)


_flight = threading.local()


def _mma(a: Any, b: Shared, acc: Any, *, use_acc: bool = True, is_async: bool = False) -> _Product:
    assert is_async
    assert not isinstance(acc, _Product), "an accumulator still in flight"
    _flight.__dict__.setdefault("products", []).append(product := _Product(a, b, acc, use_acc))
    return product


def _mma_wait(pending: int = 0, deps: Sequence[Any] = ()) -> Any:
    flying = _flight.products
    landed = {id(p): p.value() for p in flying[: len(flying) - pending]}
    del flying[: len(flying) - pending]
    assert all(id(x) in landed for x in deps if isinstance(x, _Product)), "waited for a product that may still be in flight"
    found = [landed.get(id(x), x) for x in deps]
    return found[0] if len(found) == 1 else tuple(found)


def _load(desc: Descriptor, start: Sequence[int], barrier: Barrier, tile: Shared) -> None:
    source, target = desc.inside(start)
    tile.data[...] = 0
    tile.data[target] = desc.array[source]
    barrier.transferred(desc.block_type.nbytes)


def _store(desc: Descriptor, start: Sequence[int], tile: Shared) -> None:
    target, source = desc.inside(start)
    desc.array[target] = tile.data[source]


def _allocate(dtype: Any, shape: Sequence[int], layout: Any) -> Shared:
    if dtype is np.int64:
        barriers = np.empty(shape, dtype=object)
        barriers[...] = [[Barrier()] for _ in range(shape[0])]
        return Shared(barriers)
    return Shared(np.full(shape, np.nan, dtype))


def _store_masked(pointer: Pointer, value: np.ndarray, mask: np.ndarray) -> None:
    pointer.array.reshape(-1)[pointer.indices[mask]] = value[mask]


def _specialize(
    roles: Sequence[tuple[Callable[..., None], tuple[Any, ...]]], warps: Sequence[int], registers: Sequence[int]
) -> None:
    assert len(warps) == len(registers) == len(roles) - 1
    failures: list[BaseException] = []

    def guarded(role: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        try:
            with np.errstate(all="ignore"):
                role(*arguments)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=one, daemon=True) for one in roles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _language(program: int, programs: int) -> Any:
    def tensor(x: Any) -> Tensor:
        return np.asarray(x).view(Tensor)

    def ignored(*_: Any) -> None:
        return None

    return types.SimpleNamespace(
        int32=np.int32, int64=np.int64, float32=np.float32, constexpr=lambda x: x, static_range=range,
        SliceLayout=ignored, NVMMADistributedLayout=ignored, DotOperandLayout=ignored, convert_layout=lambda x, layout: x,
        arange=lambda lo, hi, layout: tensor(np.arange(lo, hi)), zeros=lambda s, d, layout: tensor(np.zeros(s, d)),
        full=lambda s, x, d, layout: tensor(np.full(s, x, d)), cast=lambda x, dtype: x,
        program_id=lambda axis: program, num_programs=lambda axis: programs,
        cdiv=lambda a, b: -(-a // b), minimum=np.minimum, maximum=np.fmax, where=lambda c, a, b: tensor(np.where(c, a, b)),
        max=lambda x, axis: tensor(np.fmax.reduce(x, axis)), sum=lambda x, axis: tensor(np.sum(x, axis, dtype=np.float32)),
        exp2=np.exp2, log2=np.log2, fma=lambda a, b, c: (a.astype(np.float64) * b + c).astype(np.float32),
        store=_store_masked,
        load=lambda pointer: tensor(pointer.array.reshape(-1)[pointer.indices]),
        allocate_shared_memory=_allocate, warp_specialize=_specialize,
    )  # fmt: skip


def _module(source: dict[str, Any], language: dict[str, Any], made: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The names of a kernel's file: stand-ins for the language, its constants, and Gluon functions, which see their own file's."""
    if id(source) in made:
        return made[id(source)]
    names = made[id(source)] = {**language, "__builtins__": __builtins__}
    for name, value in source.items():
        if hasattr(value, "fn") and hasattr(value, "is_gluon"):
            names[name] = types.FunctionType(value.fn.__code__, _module(value.fn.__globals__, language, made))
        elif type(value).__name__ == "constexpr":
            names[name] = value.value
    return names


def run(kernel: Any, programs: int, **arguments: Any) -> None:
    """Run ``programs`` blocks of a Gluon kernel, one after the other, on numpy scalars, Pointers and Descriptors."""
    for program in range(programs):
        language: dict[str, Any] = {
            "gl": _language(program, programs),
            "fence_async_shared": lambda: None,
            "warpgroup_mma": _mma,
            "warpgroup_mma_wait": _mma_wait,
            "mbarrier": types.SimpleNamespace(
                MBarrierLayout=lambda: None,
                init=Barrier.init,
                arrive=Barrier.arrive,
                wait=Barrier.wait,
                expect=Barrier.arrive,
            ),
            "tma": types.SimpleNamespace(
                async_copy_global_to_shared=_load, async_copy_shared_to_global=_store, store_wait=lambda pending: None
            ),
        }
        types.FunctionType(kernel.fn.__code__, _module(kernel.fn.__globals__, language, {}))(**arguments)
