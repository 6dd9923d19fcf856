"""Runs a plan: units in order, each cell ending as one record in the store, whatever becomes of the processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

from aieng_bench import ceilings, machine
from aieng_bench.ceilings import Ceilings
from aieng_bench.define import REDTEAM, Benchmark, Case, Contender, KernelBenchmark, Study
from aieng_bench.measure.cell import Cell, spent
from aieng_bench.measure.crew import Crew
from aieng_bench.measure.judging import Judging
from aieng_bench.measure.kernel import KernelCampaign
from aieng_bench.measure.plan import Plan, Progress, Unit
from aieng_bench.measure.resume import still_good
from aieng_bench.measure.study import StudyCampaign
from aieng_bench.measure.workplace import Workplace
from aieng_bench.record.schema import Environment, Limit, Outcome, Record

Malloc = Literal["default", "tuned"]
STUDY_TIMEOUT = 6
"""A seed of a study trains a system and may take so many times the time of a kernel's question."""


class Store(Protocol):
    """Where records go; see aieng_bench.record.store.RunStore."""

    @property
    def run(self) -> str: ...
    def write(self, record: Record) -> Path: ...
    def finished(self) -> dict[tuple[str, str, str], Record]: ...


def run(plan: Plan, store: Store, progress: Progress, *, resume: bool = False) -> list[Record]:
    """Measure every unit of ``plan``, tell ``progress`` and write records to ``store`` as units end; returns the records.

    ``resume``: units that ``store`` holds whole, measured with the same code on the same machine, are not run again. On
    KeyboardInterrupt finished units stay, every process is killed, and the exception goes on to the caller.
    """
    progress.started(len(plan.units))
    finished = store.finished() if resume else {}
    with Workplace() as workplace, closing(Judging(workplace, plan)) as judging:
        runner = _Runner(plan, store, progress, judging, finished)
        campaigns: dict[tuple[str, Malloc], list[Unit]] = {}
        for unit in plan.units:
            campaigns.setdefault((together(unit.benchmark, plan.quick), malloc_of(unit.case)), []).append(unit)
        for (_, malloc), units in campaigns.items():
            runner.measure(units, malloc)
        return runner.records


def together(benchmark: Benchmark, quick: bool) -> str:
    """Benchmarks of one name here are measured by the same processes, one for each contender and launch.

    In a quick run those are kernels of a group (``attention``): to start processes anew for each takes longer than to measure it.
    What cheats is kept apart.
    """
    shares = quick and isinstance(benchmark, KernelBenchmark) and benchmark.suite != REDTEAM
    return f"{benchmark.suite}:{benchmark.name.split('/')[0]}/*" if shares else benchmark.name


def malloc_of(case: Case) -> Malloc:
    """The malloc setting of a case: its axis ``malloc`` if it has one, else tuned."""
    return "default" if case.get("malloc") == "default" else "tuned"


def refusal(contender: Contender, case: Case) -> str | None:
    """Why a contender cannot run a case, as far as can be told without a process."""
    if reason := contender.refuses(case):
        return reason
    if case["device"] not in machine.devices():
        return f"no {str(case['device']).upper()} device here"
    reasons = (machine.missing(name) for name in contender.requires)
    return next((reason for reason in reasons if reason), None) or contender.unsupported()


class _Runner:
    def __init__(
        self, plan: Plan, store: Store, progress: Progress, judging: Judging, finished: Mapping[tuple[str, str, str], Record]
    ) -> None:
        self._plan, self._store, self._progress, self._finished = plan, store, progress, finished
        self._judging, self._workplace = judging, judging.workplace
        self._known: dict[str, Ceilings | None] = {}
        self.records: list[Record] = []

    def measure(self, units: Sequence[Unit], malloc: Malloc) -> None:
        """Units that share processes, and so a malloc setting: of one study, or of one or more kernels."""
        benchmarks = {unit.benchmark.name: unit.benchmark for unit in units}
        environments = {name: self._environment(benchmark, malloc) for name, benchmark in benchmarks.items()}
        todo = []
        for unit in units:
            environment = environments[unit.benchmark.name]
            if (old := still_good(unit, self._plan.quick, self._finished, environment)) is not None:
                self._progress.unit_started(unit)
                self._done(unit, old)
            else:
                todo.append([self._cell(unit, contender) for contender in unit.contenders])

        def emit(unit: Unit, cells: Sequence[Cell]) -> None:
            self._emit(unit, cells, environments[unit.benchmark.name])

        benchmark = units[0].benchmark
        if isinstance(benchmark, KernelBenchmark):
            if any(cell.live for cells in todo for cell in cells):
                self._ceilings(str(units[0].case["device"]))
            KernelCampaign(todo, malloc, self._plan, self._judging, self._progress).run(emit)
        elif isinstance(benchmark, Study):
            patient = replace(self._plan, timeout_s=STUDY_TIMEOUT * self._plan.timeout_s)
            # A device's driver does not survive a fork, and modules may look for devices as they are imported.
            preload = benchmark.preload if all(unit.case["device"] == "cpu" for unit in units) else ()
            crew = Crew(lambda path: self._workplace.study_worker(malloc, path, preload), patient, self._progress.note)
            try:
                for cells in todo:
                    StudyCampaign(benchmark, cells, crew, self._plan, self._progress).run()
                    emit(cells[0].unit, cells)
            finally:
                crew.close()

    def _cell(self, unit: Unit, contender: Contender) -> Cell:
        cell = Cell(unit, contender)
        if reason := refusal(contender, unit.case) or self._left_out(contender, unit.case):
            cell.fail(Outcome.UNSUPPORTED, reason)
        return cell

    def _left_out(self, contender: Contender, case: Case) -> str | None:
        if not self._plan.quick or contender.name in self._plan.asked:
            return None
        reason = contender.left_out(case)
        return f"not in a quick run: {reason}" if reason else None

    def _emit(self, unit: Unit, cells: Sequence[Cell], environment: Environment) -> None:
        limit = self._limit(unit)
        records = [
            cell.record(self._store.run, environment, limit, self._plan.quick, [other for other in cells if other is not cell])
            for cell in cells
        ]
        for record in records:
            self._store.write(record)
        self._progress.step(unit, spent(cells), 1.0)
        self._done(unit, records)

    def _done(self, unit: Unit, records: Sequence[Record]) -> None:
        self.records += records
        self._progress.unit_finished(unit, records)

    def _environment(self, benchmark: Benchmark, malloc: Malloc) -> Environment:
        packages = {contender.package for contender in benchmark.contenders.values()}
        variables = self._workplace.variables(malloc)
        return machine.environment(packages, threads=self._workplace.threads, malloc=malloc, variables=variables)

    def _limit(self, unit: Unit) -> Limit | None:
        """The physical floor of a kernel's case. Its working set is the least it must touch."""
        if not isinstance(unit.benchmark, KernelBenchmark):
            return None
        known = self._ceilings(str(unit.case["device"]))
        work = unit.benchmark.work(unit.case)
        return ceilings.limit(work, work.bytes, known) if known else None

    def _ceilings(self, device: str) -> Ceilings | None:
        """Measured before the first worker of this device starts, and once; None, and a note, if they cannot be."""
        if device not in self._known:
            try:
                self._known[device] = ceilings.load_or_calibrate(device, self._plan.quick, self._workplace.threads)
            except RuntimeError as error:
                self._progress.note(f"no physical limit on {device}: {error}")
                self._known[device] = None
        return self._known[device]
