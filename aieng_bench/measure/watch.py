"""Whether a CUDA device was disturbed while it was measured, as its driver tells (NVML): throttled, or used by somebody else.

A cap on power alone is no disturbance: it is how a device runs at full load, the same for whoever draws as much.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

THROTTLED: Mapping[int, str] = {
    0x08: "slowed down by its hardware",
    0x20: "slowed down as it is too hot",
    0x40: "slowed down by its hardware as it is too hot",
    0x80: "slowed down by its power supply",
}
"""Bits of NVML's reasons for a clock below the one asked for."""
THROTTLED_SHARE = 0.25
"""Part of a launch's rounds from which on it counts: fewer are outliers among the samples, whose spread tells of them."""


class Watch:
    """Of one launch: :meth:`begin`, a :meth:`look` after each round, and in the end :meth:`disturbance`."""

    def __init__(self, nvml: ModuleType | Any, ours: Callable[[int], bool]) -> None:
        """``ours``: whether a process belongs to this run. Raises the library's NVMLError where there is no device or driver."""
        self._nvml, self._ours = nvml, ours
        nvml.nvmlInit()
        self._device = _handle(nvml)

    def begin(self) -> None:
        self._rounds = 0
        self._throttled = dict.fromkeys(THROTTLED, 0)
        self._since = max((sample.timeStamp for sample in self._samples(0) or ()), default=0)

    def look(self) -> None:
        self._rounds += 1
        reasons = self._asked("nvmlDeviceGetCurrentClocksThrottleReasons", default=0)
        for bit in THROTTLED:
            self._throttled[bit] += bool(reasons & bit)

    def disturbance(self) -> str:
        """What disturbed the launch; '' if nothing is known to have."""
        for bit, rounds in self._throttled.items():
            if rounds and rounds >= THROTTLED_SHARE * self._rounds:
                return f"the device was {THROTTLED[bit]} in {rounds} of {self._rounds} rounds"
        foreign = self._foreign()
        return f"another process used the device ({', '.join(map(str, foreign))})" if foreign else ""

    def _foreign(self) -> list[int]:
        """Processes of others that computed on the device in the meantime; where that is not told, those that may have."""
        present = {process.pid for process in self._asked("nvmlDeviceGetComputeRunningProcesses", default=())}
        if not any(map(self._ours, present)):
            return []  # the driver counts processes as another namespace does, and nobody can say whose they are
        samples = self._samples(self._since)
        busy = present if samples is None else {s.pid for s in samples if s.smUtil and s.timeStamp > self._since}
        # The driver still counts some that were ours, and are gone.
        return sorted(pid for pid in busy if not self._ours(pid) and Path(f"/proc/{pid}").exists())

    def _samples(self, since: int) -> Any:
        """Use of the device by process since a time of the driver's clock; None if this driver does not tell."""
        return self._asked("nvmlDeviceGetProcessUtilization", since, default=None)

    def _asked(self, name: str, *arguments: Any, default: Any) -> Any:
        try:
            return getattr(self._nvml, name)(self._device, *arguments)
        except self._nvml.NVMLError as error:
            nothing = getattr(self._nvml, "NVML_ERROR_NOT_FOUND", 6)
            return () if getattr(error, "value", None) == nothing else default


def _handle(nvml: ModuleType | Any) -> Any:
    """The device that torch calls ``cuda``: the first of those that the environment lets be seen."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if first.startswith("GPU-"):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    return nvml.nvmlDeviceGetHandleByIndex(int(first) if first.isdigit() else 0)


def watch(device: str, ours: Callable[[int], bool]) -> Watch | None:
    """A watch over ``device``. None on the CPU, whose disturbances the spread of the samples tells; and where NVML is missing."""
    if device != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        return Watch(pynvml, ours)
    except pynvml.NVMLError:
        return None
