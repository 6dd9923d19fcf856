"""Timing of calls in batches: hot (the same inputs again and again) and cold (none of them still in the last-level cache)."""

from __future__ import annotations

import ctypes
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice, repeat
from pathlib import Path
from typing import Any

import torch

from aieng_bench.measure.inputs import copies, size_of
from aieng_bench.measure.schedule import DISCARD_S

SHORTEST_BATCH_S = 200e-6
"""One batch lasts at least this long, so that the timer's own cost (tens of nanoseconds) is nothing."""
PILOT_S, PILOT_BATCHES, PILOT_MOST_S = 30e-3, 4, 0.5
DEVICE_BATCH_S, DEVICE_CALLS = 5e-3, 32
"""On a device a batch lasts this long, or has so many calls, if 200 µs are not more: the first of them waits for the host, some
100 µs, and the others are queued meanwhile, as in a stream that is never empty. (To keep the device busy before the first call
would leave time for work that a contender begins on another stream.)"""
UNKNOWN_CACHE_BYTES = 32 * 2**20
MOST_COPIES = 4096
COLD_SHARE = 0.25
"""Part of the free memory that copies of the inputs may take."""

Function = Callable[..., Any]
Arguments = Iterator[Mapping[str, Any]]


@dataclass(frozen=True)
class Batch:
    """Time of one batch, and two of its outputs: that of a call nobody could foresee, number ``chosen``, and of the last."""

    us_per_call: float
    elapsed_ns: int
    chosen: int
    kept: Any
    last: Any
    late_ns: int = 0
    """CUDA: how long the device went on after the stream of the calls was done."""


class CpuTimer:
    """``perf_counter_ns`` around each batch, less the cost of the timer itself."""

    def __init__(self) -> None:
        clock = time.perf_counter_ns
        self.overhead_ns = statistics.median(-(clock() - clock()) for _ in range(1001))

    def calls(self, call_s: float) -> int:
        """Calls of this length that make a batch."""
        return least_calls(call_s)

    def batch(self, function: Function, arguments: Arguments, calls: int) -> Batch:
        """Time ``calls`` calls. The one whose output is kept is drawn from the system's randomness, which no seed foretells."""
        chosen = _RANDOM.randrange(calls)
        before, after = islice(arguments, chosen + 1), islice(arguments, calls - chosen - 1)
        out = None
        start = time.perf_counter_ns()
        for inputs in before:
            out = function(**inputs)
        kept = out
        for inputs in after:
            out = function(**inputs)
        elapsed = time.perf_counter_ns() - start
        return Batch((elapsed - self.overhead_ns) / calls / 1e3, elapsed, chosen, kept, out)


class CudaTimer:
    """A pair of events around each call. ``flush``: before it, lines that a kernel made persist are released and twice the size of
    the L2 is written. Cold figures are not yet measured on a chip.
    """

    overhead_ns = 0.0

    def __init__(self, flush: bool = False) -> None:
        self._lines = (
            torch.empty(2 * torch.cuda.get_device_properties().L2_cache_size, dtype=torch.uint8, device="cuda") if flush else None
        )
        self._release = ctypes.CDLL("libcuda.so.1").cuCtxResetPersistingL2Cache if flush else None

    def calls(self, call_s: float) -> int:
        return max(least_calls(call_s), min(DEVICE_CALLS, math.ceil(DEVICE_BATCH_S / call_s)))

    def batch(self, function: Function, arguments: Arguments, calls: int) -> Batch:
        chosen = _RANDOM.randrange(calls)
        event = partial(torch.cuda.Event, enable_timing=True)
        events = [(event(), event()) for _ in range(calls)]
        kept = out = None
        torch.cuda.synchronize()
        began = time.perf_counter_ns()
        for i, (inputs, (start, end)) in enumerate(zip(islice(arguments, calls), events, strict=True)):
            self._evict()
            start.record()
            out = function(**inputs)
            end.record()
            if i == chosen:
                kept = out
        torch.cuda.current_stream().synchronize()
        own = time.perf_counter_ns()
        torch.cuda.synchronize()
        end_ns = time.perf_counter_ns()
        mean_us = statistics.mean(s.elapsed_time(e) for s, e in events) * 1e3
        return Batch(mean_us, end_ns - began, chosen, kept, out, end_ns - own)

    def _evict(self) -> None:
        if self._lines is not None and self._release is not None:
            if self._release():
                raise RuntimeError("the L2's persisting lines could not be released, so no call can be called cold")
            self._lines.zero_()


def least_calls(call_s: float) -> int:
    """Calls that last 200 µs."""
    return max(1, math.ceil(SHORTEST_BATCH_S / call_s))


Timer = CpuTimer | CudaTimer
_RANDOM = random.SystemRandom()


@dataclass(frozen=True)
class Pilot:
    """``call_s``: estimate of one call; ``calls``: so many make a batch."""

    call_s: float
    calls: int


@dataclass(frozen=True)
class Turn:
    """One contender's part of a round. ``claimed_ns``: time spent in calls, which the parent compares with its own clock."""

    us_per_call: float
    claimed_ns: int
    kept: Any
    last: Any


def pilot(timer: Timer, function: Function, inputs: Mapping[str, Any]) -> Pilot:
    """Estimate a call from growing batches over 30 ms, the best of them, as everything that disturbs makes it longer; and with it
    how many make a batch.

    Four batches at least, unless those take half a second: one that was interrupted must not be all there is.
    """
    best, calls, batches, spent = float("inf"), 1, 0, 0.0
    while spent < PILOT_S or (batches < PILOT_BATCHES and spent < PILOT_MOST_S):
        batch = timer.batch(function, repeat(inputs), calls)
        best = min(best, max(batch.us_per_call, 1e-3) * 1e-6)
        spent += batch.elapsed_ns / 1e9
        batches += 1
        calls = max(1, min(2 * calls, int((PILOT_S - spent) / best)))
    return Pilot(best, timer.calls(best))


def turn(timer: Timer, function: Function, arguments: Arguments, calls: int, batches: int, most_s: float) -> Turn:
    """Discard at least 10 ms of calls, then time ``batches`` batches; the sample is their median. One batch's outputs are kept.

    After ``most_s`` no further batch is begun: on a machine that others keep busy, calls can take a thousand times the pilot's.
    """
    claimed = 0
    while claimed < DISCARD_S * 1e9:
        claimed += timer.batch(function, arguments, calls).elapsed_ns
    kept, last = None, None
    times: list[float] = []
    end_ns = claimed + most_s * 1e9
    while len(times) < batches and (not times or claimed < end_ns):
        batch = timer.batch(function, arguments, calls)
        times.append(batch.us_per_call)
        claimed += batch.elapsed_ns
        if not _RANDOM.randrange(len(times)):  # each batch so far is as likely to be the one kept
            kept, last = batch.kept, batch.last
        del batch  # or its output would still be held while the next is allocated
    return Turn(statistics.median(times), claimed, kept, last)


def hot(inputs: Mapping[str, Any]) -> Arguments:
    return repeat(inputs)


def cold(inputs: Mapping[str, Any], free_bytes: int) -> Arguments | None:
    """Copies of the inputs, in turn, that together exceed twice the last-level cache; None if that cannot be had sensibly."""
    size = size_of(inputs)
    if not size:
        return None
    count = max(2, int(2 * last_level_cache_bytes() / size) + 1)
    if count > MOST_COPIES or count * size > COLD_SHARE * free_bytes:
        return None
    return cycle(copies(inputs, count))


def last_level_cache_bytes() -> int:
    """Size of the largest cache of core 0 as the kernel reports it; 32 MiB where it does not."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    files: Sequence[Path] = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    texts = [file.read_text().strip() for file in files]
    return max((int(t[:-1]) * units[t[-1]] if t[-1] in units else int(t) for t in texts if t), default=UNKNOWN_CACHE_BYTES)


def free_memory_bytes() -> int:
    """Memory that can be had without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
