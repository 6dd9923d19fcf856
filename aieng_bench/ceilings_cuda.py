"""Measures a CUDA device with torch's own operators. Not yet measured on a chip.

The rate of ``exp`` has no torch operator that memory would not bind, so it stays unknown here, and its cases have no limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

MATRICES = (4096, 8192, 16384)
ARRAYS = {"read": 1, "write": 1, "copy": 2, "add": 3}


def measure(*, quick: bool, threads: int) -> tuple[dict[int, dict[str, float]], dict[str, float]]:
    """(bandwidth by working-set bytes and mix in bytes/s, rate by compute name in operations/s); ``threads`` does not matter."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("no CUDA device, or a torch without CUDA")
    seconds = 0.1 if quick else 0.5
    cache = torch.cuda.get_device_properties(0).L2_cache_size or 64 << 20
    large = min(16 * cache, torch.cuda.mem_get_info()[0] // 4)
    bandwidth = {cache // 2: cached(cache // 2, seconds), large: {mix: large / best(call(mix, large), seconds) for mix in ARRAYS}}
    return bandwidth, {dtype: matrix_rate(dtype, seconds) for dtype in ("float32", "bfloat16")}


def cached(size: int, seconds: float) -> dict[str, float]:
    """Bandwidth of the second-level cache: from the growth of time with size, since a launch costs as much as the transfer."""
    small = size // 4
    growth = {mix: best(call(mix, size), seconds) - best(call(mix, small), seconds) for mix in ARRAYS}
    return {mix: (size - small) / max(taken, 1e-9) for mix, taken in growth.items()}


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


def matrix_rate(dtype: str, seconds: float) -> float:
    """FLOP/s of the best square ``torch.mm``; float32 without TF32, which is torch's default."""
    import torch

    rates = []
    for n in MATRICES:
        a = torch.randn(n, n, device="cuda").to(getattr(torch, dtype))
        out = torch.empty_like(a)
        rates.append(2 * n**3 / best(lambda a=a, out=out: torch.mm(a, a, out=out), seconds))  # type: ignore[misc]
    return max(rates)


def best(run: Callable[[], Any], seconds: float) -> float:
    """Least seconds of one call by the device's own clock, over at least five calls."""
    import torch

    run()
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < deadline:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return min(times)
