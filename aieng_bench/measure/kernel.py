"""Cells of a kernel benchmark: contenders are checked, each in its process, then timed in interleaved rounds, launch by launch."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from aieng_bench import machine
from aieng_bench.measure.cell import Cell
from aieng_bench.measure.crew import Crew
from aieng_bench.measure.judging import Judging
from aieng_bench.measure.plan import Plan, Progress, Unit
from aieng_bench.measure.process import marks_of
from aieng_bench.measure.schedule import Calls, Schedule, schedule
from aieng_bench.measure.tuned import choices
from aieng_bench.measure.watch import watch
from aieng_bench.record.schema import Outcome

SEEDS = {True: 2, False: 3}
"""Sets of inputs that each contender is checked on, in a quick run and in a full one. Their seeds are public, as the record carries
the hash of the first."""
SECRET = 3
"""Sets of inputs that nobody can compute results for in advance; launch k is timed on set k modulo these, and audited on all."""
REPEATS = {True: 2, False: 3}
"""Calls on each set of inputs; whether they agree bit for bit is recorded."""
CHUNK = 4
"""Cases of a full run that share their processes: starting a crew anew for each would cost as much as measuring it."""
AT_ONCE_ON, CORES = ("cuda",), 8
"""With so many cores a quick run on a device sets all contenders up, and checks them, at once: one after another they keep one core
and little of the device busy. A full run does not, as each may need the whole device's memory."""
PROBED = ("cuda",)
CHECKING = 0.3
"""Part of a unit's progress that the check stands for."""

Emit = Callable[[Unit, Sequence[Cell]], None]
_RANDOM = random.SystemRandom()


class KernelCampaign:
    """Units under one malloc setting, of one device. ``emit`` gets each unit's cells when nothing is to be added to them."""

    def __init__(self, units: Sequence[Sequence[Cell]], malloc: str, plan: Plan, judging: Judging, progress: Progress) -> None:
        self._units, self._malloc, self._plan = units, malloc, plan
        self._judging, self._workplace, self._progress = judging, judging.workplace, progress
        self._secret = [2**32 + _RANDOM.getrandbits(48) for _ in range(SECRET)]
        self._device = str(units[0][0].unit.case["device"]) if units else "cpu"
        self._at_once = plan.quick and self._device in AT_ONCE_ON and machine.core_count() >= CORES
        self._checkers, *self._crews = (self._crew() for _ in range(1 + plan.launches))
        self._probed: set[int] = set()
        self._watch = watch(self._device, self._ours)

    def run(self, emit: Emit) -> None:
        """A quick run measures unit by unit with all launches' processes alive, so that its first result comes soon; a full one has
        one launch at a time, over a chunk of units."""
        try:
            if self._plan.quick and self._device not in self._judging.aside:
                self._start_all()
            size = 1 if self._plan.quick else CHUNK
            for first in range(0, len(self._units), size):
                self._run_chunk(self._units[first : first + size], emit)
        finally:
            for crew in (self._checkers, *self._crews):
                crew.close()

    def _run_chunk(self, chunk: Sequence[Sequence[Cell]], emit: Emit) -> None:
        for cells in chunk:
            self._progress.unit_started(cells[0].unit)
            self._unless_aside(cells)
            self._check(cells)
            if self._at_once:
                self._set_up(cells)
            self._probe(cells)
        for launch, crew in enumerate(self._crews):
            for cells in chunk:
                self._unless_aside(cells)
                self._time(cells, launch, crew)
                self._probe(cells)
            if not self._plan.quick:
                crew.close()
        for cells in chunk:
            emit(cells[0].unit, cells)

    def _probe(self, cells: Sequence[Cell]) -> None:
        """Where a contender crashed or hung on a device, see whether that still answers; if not, nothing is run on it any more."""
        fallen = [cell for cell in cells if cell.outcome in (Outcome.CRASHED, Outcome.TIMEOUT) and id(cell) not in self._probed]
        self._probed |= set(map(id, fallen))
        if not fallen or self._device not in PROBED or self._device in self._judging.aside or self._judging.answers(self._device):
            return
        names, unit = ", ".join(cell.contender.name for cell in fallen), cells[0].unit
        reason = f"{self._device} was set aside: it does not answer since {names} on {unit.benchmark.name} {unit.case.label}"
        self._judging.aside[self._device] = reason
        self._progress.note(reason)

    def _unless_aside(self, cells: Sequence[Cell]) -> None:
        for cell in [cell for cell in cells if cell.live]:
            if reason := self._judging.aside.get(self._device):
                cell.fail(Outcome.ERROR, reason)

    def _start_all(self) -> None:
        wanted = dict.fromkeys(cell.contender.name for cells in self._units for cell in cells if cell.live)
        if wanted:
            self._judging.start(self._device)
            self._checkers.start(wanted)
            if self._at_once:  # then there are cores enough for all of them
                for crew in self._crews:
                    crew.start(wanted)
            began = time.perf_counter()
            self._checkers.settle()
            self._units[0][0].spent["start"] += time.perf_counter() - began
            for crew in self._crews:  # they start up while the first case is checked; `setup` may be longer for it
                crew.start(wanted)

    def _check(self, cells: Sequence[Cell]) -> None:
        live = [cell for cell in cells if cell.live]
        if live and not self._plan.quick:
            self._judging.start(self._device)
            self._checkers.start(cell.contender.name for cell in live)
        groups = [live] if self._at_once else [[cell] for cell in live]
        for i, group in enumerate(groups):
            self._progress.step(cells[0].unit, "checking", CHECKING * i / len(groups))
            self._check_group(group)
        if not self._plan.quick:  # a heap that an earlier case left behind would hide growth
            self._checkers.close()

    def _check_group(self, cells: Sequence[Cell]) -> None:
        for cell, prepared in self._checkers.ask_all(cells, "prepare", self._at_once, seed=0):
            cell.inputs_hash = prepared["inputs_hash"]
        for cell, memory in self._checkers.ask_all([c for c in cells if c.live], "memory", self._at_once):
            cell.setup_s = memory["setup_s"]
            if memory["peak_bytes"] is not None:
                cell.memory["peak_bytes"] = memory["peak_bytes"]
        asked = {"seeds": list(range(SEEDS[self._plan.quick])), "repeats": REPEATS[self._plan.quick]}
        folder = str(self._workplace.outputs)
        for cell, checked in self._checkers.ask_all([c for c in cells if c.live], "check", self._at_once, folder=folder, **asked):
            cell.unchecked = ""
            cell.deterministic = checked["deterministic"]
            self._judge(cell, checked)
        self._finish([cell for cell in cells if cell.outcome is None], self._checkers)

    def _judge(self, cell: Cell, checked: Mapping[str, Any]) -> None:
        for kept in checked["outputs"]:
            self._judging.judge(cell, kept["seed"], kept["outputs"])
        if checked["reused"]:
            cell.refute("an output changed after it was returned: it was not done, or its memory was handed out again")
        if checked["late"]:
            cell.refute("work went on on another stream after the calls were done on theirs")
        if checked["changed"]:
            cell.refute(f"changed its input {checked['changed'][0]}")

    def _finish(self, cells: Sequence[Cell], crew: Crew) -> None:
        """Let workers drop the case; inputs that they find changed make a cell incorrect, processes left behind an error."""
        for cell, done in crew.ask_all(cells, "finish", self._at_once):
            if done["changed"]:
                cell.refute(f"changed its input {done['changed'][0]}")
            if crew.strays(cell):
                cell.fail(Outcome.ERROR, "left a process running outside its group, which cannot be stopped while others are timed")
        for cell in cells:
            if cell.incorrect:
                cell.log = crew.log(cell)

    def _time(self, cells: Sequence[Cell], launch: int, crew: Crew) -> None:
        live = [cell for cell in cells if cell.live]
        if not live:
            return
        crew.start(cell.contender.name for cell in live)
        self._settle(live[0])
        seeds = self._seeds(launch)
        what = f"launch {launch + 1} of {self._plan.launches}"
        part = (1 - CHECKING) / self._plan.launches
        begun = CHECKING + launch * part
        self._progress.step(live[0].unit, what, begun)
        for cell in live:
            cell.begin_launch()
        if not self._at_once:
            for cell in live:
                crew.ask(cell, "prepare", seed=seeds[0])
        pilots = {cell.contender.name: found for cell in live if cell.live and (found := self._pilot(cell, crew))}
        live = [cell for cell in live if cell.live]
        if not live:
            return
        agenda = schedule(pilots, self._plan)
        if self._watch:
            self._watch.begin()
        for round_ in self._rounds(live, crew, seeds, agenda):
            if self._watch:
                self._watch.look()
            self._progress.step(live[0].unit, what, begun + part * (round_ + 1) / agenda.rounds)
        disturbed = self._watch.disturbance() if self._watch else ""
        for cell in live:
            cell.disturbed = cell.disturbed or disturbed
        live = [cell for cell in live if cell.outcome is None]
        for cell in live:
            cell.tuned.append(choices(crew.log(cell)))
        self._finish(live, crew)

    def _set_up(self, cells: Sequence[Cell]) -> None:
        """All launches' processes at once: what they import takes the time of one. What they call they call alone, as some choose
        by trial, and time those trials: what they compile has been compiled for the check already, at once with the others'."""
        live = [cell for cell in cells if cell.live]
        if live:
            self._progress.step(live[0].unit, "setting up", CHECKING)
            self._settle(live[0])
        waiting = [crew.begin_all(live, "prepare", seed=self._seeds(launch)[0]) for launch, crew in enumerate(self._crews)]
        for wait in waiting:
            wait()

    def _seeds(self, launch: int) -> list[int]:
        """What a launch is timed on, and then what it is audited on too."""
        return [self._secret[(launch + i) % SECRET] for i in range(SECRET)]

    def _pilot(self, cell: Cell, crew: Crew) -> Calls | None:
        found = crew.ask(cell, "calibrate", cold=not self._plan.quick)
        if not found:
            return None
        cell.novelty.append(found.pop("novelty_us"))
        return Calls(**found)

    def _rounds(self, live: Sequence[Cell], crew: Crew, seeds: Sequence[int], agenda: Schedule) -> Iterator[int]:
        """Each round asks every live contender once, in an order of its own; after one round that nobody can foresee the outputs of
        its timed calls are checked, and further timed calls on changing inputs."""
        watched = _RANDOM.randrange(agenda.rounds)
        for round_ in range(agenda.rounds):
            for cell in _RANDOM.sample(live, len(live)):
                if cell.outcome is not None:
                    continue
                began = time.perf_counter_ns()
                turn = crew.ask(cell, "turn", **asdict(agenda.turns[cell.contender.name]))
                if turn is not None:
                    cell.add(round_, turn["samples"])
                    cell.accounts.append((time.perf_counter_ns() - began, turn["claimed_ns"]))
            if round_ == watched:
                self._check_timed(live, crew, seeds)
            yield round_

    def _check_timed(self, live: Sequence[Cell], crew: Crew, seeds: Sequence[int]) -> None:
        folder, live = str(self._workplace.outputs), [cell for cell in live if cell.outcome is None]
        for cell, kept in crew.ask_all(live, "keep", self._at_once, folder=folder):
            for outputs in kept["outputs"]:
                self._judging.judge(cell, seeds[0], outputs)
        live = [cell for cell in live if cell.outcome is None]
        for cell, audited in crew.ask_all(live, "audit", self._at_once, seeds=list(seeds), folder=folder):
            self._judge(cell, audited)

    def _settle(self, cell: Cell) -> None:
        """No process may still be starting up while another is timed. The time is put down to ``cell``."""
        began = time.perf_counter()
        for crew in (self._checkers, *self._crews):
            crew.settle()
        cell.spent["start"] += time.perf_counter() - began

    def _ours(self, pid: int) -> bool:
        """Whether a process is this one, or one that it started."""
        marks = {mark for crew in (self._checkers, *self._crews) for mark in crew.marks()} | self._judging.marks()
        return pid == os.getpid() or bool(marks & marks_of(pid))

    def _crew(self) -> Crew:
        return Crew(lambda path: self._workplace.worker(self._malloc, path, self._device), self._plan, self._progress.note)
