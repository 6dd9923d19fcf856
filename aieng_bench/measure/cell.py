"""What is known so far of one cell, and the record it becomes."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aieng_bench import machine
from aieng_bench.define import REDTEAM, Benchmark, Case, Contender, KernelBenchmark
from aieng_bench.measure.places import placeless
from aieng_bench.measure.plan import Unit
from aieng_bench.measure.quality import quality
from aieng_bench.measure.sources import suite_hash
from aieng_bench.measure.tuned import Choice, figures
from aieng_bench.record.exhibits import Exhibit
from aieng_bench.record.schema import (
    Check,
    ContenderInfo,
    Correctness,
    Definition,
    Environment,
    Limit,
    MetricInfo,
    Outcome,
    OutputError,
    Record,
)
from aieng_bench.record.store import timestamp


@dataclass
class Cell:
    """One contender on one case. ``outcome`` stays None while nothing went wrong."""

    unit: Unit
    contender: Contender
    outcome: Outcome | None = None
    reason: str = ""
    log: str = ""
    incorrect: str = ""
    unchecked: str = "was not run"
    errors: dict[str, OutputError] = field(default_factory=dict)
    deterministic: bool | None = None
    checks: int = 0
    samples: dict[str, list[list[float]]] = field(default_factory=dict)
    rounds: list[list[int]] = field(default_factory=list)
    accounts: list[tuple[int, int]] = field(default_factory=list)
    novelty: list[tuple[float, float]] = field(default_factory=list)
    """Of each launch, microseconds a call on values never seen before and on those seen just before."""
    disturbed: str = ""
    memory: dict[str, float] = field(default_factory=dict)
    extra: dict[str, float] = field(default_factory=dict)
    tuned: list[dict[str, Choice]] = field(default_factory=list)
    """Of each launch, what an autotuner chose."""
    exhibits: dict[str, tuple[Exhibit, ...]] = field(default_factory=dict)
    """What a study shows, one of each seed."""
    setup_s: float | None = None
    inputs_hash: str = ""
    spent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds that its parent waited, by stage."""

    @property
    def live(self) -> bool:
        """Whether it is still worth running."""
        return self.outcome is None and not self.incorrect

    def fail(self, outcome: Outcome, reason: str, log: str = "") -> None:
        self.outcome, self.reason, self.log = outcome, reason, log

    def refute(self, reason: str) -> None:
        """An output was wrong; the first reason stays."""
        self.incorrect = self.incorrect or reason

    def judged(self, errors: Sequence[dict[str, Any]], reason: str) -> None:
        """Take in the verdict on one call; of each output the worst error is kept."""
        self.checks += 1
        for error in map(OutputError.model_validate, errors):
            known = self.errors.get(error.output)
            if known is None or _badness(error) > _badness(known):
                self.errors[error.output] = error
        if reason:
            self.refute(reason)

    def begin_launch(self) -> None:
        self.rounds.append([])

    def add(self, round_: int, samples: dict[str, float]) -> None:
        """One round's sample of each metric, in the launch begun last."""
        self.rounds[-1].append(round_)
        for name, value in samples.items():
            launches = self.samples.setdefault(name, [])
            while len(launches) < len(self.rounds):
                launches.append([])
            launches[-1].append(value)

    def check(self) -> Check:
        verdict, reason = Correctness.PASSED, ""
        if self.incorrect:
            verdict, reason = Correctness.INCORRECT, self.incorrect
        elif self.outcome is not None or self.unchecked:
            verdict, reason = Correctness.UNCHECKED, self.unchecked
        return Check(
            verdict=verdict,
            reason=reason,
            outputs=tuple(self.errors.values()),
            deterministic=self.deterministic,
            checks=self.checks,
        )

    def record(self, run: str, environment: Environment, limit: Limit | None, quick: bool, others: Sequence[Cell] = ()) -> Record:
        """``others``: the unit's other cells, by which the quality of the measurement is judged."""
        benchmark, case = self.unit.benchmark, self.unit.case
        check, outcome = self.check(), self.outcome or Outcome.RAN
        measured = [m for m in benchmark.metrics if m.name in self.samples] if isinstance(benchmark, KernelBenchmark) else []
        rivals = [other.samples for other in others]
        trust, trust_reason = quality(measured, self.samples, limit, self.accounts, rivals, self.novelty, self.disturbed)
        good = outcome is Outcome.RAN and check.verdict is Correctness.PASSED
        return Record(
            schema_version=2 if self.exhibits else 1,
            run=run,
            created=timestamp(),
            definition=definition(benchmark, case),
            case=dict(case),
            contender=info(self.contender),
            outcome=outcome,
            outcome_reason=placeless(self.reason),
            check=check,
            quality=trust,
            quality_reason=trust_reason,
            samples={name: tuple(map(tuple, launches)) for name, launches in self.samples.items()},
            rounds=tuple(map(tuple, self.rounds)),
            memory=self.memory,
            extra=self.extra | figures(self.tuned),
            setup_s=self.setup_s,
            limit=limit,
            inputs_hash=self.inputs_hash,
            command=command(benchmark, self.contender, case, quick),
            environment=environment,
            log="" if good else placeless(self.log),
            exhibits=self.exhibits,
        )


def _badness(error: OutputError) -> float:
    if error.rmse_ratio is None or error.worst_row_ratio is None:
        return float("inf")
    return max(error.rmse_ratio, error.worst_row_ratio)


def spent(cells: Sequence[Cell]) -> str:
    """Where most of a unit's time went: ``12.1 s: judge 4.0, start 3.1, audit 2.2``; '' if it took none."""
    stages: dict[str, float] = defaultdict(float)
    for cell in cells:
        for stage, seconds in cell.spent.items():
            stages[stage] += seconds
    long = sorted(((seconds, stage) for stage, seconds in stages.items() if seconds >= 0.05), reverse=True)
    return f"{sum(stages.values()):.1f} s: {', '.join(f'{stage} {seconds:.1f}' for seconds, stage in long[:3])}" if long else ""


def definition(benchmark: Benchmark, case: Case) -> Definition:
    work = benchmark.work(case) if isinstance(benchmark, KernelBenchmark) else None
    return Definition(
        suite=benchmark.suite,
        benchmark=benchmark.name,
        kind="kernel" if isinstance(benchmark, KernelBenchmark) else "study",
        title=benchmark.title,
        summary=benchmark.summary,
        baseline=benchmark.baseline,
        metrics=tuple(MetricInfo(name=m.name, unit=m.unit, better=m.better, title=m.title) for m in benchmark.metrics),
        hash=benchmark.definition_hash(),
        source_hash=suite_hash(benchmark.module),
        flops=work.flops if work else None,
        bytes=work.bytes if work else None,
        compute=work.compute if work else None,
    )


def info(contender: Contender) -> ContenderInfo:
    version = machine.version(contender.package) if contender.package else None
    return ContenderInfo(
        name=contender.name,
        kind=contender.kind,
        package=contender.package,
        version=version or "",
        source_hash=contender.source_hash(),
    )


def command(benchmark: Benchmark, contender: Contender, case: Case, quick: bool) -> str:
    """The command that measures this cell, with its baseline, again."""
    if benchmark.suite == REDTEAM:
        return f"aieng-bench redteam {benchmark.name.split('/')[-1]}"
    axes = ",".join(f"{axis}={value}" for axis, value in case.items() if axis != "device")
    words = ["aieng-bench", "run", f"{benchmark.name}[{axes}]" if axes else benchmark.name, "--contender", contender.name]
    return shlex.join([*words, "--device", str(case["device"]), *(["--quick"] if quick else [])])
