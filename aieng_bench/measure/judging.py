"""The parent's end of the checker: outputs that a worker dumped go in, verdicts go into the cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aieng_bench.measure.cell import Cell
from aieng_bench.measure.process import Failure, Worker
from aieng_bench.measure.workplace import Workplace

DescribedOutputs = Sequence[dict[str, Any]]


class Judging:
    """One checker for the whole run, started on demand and again should it die."""

    def __init__(self, workplace: Workplace, timeout_s: float) -> None:
        self.workplace, self._timeout_s = workplace, timeout_s
        self._checker: Worker | None = None

    def start(self) -> Worker:
        if self._checker is None or self._checker.closed:
            self._checker = self.workplace.checker()
        return self._checker

    def judge(self, cell: Cell, seed: int, outputs: DescribedOutputs) -> None:
        """Verdict on one call's outputs. A checker that cannot tell leaves the cell unchecked, and says why."""
        case, module = dict(cell.unit.case), cell.unit.benchmark.module
        try:
            verdict = self.start().ask("judge", self._timeout_s, module=module, case=case, seed=seed, described=list(outputs))
            cell.judged(verdict["errors"], verdict["reason"])
        except Failure as failure:
            cell.unchecked = f"could not be checked: {failure.reason}"
        finally:
            for described in outputs:
                if described["file"]:
                    Path(described["file"]).unlink(missing_ok=True)

    def close(self) -> None:
        if self._checker is not None:
            self._checker.close()
