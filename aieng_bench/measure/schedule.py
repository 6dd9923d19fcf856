"""How often each contender is called: fixed from the pilot, before any sample is seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aieng_bench.measure.plan import Plan

DISCARD_S = 10e-3
"""Calls discarded at each turn: the clock rises, caches and page tables fill, OpenMP threads wake."""
LEAST_SAMPLES = 10
"""Rounds over all launches, whatever the budget."""
TURN_S = {True: 0.02, False: 0.05}
"""Timed part of a turn, in a quick run and in a full one."""
OVERRUN = 4.0
"""How much longer than the pilot foretold a turn's timed part may get before it is cut short."""
SWITCH_S = 0.003
"""Stopping one worker and waking another."""


@dataclass(frozen=True)
class Calls:
    """What the pilot found: seconds a call, calls a batch, and whether the cold figure doubles each turn."""

    call_s: float
    calls: int
    cold: bool = False

    @property
    def batch_s(self) -> float:
        return self.call_s * self.calls

    def turn_s(self, batches: int) -> float:
        passes = 2 if self.cold else 1
        return SWITCH_S + passes * (max(DISCARD_S, self.batch_s) + batches * self.batch_s)


@dataclass(frozen=True)
class Turn:
    """What a worker is asked to do in its part of a round; see timing.turn."""

    calls: int
    batches: int
    most_s: float


@dataclass(frozen=True)
class Schedule:
    rounds: int
    turns: dict[str, Turn]


def schedule(pilots: Mapping[str, Calls], plan: Plan) -> Schedule:
    """Rounds of one launch and batches of each contender's turn, within the unit's budget.

    Turns are shortened before rounds are dropped, and rounds never below ten over all launches.
    """
    budget_s = plan.unit_budget_s / plan.launches
    least = min(plan.rounds, math.ceil(LEAST_SAMPLES / plan.launches))
    for part in (1.0, 0.5, 0.25, 0.0):
        batches = {name: max(1, round(part * TURN_S[plan.quick] / p.batch_s)) for name, p in pilots.items()}
        affordable = int(budget_s / sum(p.turn_s(batches[name]) for name, p in pilots.items()))
        if affordable >= least:
            break
    turns = {name: Turn(p.calls, batches[name], OVERRUN * batches[name] * p.batch_s) for name, p in pilots.items()}
    return Schedule(max(least, min(plan.rounds, affordable)), turns)
