"""The ceilings of a machine, measured, and the physical limit they set for a case: ``max(bytes / bandwidth, operations / rate)``.

A time under 0.98 of the limit is held to be impossible, so every choice here errs upwards: the best of many short bursts, the best
instruction set, the best mix of loads and stores, and the bandwidth of the fastest memory level that could hold the working set.
A figure is never copied from another machine: what was not measured here has no limit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from aieng_bench import machine
from aieng_bench.define import Work
from aieng_bench.record.schema import Limit, Part
from aieng_bench.record.store import write_whole

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Ceilings(Part):
    """What one device reaches.

    ``bandwidth[working_set_bytes][mix]``: bytes read and written per second over all threads, by mix of loads and stores (``read``,
    ``write``, and STREAM's ``copy``, 1 : 1, and ``add``, 2 : 1). ``rates``: operations per second by the name in ``Work.compute``.
    """

    format: Literal[2] = 2
    machine: str
    device: str
    threads: int = Field(ge=1)
    quick: bool
    bandwidth: dict[int, Annotated[dict[str, Positive], Field(min_length=1)]] = Field(min_length=1)
    rates: dict[str, Positive]
    source: Literal["measured"] = "measured"
    created: str
    """UTC, ISO 8601, seconds."""

    def bandwidth_at(self, working_set_bytes: float) -> float:
        """The most bytes/s that a case with this working set can move; ``math.inf`` asks for main memory (a cold cache).

        The largest measured set of at most half the size counts, since a clever order of access keeps part of a set in a level
        that is too small for the whole; and of all larger ones the best, so that a disturbed measurement does not lower it.
        """
        sizes = sorted(self.bandwidth)
        chosen = max((s for s in sizes if s <= working_set_bytes / 2), default=sizes[0])
        return max(max(self.bandwidth[s].values()) for s in sizes if s >= chosen)


def limit(work: Work, working_set_bytes: float, ceilings: Ceilings) -> Limit | None:
    """The least time for ``work``, ``max(bytes / bandwidth, flops / rate)``, and which of the two binds.

    ``working_set_bytes``: what the case touches between two uses of the same byte; ``math.inf`` for a cold cache. None if the
    compute rate that the work names was not measured on this device.
    """
    rate = ceilings.rates.get(work.compute)
    if rate is None:
        return None
    bandwidth = ceilings.bandwidth_at(working_set_bytes)
    memory_s, compute_s = work.bytes / bandwidth, work.flops / rate
    return Limit(
        time_us=max(memory_s, compute_s) * 1e6,
        binds="memory" if memory_s >= compute_s else "compute",
        bandwidth_bytes_per_s=bandwidth,
        rate_per_s=rate,
        source=ceilings.source,
    )


def calibrate(device: str, quick: bool = False, threads: int | None = None) -> Ceilings:
    """Measure ``device`` (``cpu``: 3 to 4 s quick, about 15 s in full) and remember the result for :func:`load_or_calibrate`.

    What an earlier calibration of the same machine found better stands: a neighbour's load can hide what a machine reaches, and
    nothing makes it exceed that. ``threads``: CPU threads that measured code may use, by default all cores of this process. Raises
    ValueError for another device and RuntimeError if the device or the native module is missing.
    """
    if device == "cpu":
        from aieng_bench.ceilings_cpu import measure
    elif device == "cuda":
        from aieng_bench.ceilings_cuda import measure
    else:
        raise ValueError(f"device={device!r} is neither 'cpu' nor 'cuda'")
    threads = machine.core_count() if threads is None else threads
    bandwidth, rates = measure(quick=quick, threads=threads)
    ceilings = Ceilings(
        machine=fingerprint(),
        device=device,
        threads=threads,
        quick=quick,
        bandwidth=bandwidth,
        rates=rates,
        created=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    )
    known = recall(device, threads)
    if known is not None:
        ceilings = merged(ceilings, known)
    remember(ceilings)
    return ceilings


def load_or_calibrate(device: str, quick: bool = False, threads: int | None = None) -> Ceilings:
    """The remembered ceilings of this machine, else new ones.

    A quick calibration does not answer for a full one; a broken file is replaced.
    """
    threads = machine.core_count() if threads is None else threads
    known = recall(device, threads)
    return known if known is not None and (quick or not known.quick) else calibrate(device, quick, threads)


def merged(new: Ceilings, old: Ceilings) -> Ceilings:
    """The better of each figure; the date of the new."""
    bandwidth = {
        size: higher(new.bandwidth.get(size, {}), old.bandwidth.get(size, {})) for size in sorted({*new.bandwidth, *old.bandwidth})
    }
    return new.model_copy(update={"bandwidth": bandwidth, "rates": higher(new.rates, old.rates), "quick": new.quick and old.quick})


def higher(left: Mapping[str, float], right: Mapping[str, float]) -> dict[str, float]:
    return {name: max(left.get(name, 0.0), right.get(name, 0.0)) for name in {**left, **right}}


def recall(device: str, threads: int) -> Ceilings | None:
    """What the cache file holds for this machine, device and thread count; None if it is absent, broken or another's."""
    try:
        known = Ceilings.model_validate_json(cache_file(device, threads).read_bytes())
    except (OSError, ValidationError):
        return None
    return known if (known.machine, known.device, known.threads) == (fingerprint(), device, threads) else None


def remember(ceilings: Ceilings) -> None:
    """Write the cache file; a folder that cannot be written only means measuring again next time."""
    file = cache_file(ceilings.device, ceilings.threads)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, ceilings.model_dump_json() + "\n")
    except OSError:
        return


def cache_file(device: str, threads: int) -> Path:
    """Under ``$XDG_CACHE_HOME`` or ``~/.cache``, one file for each machine, device and thread count."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = Path(base) if base else Path.home() / ".cache"
    return folder / "aieng-bench" / f"ceilings-{fingerprint()}-{device}-{threads}t.json"


def fingerprint() -> str:
    """The machine's name with a hash of its instruction sets: hypervisors give different processors the same model name."""
    gpu = machine.gpu()
    name = machine.slug(machine.cpu_name(), machine.core_count(), machine.memory_gib(), gpu.name if gpu else None)
    return f"{name}-{hashlib.sha256(' '.join(machine.isa()).encode()).hexdigest()[:8]}"
