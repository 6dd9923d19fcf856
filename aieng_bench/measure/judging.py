"""The parent's end of the checker: outputs that a worker dumped go in, verdicts go into the cell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aieng_bench.measure.cell import Cell
from aieng_bench.measure.plan import Plan
from aieng_bench.measure.process import PROBE_S, Failure, Worker
from aieng_bench.measure.workplace import Workplace

DescribedOutputs = Sequence[dict[str, Any]]


class Judging:
    """One checker for the whole run (and for each import path), started on demand and again should it die."""

    def __init__(self, workplace: Workplace, plan: Plan) -> None:
        self.workplace, self._plan = workplace, plan
        self._checkers: dict[str | None, Worker] = {}
        self.aside: dict[str, str] = {}
        """Devices that answer no more, and why nothing is run on them."""

    def start(self, device: str) -> None:
        for path in {origin.path for origin in self._plan.origins.values()} or {None}:
            self._checker(path, device)

    def _checker(self, path: str | None, device: str) -> Worker:
        if path not in self._checkers or self._checkers[path].closed:
            self._checkers[path] = self.workplace.checker(path, device)
        return self._checkers[path]

    def judge(self, cell: Cell, seed: int, outputs: DescribedOutputs) -> None:
        """Verdict on one call's outputs. A checker that cannot tell leaves the cell unchecked, and says why."""
        case, module, origin = dict(cell.unit.case), cell.unit.benchmark.module, self._plan.origin(cell.contender.name)
        began = time.perf_counter()
        try:
            checker = self._checker(origin.path, str(case["device"]))
            asked = {"module": module, "contender": origin.contender, "case": case, "seed": seed, "described": list(outputs)}
            verdict = checker.ask("judge", self._plan.timeout_s, **asked)
            cell.judged(verdict["errors"], verdict["reason"])
        except Failure as failure:
            cell.unchecked = f"could not be checked: {failure.reason}"
        finally:
            for described in outputs:
                if described["file"]:
                    Path(described["file"]).unlink(missing_ok=True)
            cell.spent["judge"] += time.perf_counter() - began

    def answers(self, device: str) -> bool:
        """Whether the device still does what a process asks that ran no contender. One that had died is started anew for it."""
        try:
            self._checker(next(iter(self._checkers), None), device).ask("probe", PROBE_S, device=device)
        except Failure:
            return False
        return True

    def marks(self) -> set[str]:
        """By which its processes are recognised."""
        return {checker.mark for checker in self._checkers.values()}

    def close(self) -> None:
        for checker in self._checkers.values():
            checker.close()
