"""Peak memory of one call, and poison: what a call finds in the memory it is given."""

from __future__ import annotations

import ctypes
import secrets
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_M_PERTURB = -6
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_SAMPLE_S = 0.5e-3


def peak_growth(call: Callable[[], Any], device: str) -> int | None:
    """Bytes by which ``call`` raises the peak: of the allocator on CUDA, of resident memory on the CPU; None if unreadable."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    give_back()
    before_kib = status_kib("VmRSS")
    if before_kib is None:
        return None
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return _sampled(call, before_kib)
    # The kernel's counters lag by some pages per thread; what it calls the peak right after the reset is the base to count from.
    base = status_kib("VmHWM") or before_kib
    call()
    return max(0, (status_kib("VmHWM") or base) - base) * 1024


def give_back() -> None:
    """Return freed heap to the system, or what an earlier call left would hide the growth of the next (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def release() -> None:
    """Return what the caching allocator keeps to the device, whose memory the processes of all contenders share."""
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def status_kib(field: str) -> int | None:
    """A figure of /proc/self/status in KiB; None off Linux."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), None)


def _sampled(call: Callable[[], Any], before_kib: int) -> int:
    """The peak by looking every half millisecond, where resetting the kernel's own is not permitted."""
    done, peak = threading.Event(), before_kib

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, status_kib("VmRSS") or 0)
            time.sleep(_SAMPLE_S)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        held = call()
        peak = max(peak, status_kib("VmRSS") or 0)
        del held
    finally:
        done.set()
        watcher.join()
    return (peak - before_kib) * 1024


def poison(device: str, sizes: tuple[int, ...] = ()) -> None:
    """Fill what is allocated next with a byte that nobody can foresee, so that an output left unwritten is not right by luck.

    CPU: every block that malloc hands out, until :func:`perturb` is called with 0. CUDA: blocks of the outputs' ``sizes`` are
    filled and returned to the caching allocator, which hands them out again.
    """
    byte = 1 + secrets.randbelow(254)
    if device == "cuda":
        import torch

        blocks = [torch.full((size,), byte, dtype=torch.uint8, device=device) for size in sizes]
        torch.cuda.synchronize()
        del blocks
    else:
        perturb(byte)


def perturb(byte: int) -> None:
    """Have malloc fill what it hands out (glibc only): with the complement of ``byte``, or not at all if it is 0."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_PERTURB, byte)
