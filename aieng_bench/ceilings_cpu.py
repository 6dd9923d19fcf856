"""Measures a processor: by the native micro-benchmarks, and never less than torch's own matrix product reaches."""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

SMALLEST_PER_THREAD = 16 << 10
MATRICES = (256, 384, 512, 1024, 2048, 4096)
MIXES = ("read", "write", "copy", "add")


def measure(*, quick: bool, threads: int) -> tuple[dict[int, dict[str, float]], dict[str, float]]:
    """(bandwidth by working-set bytes and mix in bytes/s, rate by compute name in operations/s) with ``threads`` threads."""
    if threads < 1:
        raise ValueError(f"threads={threads} must be at least 1")
    native = load()
    sizes = working_sets(threads, step=4 if quick else 2)
    seconds = 0.04 if quick else 0.15
    bandwidth = {size: {mix: per_second(native.stream(mix, size, threads, seconds)) for mix in MIXES} for size in sizes}
    return bandwidth, rates(native, threads, 0.25 if quick else 1.0)


def load() -> Any:
    """The native module. Raises RuntimeError if it was not built."""
    try:
        return importlib.import_module("aieng_bench._ceilings")
    except ImportError as error:
        raise RuntimeError("aieng_bench._ceilings is not built (needs a C++ compiler at install)") from error


def rates(native: Any, threads: int, seconds: float) -> dict[str, float]:
    """A matrix product may use units that the micro-benchmarks do not know (AMX, Apple's), so the better of the two counts;
    and bfloat16 work can always be done in float32 arithmetic, so its ceiling is no lower."""
    fma = per_second(native.compute("fma", threads, seconds))
    dot = native.compute("dot", threads, seconds)
    float32 = max(fma, matrix_rate("float32", threads, seconds))
    bfloat16 = max(float32, per_second(dot) if dot else 0.0, matrix_rate("bfloat16", threads, seconds))
    return {"float32": float32, "bfloat16": bfloat16, "exp": per_second(native.compute("exp", threads, seconds))}


def per_second(measured: tuple[float, float]) -> float:
    seconds, amount = measured
    return amount / seconds


def working_sets(threads: int, step: int) -> list[int]:
    """Sizes in bytes from what fits into every first-level cache to four times the last level, if memory allows."""
    last = max(4 * last_level_cache(), 64 << 20)
    last = max(min(last, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8), SMALLEST_PER_THREAD * threads)
    sizes = [SMALLEST_PER_THREAD * threads]
    while sizes[-1] * step < last:
        sizes.append(sizes[-1] * step)
    return [*sizes, last] if last > sizes[-1] else sizes


def last_level_cache() -> int:
    """Bytes, or 32 MiB where the system does not say."""
    names = ("SC_LEVEL4_CACHE_SIZE", "SC_LEVEL3_CACHE_SIZE", "SC_LEVEL2_CACHE_SIZE")
    return next((size for name in names if name in os.sysconf_names and (size := os.sysconf(name)) > 0), 32 << 20)


def matrix_rate(dtype: str, threads: int, seconds: float) -> float:
    """FLOP/s of the best square ``torch.mm`` found within ``seconds``."""
    import torch

    before, best = torch.get_num_threads(), 0.0
    torch.set_num_threads(threads)
    try:
        for n in MATRICES:
            a = torch.full((n, n), 0.5, dtype=getattr(torch, dtype))
            out = torch.empty_like(a)
            deadline = time.perf_counter() + seconds / len(MATRICES)
            while True:
                begin = time.perf_counter()
                torch.mm(a, a, out=out)
                end = time.perf_counter()
                best = max(best, 2 * n**3 / (end - begin))
                if end > deadline:
                    break
            if 8 * (end - begin) > seconds:  # the next size would take eight times as long
                break
    finally:
        torch.set_num_threads(before)
    return best
