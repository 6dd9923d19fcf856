"""Workers of one launch, a process for each contender, and one question to a cell's worker with its failure put into the cell."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from aieng_bench.measure import answers
from aieng_bench.measure.cell import Cell
from aieng_bench.measure.plan import Plan
from aieng_bench.measure.process import Failure, Worker
from aieng_bench.record.schema import Outcome


class Crew:
    """Started on demand; a member that died is started again when its contender is next asked something."""

    def __init__(self, spawn: Callable[[str | None], Worker], plan: Plan, note: Callable[[str], None]) -> None:
        """``spawn`` starts a process with an import path, None for that of its parent."""
        self._spawn, self._plan, self._note = spawn, plan, note
        self._members: dict[str, Worker] = {}

    def start(self, contenders: Iterable[str]) -> None:
        """Start processes without waiting for them, so that their imports overlap."""
        for name in contenders:
            self._member(name)

    def settle(self) -> None:
        """Wait until every member has started up and is stopped; one that fails to is noticed when it is used."""
        for name in list(self._members):
            with contextlib.suppress(Failure):
                self._member(name).ready()

    def prepare(self, cell: Cell, seed: int) -> dict[str, Any] | None:
        """Have the cell's worker set it up."""
        benchmark, case, contender = cell.unit.benchmark, dict(cell.unit.case), self._plan.origin(cell.contender.name).contender
        return self.ask(cell, "prepare", module=benchmark.module, contender=contender, case=case, seed=seed)

    def ask(self, cell: Cell, op: str, **fields: Any) -> dict[str, Any] | None:
        """The answer of the cell's worker; None if there was none, and the cell then says why."""
        worker = self._member(cell.contender.name)
        try:
            answer = worker.ask(op, self._plan.timeout_s, **fields)
            try:
                return answers.check(op, answer)
            except ValueError:
                worker.close()
                raise Failure(Outcome.CRASHED, f"the answer to {op!r} has not the form of one") from None
        except Failure as failure:
            cell.fail(failure.outcome, failure.reason, worker.log)
            if not failure.reusable:
                where = f"{cell.unit.benchmark.name} {cell.unit.case.label}: {cell.contender.name}"
                self._note(f"{where} {failure.outcome}: {failure.reason}")
            return None

    def log(self, cell: Cell) -> str:
        """The last of what the cell's worker printed."""
        return self._members[cell.contender.name].log

    def retire(self, cell: Cell) -> None:
        """End the cell's worker; the next case's is a new process."""
        self._members.pop(cell.contender.name).close()

    def strays(self, cell: Cell) -> bool:
        """Whether the cell's worker left a process that stopping it does not stop."""
        return self._members[cell.contender.name].strays()

    def close(self) -> None:
        for worker in self._members.values():
            worker.close()
        self._members.clear()

    def _member(self, name: str) -> Worker:
        worker = self._members.get(name)
        if worker is None or worker.closed:
            worker = self._members[name] = self._spawn(self._plan.origin(name).path)
        return worker
