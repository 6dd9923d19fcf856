"""A run as it goes: bars in a terminal, plain lines elsewhere; each unit's table as it ends. Implements measure.plan.Progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from aieng_bench.cli import tables
from aieng_bench.measure.plan import Unit
from aieng_bench.record.schema import Record
from aieng_bench.report.format import clean
from aieng_bench.summary import groups

SAME_STAGE_S, NEW_STAGE_S = 5.0, 1.0
"""Plain lines about one unit come no more often than this, within a stage and from stage to stage."""


class Watch:
    """What both ways of showing share: how far the run is, and what was measured so far. ``show``: whether to print tables."""

    def __init__(self, out: Console, show: bool) -> None:
        self.out, self.show = out, show
        self.units = 0
        self.finished = 0
        self.records: list[Record] = []
        self._parts: dict[str, float] = {}
        self._spent: dict[str, str] = {}

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def started(self, units: int) -> None:
        self.units = units
        self.tell("run", "getting ready")

    def unit_started(self, unit: Unit) -> None:
        self.step(unit, "starting", 0.0)

    def step(self, unit: Unit, what: str, done: float) -> None:
        self._parts[label(unit)] = min(max(done, 0.0), 1.0)
        if done < 1:
            self.tell(label(unit), what)
        else:
            self._spent[label(unit)] = what

    def unit_finished(self, unit: Unit, records: Sequence[Record]) -> None:
        self.finished += 1
        self._parts[label(unit)] = 1.0
        self.records += records
        if self.show:
            for group in groups(records):
                self.out.print(tables.unit(group))
                self.out.print()
        spent = self._spent.pop(label(unit), "")
        self.tell(label(unit), f"finished in {spent}" if spent else "finished")

    def note(self, text: str) -> None:
        # A Text, as a style given to print would colour the bars below too.
        self.out.print(Text(f"note: {clean(text)}", style="yellow"))

    def tell(self, name: str, what: str) -> None:
        raise NotImplementedError

    @property
    def part(self) -> float:
        """How much of the run is behind us, 0..1."""
        return sum(self._parts.values()) / self.units if self.units else 0.0


class PlainLines(Watch):
    """For logs and pipes: a line when a unit starts, enters a new stage or ends, and every few seconds while it goes on."""

    def __init__(self, out: Console, show: bool, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(out, show)
        self._clock, self._last, self._said = clock, 0.0, ("", "")

    def tell(self, name: str, what: str) -> None:
        now, (last_name, last_what) = self._clock(), self._said
        quiet = SAME_STAGE_S if what == last_what else NEW_STAGE_S
        if name == last_name and last_what != "starting" and not what.startswith("finished") and now - self._last < quiet:
            return
        self._said, self._last = (name, what), now
        self.out.print(f"[{self.finished}/{self.units} {self.part:4.0%}] {name}: {clean(what)}", soft_wrap=True)


class Bars(Watch):
    """For a terminal: one bar for the run, and below it what is under way."""

    def __init__(self, out: Console, show: bool) -> None:
        super().__init__(out, show)
        self._progress = Progress(
            TextColumn("{task.fields[count]}", style="bold"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            _Now(),
            console=out,
            expand=True,
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task("", total=1.0, count="", now="")

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def tell(self, name: str, what: str) -> None:
        count = f"{self.finished}/{self.units}"
        self._progress.update(self._task, completed=self.part, count=count, now=f"{clean(what)} · {name}")


class _Now(ProgressColumn):
    """What is under way, on one line, cut where the terminal ends."""

    def __init__(self) -> None:
        super().__init__(table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))

    def render(self, task: Task) -> Text:
        return Text(task.fields["now"], style="dim", no_wrap=True, overflow="ellipsis")


def label(unit: Unit) -> str:
    return clean(f"{unit.benchmark.name} {unit.case.label}".strip())
