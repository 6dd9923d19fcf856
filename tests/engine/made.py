"""Records made up for tests of whatever reads or writes them."""

from __future__ import annotations

from typing import Any

from aieng_bench.record.schema import Check, ContenderInfo, Definition, Environment, MetricInfo, Record

ENVIRONMENT = Environment(
    machine="test-cpu-2c-8gib",
    cpu="Test CPU",
    cores=2,
    memory_gib=8.0,
    isa=("avx2",),
    os="Linux 6.1",
    python="3.11.7",
    libraries={"torch": "2.13.0"},
    commit="0123456789abcdef0123456789abcdef01234567",
    dirty=False,
    threads=2,
)
DEFINITION = Definition(
    suite="kernels",
    benchmark="attention/forward",
    kind="kernel",
    title="Attention, forward",
    summary="Scaled dot-product attention.",
    baseline="torch",
    metrics=(
        MetricInfo(name="latency_us", unit="µs", better="lower", title="latency, hot cache"),
        MetricInfo(name="latency_cold_us", unit="µs", better="lower", title="latency, cold cache"),
    ),
    hash="d3f1",
    flops=1e9,
    bytes=1e6,
    compute="float32",
)


def record(name: str = "ours", kind: str = "ours", latency: Any = None, **changes: Any) -> Record:
    """A ranked record; ``latency`` is samples[launch][round] of the headline metric."""
    samples = latency if latency is not None else [[100.0, 101.0, 99.0]] * 3
    fields: dict[str, Any] = {
        "run": "20250101T000000Z-abcdef",
        "created": "2025-01-01T00:00:00Z",
        "definition": DEFINITION,
        "case": {"B": 2, "S": 512, "dtype": "float32", "device": "cpu"},
        "contender": ContenderInfo(name=name, kind=kind, package="torch", version="2.13.0", source_hash="ab12"),
        "outcome": "RAN",
        "check": Check(verdict="PASSED"),
        "samples": {"latency_us": samples} if samples else {},
        "rounds": [list(range(len(launch))) for launch in samples],
        "memory": {"peak_bytes": 1048576.0},
        "command": "aieng-bench run attention/forward",
        "environment": ENVIRONMENT,
    }
    return Record.model_validate({**fields, **changes})
