"""GPU cost without a GPU: kernels by what the compiler says of their machine code, as records like any other.

The figures are exact: the same source and compiler give the same ones, so one sample is all there is, and in a comparison any
difference of a metric below in the bad direction is a regression. Registers, shared memory and instruction counts are recorded
beside them and shown; more of them is neither better nor worse.
"""

from __future__ import annotations

import fnmatch
import hashlib
import shlex
from collections.abc import Callable, Iterator, Sequence

from aieng_bench import machine
from aieng_bench.define import Unsupported
from aieng_bench.machine_code import MachineCode, StaticBenchmark, StaticCell, occupancy
from aieng_bench.record.schema import Check, ContenderInfo, Correctness, Definition, MetricInfo, Outcome, Record, canonical
from aieng_bench.record.store import RunStore, timestamp

METRICS = (
    MetricInfo(name="stack_bytes", unit="B", better="lower", title="stack of a thread", exact=True),
    MetricInfo(name="local_accesses", unit="", better="lower", title="accesses to local memory (LDL, STL)", exact=True),
    MetricInfo(name="occupancy", unit="", better="higher", title="theoretical occupancy", exact=True),
    MetricInfo(name="tensor_core", unit="", better="higher", title="tensor core (2 warpgroup, 1 warp, 0 none)", exact=True),
)
COUNTED = ("HGMMA", "HMMA", "FFMA", "MUFU", "UTMALDG", "LDGSTS", "LDL", "STL", "BAR", "ATOM", "RED")
"""Opcodes that are counted by what they start with. ATOM has ATOMS and ATOMG in it."""
WARPGROUP = ("HGMMA", "IGMMA", "QGMMA", "BGMMA", "UTCHMMA", "UTCIMMA", "UTCQMMA", "UTCOMMA")
"""Products that a whole warpgroup (sm_90) or a block (sm_100) issues at once; the older ones are a warp's."""
WARP_PRODUCTS = ("HMMA", "IMMA", "QMMA", "DMMA", "BMMA")
_DEFINITION_HASH = hashlib.sha256(canonical([m.model_dump() for m in METRICS]).encode()).hexdigest()[:16]


def chosen(found: Sequence[tuple[StaticBenchmark, str]]) -> Iterator[tuple[StaticBenchmark, StaticCell]]:
    """The cells of benchmarks whose kernel matches the shell-style pattern beside them, each once."""
    seen = set()
    for benchmark, kernels in found:
        for cell in benchmark.cells():
            key = benchmark.name, cell.kernel, cell.arch
            if key not in seen and fnmatch.fnmatchcase(cell.kernel, kernels):
                seen.add(key)
                yield benchmark, cell


def run(
    cells: Iterator[tuple[StaticBenchmark, StaticCell]], store: RunStore, done: Callable[[Record], None] = lambda record: None
) -> list[Record]:
    """Read the code of each cell and write its record; ``done`` is told of each."""
    records = []
    for benchmark, cell in cells:
        record = measure(benchmark, cell, store.run)
        store.write(record)
        done(record)
        records.append(record)
    return records


def measure(benchmark: StaticBenchmark, cell: StaticCell, run: str) -> Record:
    """The record of one cell: whatever its compiler raises is its outcome."""
    outcome, reason, samples, extra = Outcome.RAN, "", {}, {}
    try:
        code = cell.read()
        samples, extra = figures(code, cell.arch), further(code)
    except Unsupported as error:
        outcome, reason = Outcome.UNSUPPORTED, str(error)
    except Exception as error:  # a compiler's, whatever it is
        outcome, reason = Outcome.ERROR, f"{type(error).__name__}: {error}".splitlines()[0]
    return Record(
        run=run,
        created=timestamp(),
        definition=definition(benchmark),
        case={"arch": cell.arch, "device": "cuda"},
        contender=ContenderInfo(name=cell.kernel, kind="ours", source_hash=cell.source_hash),
        outcome=outcome,
        outcome_reason=reason,
        check=Check(verdict=Correctness.UNCHECKED, reason="its machine code was read; nothing ran"),
        samples={name: ((value,),) for name, value in samples.items()},
        rounds=((0,),) if samples else (),
        extra=extra,
        command=shlex.join(["aieng-bench", "static", f"{benchmark.name}:{cell.kernel}"]),
        environment=machine.environment(benchmark.packages, threads=1),
    )


def definition(benchmark: StaticBenchmark) -> Definition:
    return Definition(
        suite=benchmark.suite,
        benchmark=benchmark.name,
        kind="static",
        title=benchmark.title,
        summary=benchmark.summary,
        baseline="",
        metrics=METRICS,
        hash=_DEFINITION_HASH,
    )


def figures(code: MachineCode, arch: str) -> dict[str, float]:
    """The metrics that decide."""
    level = 2.0 if code.count(*WARPGROUP) else 1.0 if code.count(*WARP_PRODUCTS) else 0.0
    local = float(code.count("LDL", "STL"))
    values = (float(code.stack_bytes), local, occupancy(code, arch), level)
    return dict(zip((metric.name for metric in METRICS), values, strict=True))


def further(code: MachineCode) -> dict[str, float]:
    """Figures that are shown and decide nothing."""
    usage = {"registers": code.registers, "shared_bytes": code.shared_bytes, "threads": code.threads}
    return {name: float(value) for name, value in {**usage, **{name: code.count(name) for name in COUNTED}}.items()}
