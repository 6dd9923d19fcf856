"""Cells of a study: one process per contender, seeds as rounds, interleaved; one that stayed small lives on for the next case."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

from aieng_bench.define import Study
from aieng_bench.measure.answers import Seed
from aieng_bench.measure.cell import Cell
from aieng_bench.measure.crew import Crew
from aieng_bench.measure.plan import Plan, Progress
from aieng_bench.record.exhibits import bounded
from aieng_bench.record.schema import Outcome

PEAK = "peak_bytes"
SMALL_BYTES = 8 * 2**20
"""A heap that grew by more could hide the growth of the next case, so its process ends with the case."""


class StudyCampaign:
    """One case of a study with all its contenders."""

    def __init__(self, study: Study, cells: Sequence[Cell], crew: Crew, plan: Plan, progress: Progress) -> None:
        self._study, self._cells, self._crew, self._progress = study, cells, crew, progress
        self._seeds, self._quick = study.quick_seeds if plan.quick else study.seeds, plan.quick
        self._figures: dict[str, list[dict[str, float]]] = {cell.contender.name: [] for cell in cells}

    def run(self) -> None:
        self._progress.unit_started(self._cells[0].unit)
        live = [cell for cell in self._cells if cell.live]
        self._crew.start(cell.contender.name for cell in live)
        for cell in live:
            cell.begin_launch()
        self._crew.begin_all(live, "prepare", seed=0)()  # at once: most of it is what they import
        self._crew.settle()
        for seed in range(self._seeds):
            due = [cell for cell in live if cell.contender.seeds is None or seed < cell.contender.seeds]
            for i, cell in enumerate(random.SystemRandom().sample(due, len(due))):
                done = (seed + i / len(due)) / self._seeds
                self._progress.step(cell.unit, f"seed {seed + 1} of {self._seeds}: {cell.contender.name}", done)
                if cell.outcome is None:
                    self._run_seed(cell, seed)
        for cell in live:
            if cell.outcome is None:
                self._conclude(cell)
                if not self._small(cell):
                    self._crew.retire(cell)

    def _run_seed(self, cell: Cell, seed: int) -> None:
        reply = self._crew.ask(cell, "run_seed", seed=seed)
        if reply is None:
            return
        figures = dict(reply["figures"])
        earlier = self._figures[cell.contender.name]
        declared = [m.name for m in self._study.metrics if all(m.name in f for f in (*earlier, figures))]
        for metric in self._study.metrics:
            if metric.name not in declared:  # an optional one: samples go by rounds, so that none may be left out
                cell.samples.pop(metric.name, None)
        for name in declared:
            if not math.isfinite(figures[name]):
                cell.refute(f"seed {seed}: {name} is not a number")
        if PEAK not in figures and (given := figures.pop(f"_{PEAK}", reply[PEAK])) is not None:
            figures[PEAK] = given
        for name, exhibit in Seed.model_validate(reply).exhibits.items():
            cell.exhibits[name] = (*cell.exhibits.get(name, ()), exhibit)
        try:
            bounded(cell.exhibits)
        except ValueError as error:
            cell.exhibits = {}
            cell.fail(Outcome.ERROR, f"seed {seed}: exhibits: {error}")
            return
        cell.checks += 1
        cell.add(seed, {name: figures[name] for name in declared if math.isfinite(figures[name])})
        earlier.append(figures)

    def _small(self, cell: Cell) -> bool:
        return all(0 <= f.get(PEAK, SMALL_BYTES) < SMALL_BYTES for f in self._figures[cell.contender.name])

    def _conclude(self, cell: Cell) -> None:
        """Medians and peaks over the seeds, and the quality gate: a median beyond a metric's floor is not a result."""
        figures = self._figures[cell.contender.name]
        cell.unchecked = ""
        cell.memory |= {PEAK: max(f[PEAK] for f in figures)} if all(PEAK in f for f in figures) else {}
        for name in figures[0]:
            values = [f[name] for f in figures if math.isfinite(f.get(name, math.nan))]
            if name.startswith("_") and values:
                cell.extra[name.lstrip("_")] = statistics.median(values)
        for metric in self._study.metrics:
            if (floor := metric.gate(self._quick)) is None:
                continue
            values = [f[metric.name] for f in figures]
            if not all(map(math.isfinite, values)):
                continue
            median = statistics.median(values)
            if (median < floor) if metric.better == "higher" else (median > floor):
                cell.refute(f"{metric.name}: the median {median:.4g} is worse than the floor {floor:.4g}")
