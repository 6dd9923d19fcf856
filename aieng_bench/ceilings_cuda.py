"""Measures a CUDA device with torch's own operators. The cache's bandwidth is not yet measured on a chip.

The rate of ``exp`` has no torch operator that memory would not bind, so it stays unknown here, and its cases have no limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

MATRICES = {True: (4096, 8192), False: (4096, 8192, 16384)}
"""Sizes in a quick calibration and in a full one."""
ARRAYS = {"read": 1, "write": 1, "copy": 2, "add": 3}
CACHED = (0.5, 1.0)
BEYOND = (2.0, 4.0, 16.0)
"""Working sets by the size of the second-level cache."""
REPEATS = 50
"""Calls that one graph replays: a call within the cache takes a few microseconds, and launching it as long."""
FASTEST = 8
"""The part of a call that is not the transfer is less than seven eighths."""


def measure(*, quick: bool, threads: int) -> tuple[dict[int, dict[str, float]], dict[str, float]]:
    """(bandwidth by working-set bytes and mix in bytes/s, rate by compute name in operations/s); ``threads`` does not matter."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("no CUDA device, or a torch without CUDA")
    seconds = 0.1 if quick else 0.5
    cache = torch.cuda.get_device_properties(0).L2_cache_size or 64 << 20
    room = torch.cuda.mem_get_info()[0] // 4
    bandwidth = {size: cached(size, seconds) for size in (int(part * cache) for part in CACHED)}
    for size in dict.fromkeys(min(int(part * cache), room) for part in BEYOND):
        bandwidth[size] = {mix: size / best(call(mix, size), seconds) for mix in ARRAYS}
    return bandwidth, {dtype: matrix_rate(dtype, seconds, MATRICES[quick]) for dtype in ("float32", "bfloat16")}


def cached(size: int, seconds: float) -> dict[str, float]:
    """Bandwidth of the second-level cache: from the growth of time with size, as a kernel's start costs as much as the transfer."""
    small = size // 4
    taken = {mix: [best(call(mix, n), seconds / 2, REPEATS) for n in (size, small)] for mix in ARRAYS}
    return {mix: (size - small) / max(whole - part, whole / FASTEST) for mix, (whole, part) in taken.items()}


def call(mix: str, size: int) -> Callable[[], Any]:
    """An operator that moves ``size`` bytes in all, on arrays of its own."""
    import torch

    a, b, c = (torch.ones(size // ARRAYS[mix] // 4, device="cuda") for _ in range(3))
    calls: dict[str, Callable[[], Any]] = {
        "read": lambda: torch.sum(a),
        "write": lambda: c.fill_(1.0),
        "copy": lambda: c.copy_(a),
        "add": lambda: torch.add(a, b, out=c),
    }
    return calls[mix]


def matrix_rate(dtype: str, seconds: float, sizes: Sequence[int]) -> float:
    """FLOP/s of the best square ``torch.mm``; float32 without TF32, which is torch's default."""
    import torch

    rates = []
    for n in sizes:
        a = torch.randn(n, n, device="cuda").to(getattr(torch, dtype))
        out = torch.empty_like(a)
        rates.append(2 * n**3 / best(lambda a=a, out=out: torch.mm(a, a, out=out), seconds))  # type: ignore[misc]
    return max(rates)


def best(run: Callable[[], Any], seconds: float, repeats: int = 1) -> float:
    """Least seconds of one call by the device's own clock, over at least five. ``repeats``: so many calls follow one another."""
    import torch

    run()
    repeated = run if repeats == 1 else replayed(run, repeats)
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < deadline:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        repeated()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3 / repeats)
    return min(times)


def replayed(run: Callable[[], Any], repeats: int) -> Callable[[], Any]:
    """``run`` so often without the host in between, as a graph; what it works on must outlive that."""
    import torch

    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            run()
    return graph.replay
