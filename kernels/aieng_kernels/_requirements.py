"""What an implementation can require of a machine, judged without importing torch.

The vocabulary: a CPU feature of the native module (``avx2``, ``avx512``, ``avx512_bf16``), ``native`` (the compiled CPU half),
``cuda`` (the compiled CUDA half and a device), ``sm_80``/``sm_90`` (least compute capability; ``sm_90a`` exactly 9.0),
``triton`` (Triton and a device).
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


@cache
def missing(requirement: str) -> str | None:
    """The reason, in words for a table cell, why ``requirement`` is not met here; None if it is."""
    if requirement in ("native", "avx2", "avx512", "avx512_bf16"):
        cpu = native("_cpu")
        if cpu is None:
            return "the native CPU module is not built (needs a C++ compiler at install)"
        return None if requirement == "native" or requirement in cpu.cpu_features() else f"this CPU has no {requirement}"
    if requirement == "triton" and importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if requirement == "cuda" and native("_cuda") is None:
        return "the native CUDA module is not built (needs nvcc at install)"
    capability = device_capability()
    if capability is None:
        return "no CUDA device"
    if requirement.startswith("sm_"):
        exact = requirement.endswith("a")
        major, minor = divmod(int(requirement[3:].rstrip("a")), 10)
        if (capability != (major, minor)) if exact else (capability < (major, minor)):
            return f"needs {requirement}; this device is sm_{capability[0]}{capability[1]}"
    elif requirement not in ("cuda", "triton"):
        raise ValueError(f"unknown requirement {requirement!r}")
    return None


@cache
def native(module: str) -> Any | None:
    """The compiled module ``_cpu`` or ``_cuda``, or None where it was not built."""
    try:
        return importlib.import_module(f"aieng_kernels.{module}")
    except ModuleNotFoundError:
        return None


@cache
def device_capability() -> tuple[int, int] | None:
    """Compute capability of CUDA device 0 as the driver says it, or None without a driver or device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    calls: tuple[Callable[[], int], ...] = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(device), 0),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device),
    )
    return (major.value, minor.value) if all(call() == 0 for call in calls) else None
