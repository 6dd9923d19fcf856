"""The record, version 2: everything a published figure rests on. Reports, comparisons and leaderboards read nothing else."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from aieng_bench.record.exhibits import Exhibits

SCHEMA_VERSION = 2
"""A record without exhibits is written as version 1, which every version reads."""

Value = str | int | float | bool
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    """Base of every part: immutable, and an unknown field is an error, so that nothing is lost in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Outcome(StrEnum):
    RAN = "RAN"
    CRASHED = "CRASHED"
    TIMEOUT = "TIMEOUT"
    OOM = "OOM"
    OOM_HOST = "OOM_HOST"
    UNSUPPORTED = "UNSUPPORTED"
    ERROR = "ERROR"


class Correctness(StrEnum):
    PASSED = "PASSED"
    INCORRECT = "INCORRECT"
    UNCHECKED = "UNCHECKED"


class Quality(StrEnum):
    CLEAN = "CLEAN"
    NOISY = "NOISY"
    SUSPECT = "SUSPECT"


class Grown(Part):
    """A part that has gained fields: one at its default is not written, so that what was published before it keeps its bytes."""

    gained: ClassVar[dict[str, Any]] = {}
    """Name and default of each such field."""

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = dump(self)
        return {name: value for name, value in fields.items() if name not in self.gained or value != self.gained[name]}


class MetricInfo(Grown):
    name: str
    unit: str
    better: Literal["lower", "higher"]
    title: str = ""
    exact: bool = False
    """The same code always gives the same figure, so any difference is one of the code."""

    gained = {"exact": False}


class Definition(Grown):
    """What was asked for. ``flops`` and ``bytes`` are the declared least work of a kernel's case, else None."""

    suite: str
    benchmark: str
    kind: Literal["kernel", "study", "static"]
    title: str
    summary: str
    baseline: str
    metrics: tuple[MetricInfo, ...]
    hash: str
    source_hash: str = ""
    """Of the suite's own files (measure/sources.py); ``--resume`` heeds it, ``compare`` does not."""
    flops: Finite | None = None
    bytes: Finite | None = None
    compute: str | None = None

    gained = {"source_hash": ""}


class ContenderInfo(Part):
    name: str
    kind: Literal["ours", "baseline"]
    package: str = ""
    version: str = ""
    source_hash: str = ""


class OutputError(Part):
    """Error of one output (or input gradient) against the float64 oracle; ratios are to the framework's own (measure/gate.py)."""

    output: str
    rmse: Finite | None
    """Relative RMSE, ‖out − oracle‖ / ‖oracle‖; None if the output was not finite."""
    framework_rmse: Finite
    rmse_ratio: Finite | None
    worst_row_ratio: Finite | None
    max_abs_error: Finite | None
    out_of_tolerance: Finite
    """Fraction of elements further off than the bound that the gate applies to the whole."""


class Check(Part):
    """Verdict of the correctness gate. ``deterministic``: bit-equal over repeats on equal inputs; None if not tried."""

    verdict: Correctness
    reason: str = ""
    outputs: tuple[OutputError, ...] = ()
    deterministic: bool | None = None
    checks: int = 0
    """How many kept outputs of timed and untimed calls were checked."""


class Limit(Part):
    """The physical floor of the case on this machine: ``max(bytes / bandwidth, flops / rate)``, and which of them binds."""

    time_us: Finite
    binds: Literal["memory", "compute"]
    bandwidth_bytes_per_s: Finite
    rate_per_s: Finite | None
    source: Literal["measured", "datasheet"]


class Environment(Part):
    """Where it ran. ``machine`` is the folder name under results/: CPU model, cores, memory, GPU; never a host name."""

    machine: str
    cpu: str
    cores: int
    memory_gib: Finite
    isa: tuple[str, ...]
    gpu: str | None = None
    gpu_memory_gib: Finite | None = None
    driver: str | None = None
    os: str
    python: str
    libraries: dict[str, str]
    """Versions of the distributions that matter (torch, numpy, triton, and every contender's package)."""
    commit: str | None
    """git commit of the checkout, None outside one."""
    dirty: bool | None
    threads: int
    malloc: Literal["default", "tuned"] = "default"
    variables: dict[str, str] = {}
    """Environment variables that change speed (OMP_*, MKL_*, OPENBLAS_*, MALLOC_*, TORCH_*) as the workers saw them."""


class Record(Grown):
    """One cell. ``samples[metric][launch][round]``: one value per round of every launch, raw, in the metric's unit."""

    schema_version: Literal[1, 2] = 1
    run: str
    created: str
    """UTC, ISO 8601, seconds."""
    definition: Definition
    case: dict[str, Value]
    contender: ContenderInfo
    outcome: Outcome
    outcome_reason: str = ""
    check: Check
    quality: Quality = Quality.CLEAN
    quality_reason: str = ""
    samples: dict[str, tuple[tuple[Finite, ...], ...]] = {}
    rounds: tuple[tuple[int, ...], ...] = ()
    """Round number of each sample, launch by launch: contenders are paired by (launch, round)."""
    memory: dict[str, Finite] = {}
    """``peak_bytes`` (growth of the worker's peak RSS, or the CUDA allocator's peak) and further figures by name."""
    extra: dict[str, Finite] = {}
    """Further figures, recorded and shown; nothing is decided by them."""
    setup_s: Finite | None = None
    """First call less a later call: compilation, autotuning, handle creation."""
    limit: Limit | None = None
    inputs_hash: str = ""
    command: str
    """The command that measures this cell (with its baseline) again."""
    environment: Environment
    log: str = ""
    """Tail of what the worker printed, capped; kept when the cell did not end as RAN and PASSED."""
    exhibits: Exhibits = {}
    """What a study shows beside its figures (see :mod:`aieng_bench.record.exhibits`); since version 2."""

    gained = {"exhibits": {}}

    @model_validator(mode="after")
    def _of_its_version(self) -> Record:
        if self.exhibits and self.schema_version < 2:
            raise ValueError("exhibits: a record of schema_version 1 has none")
        return self

    @property
    def ranked(self) -> bool:
        """Whether this cell may show a speed."""
        return self.outcome is Outcome.RAN and self.check.verdict is Correctness.PASSED and self.quality is Quality.CLEAN

    @property
    def case_id(self) -> str:
        return ",".join(f"{axis}={value}" for axis, value in self.case.items())

    @property
    def key(self) -> tuple[str, str, str]:
        """Identity within a run: benchmark, case, contender."""
        return self.definition.benchmark, self.case_id, self.contender.name


def canonical(value: Any) -> str:
    """The one JSON text of a value: no spaces, no NaN, keys in the schema's order and axes in the benchmark's, so that a record
    read again has the same ``case_id``; what hashes are taken of."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(record: Record) -> str:
    """SHA-256 of the record's canonical JSON, in hex."""
    return hashlib.sha256(canonical(record.model_dump(mode="json")).encode()).hexdigest()
