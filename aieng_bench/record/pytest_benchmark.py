"""Records from the JSON that pytest-benchmark writes, so that existing performance tests are compared and published with ours.

Several files of the same tests are several launches of them. Nothing is checked there but what the tests assert, so the records are
UNCHECKED: they are compared by absolute time and never ranked.
"""

from __future__ import annotations

import hashlib
import shlex
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from aieng_bench import machine
from aieng_bench.define import LATENCY
from aieng_bench.record.reading import Broken, first_error, strict_json, text_of
from aieng_bench.record.schema import (
    Check,
    ContenderInfo,
    Correctness,
    Definition,
    Environment,
    Finite,
    MetricInfo,
    Outcome,
    Record,
    Value,
)

SUITE = "pytest-benchmark"


class _Stats(BaseModel):
    data: Annotated[tuple[Finite, ...], Field(min_length=1)]
    """Seconds per call, one figure a round."""


class _Benchmark(BaseModel):
    fullname: str
    params: dict[str, Any] | None = None
    stats: _Stats


class _Cpu(BaseModel):
    brand_raw: str = ""
    count: int = 0


class _Machine(BaseModel):
    machine: str = "unknown"
    processor: str = ""
    python_version: str = ""
    system: str = ""
    release: str = ""
    cpu: _Cpu = _Cpu()


class _Commit(BaseModel):
    id: str = ""
    dirty: bool = False


class _File(BaseModel):
    machine_info: _Machine
    commit_info: _Commit = _Commit()
    benchmarks: Annotated[list[_Benchmark], Field(min_length=1)]
    datetime: datetime
    version: str


def convert(files: Sequence[Path]) -> list[Record]:
    """One record per test, with one launch per file. Raises Broken, naming file and place, for what is not pytest-benchmark's."""
    texts = [_text(file) for file in files]
    parsed = [_parse(file, text) for file, text in zip(files, texts)]
    run = f"{SUITE}-{hashlib.sha256(''.join(texts).encode()).hexdigest()[:12]}"
    launches: dict[tuple[str, str], list[tuple[_File, _Benchmark]]] = defaultdict(list)
    for file in parsed:
        for test in file.benchmarks:
            launches[test.fullname, repr(test.params)].append((file, test))
    return [_record(run, found) for found in launches.values()]


def _text(file: Path) -> str:
    try:
        return text_of(file)
    except UnicodeDecodeError as error:
        raise Broken(str(error), str(file)) from None


def _parse(path: Path, text: str) -> _File:
    try:
        content = strict_json(text)
        tests = content.get("benchmarks") if isinstance(content, dict) else None
        if isinstance(tests, list) and any(isinstance(t, dict) and "data" not in (t.get("stats") or {}) for t in tests):
            raise Broken("$.benchmarks[0].stats.data: no raw samples; write the file with --benchmark-json, which keeps them")
        return _File.model_validate_json(text)
    except Broken as error:
        raise Broken(error.reason, str(path)) from None
    except ValidationError as error:
        raise Broken(f"{first_error(error)} (is it pytest-benchmark's JSON?)", str(path)) from None


def _record(run: str, launches: Sequence[tuple[_File, _Benchmark]]) -> Record:
    file, test = launches[0]
    name = test.fullname.split("[")[0]
    samples = tuple(tuple(1e6 * second for second in one.stats.data) for _, one in launches)
    metric = MetricInfo(name=LATENCY.name, unit=LATENCY.unit, better=LATENCY.better, title="time of a call")
    return Record(
        run=run,
        created=file.datetime.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        definition=Definition(
            suite=SUITE,
            benchmark=name,
            kind="kernel",
            title=name.split("::")[-1],
            summary="A test timed by pytest-benchmark.",
            baseline="",
            metrics=(metric,),
            hash=hashlib.sha256(name.encode()).hexdigest()[:16],
        ),
        case={**{axis: _value(value) for axis, value in (test.params or {}).items()}, "device": "cpu"},
        contender=ContenderInfo(name="test", kind="ours", package=SUITE, version=file.version),
        outcome=Outcome.RAN,
        check=Check(verdict=Correctness.UNCHECKED, reason="pytest-benchmark checks what the test asserts and nothing more"),
        samples={metric.name: samples},
        rounds=tuple(tuple(range(len(launch))) for launch in samples),
        command=f"pytest {shlex.quote(test.fullname)} --benchmark-enable --benchmark-json=FILE",
        environment=_environment(file),
    )


def _value(parameter: Any) -> Value:
    return parameter if isinstance(parameter, (str, int, float, bool)) else str(parameter)


def _environment(file: _File) -> Environment:
    """What the file tells. It knows no memory: that is filled in where its processor is this machine's, and is otherwise 0."""
    info, commit = file.machine_info, file.commit_info
    cpu, cores = info.cpu.brand_raw or info.processor or info.machine, info.cpu.count
    here = machine.environment(threads=1)
    same = (cpu, cores) == (here.cpu, here.cores)
    known = commit.id not in ("", "unversioned", "unknown")
    return Environment(
        machine=here.machine if same else machine.slug(cpu, cores, None, None),
        cpu=cpu,
        cores=cores,
        memory_gib=here.memory_gib if same else 0.0,
        isa=here.isa if same else (),
        os=f"{info.system} {info.release}".strip(),
        python=info.python_version,
        libraries={SUITE: file.version},
        commit=commit.id if known else None,
        dirty=commit.dirty if known else None,
        threads=1,
    )
