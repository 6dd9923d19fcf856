"""Workers of one launch, a process for each contender, and one question to a cell's worker with its failure put into the cell."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from aieng_bench.measure import answers
from aieng_bench.measure.cell import Cell
from aieng_bench.measure.plan import Plan
from aieng_bench.measure.process import Failure, Worker
from aieng_bench.record.schema import Outcome

T = TypeVar("T")
Answers = list[tuple[Cell, dict[str, Any]]]


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

    def _setting(self, cell: Cell) -> dict[str, Any]:
        """What a worker must know to set the cell up."""
        contender = self._plan.origin(cell.contender.name).contender
        return {"module": cell.unit.benchmark.module, "contender": contender, "case": dict(cell.unit.case)}

    def ask(self, cell: Cell, op: str, **fields: Any) -> dict[str, Any] | None:
        """The answer of the cell's worker; None if there was none, and the cell then says why."""
        return self._end(cell, op, self._begin(cell, op, fields))

    def ask_all(self, cells: Sequence[Cell], op: str, at_once: bool, **fields: Any) -> Iterator[tuple[Cell, dict[str, Any]]]:
        """The cells that got an answer, with it. ``at_once``: all are asked before the first answer is waited for; else each when
        what was done with the answer before is done."""
        if at_once:
            yield from self.begin_all(cells, op, **fields)()
        else:
            yield from ((cell, answer) for cell in cells if (answer := self.ask(cell, op, **fields)) is not None)

    def begin_all(self, cells: Sequence[Cell], op: str, **fields: Any) -> Callable[[], Answers]:
        """Ask the workers of all these cells; what is returned waits for the answers."""
        begun = [(cell, self._begin(cell, op, fields)) for cell in cells]
        return lambda: [(cell, answer) for cell, wait in begun if (answer := self._end(cell, op, wait)) is not None]

    def _begin(self, cell: Cell, op: str, fields: Mapping[str, Any]) -> Callable[[], dict[str, Any]] | None:
        if op == "prepare":
            fields = {**self._setting(cell), **fields}
        worker = self._member(cell.contender.name)
        return self._tried(cell, op, worker, lambda: worker.begin(op, self._plan.timeout_s, **fields))

    def _end(self, cell: Cell, op: str, wait: Callable[[], dict[str, Any]] | None) -> dict[str, Any] | None:
        if wait is None:
            return None
        worker = self._members[cell.contender.name]

        def checked() -> dict[str, Any]:
            answer = wait()
            try:
                return answers.check(op, answer)
            except ValueError:
                worker.close()
                raise Failure(Outcome.CRASHED, f"the answer to {op!r} has not the form of one") from None

        return self._tried(cell, op, worker, checked)

    def _tried(self, cell: Cell, op: str, worker: Worker, act: Callable[[], T]) -> T | None:
        began = time.perf_counter()
        try:
            return act()
        except Failure as failure:
            cell.fail(failure.outcome, failure.reason, worker.log)
            if not failure.reusable:
                where = f"{cell.unit.benchmark.name} {cell.unit.case.label}: {cell.contender.name}"
                self._note(f"{where} {failure.outcome}: {failure.reason}")
            return None
        finally:
            cell.spent[op] += time.perf_counter() - began

    def log(self, cell: Cell) -> str:
        """The last of what the cell's worker printed."""
        return self._members[cell.contender.name].log

    def retire(self, cell: Cell) -> None:
        """End the cell's worker; the next case's is a new process."""
        self._members.pop(cell.contender.name).close()

    def marks(self) -> set[str]:
        """By which its processes, and theirs, are recognised."""
        return {worker.mark for worker in self._members.values()}

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
