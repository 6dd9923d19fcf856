"""What of an earlier run still holds, so that only the rest is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aieng_bench.measure.cell import command, definition, info
from aieng_bench.measure.plan import Unit
from aieng_bench.record.schema import Environment, Outcome, Quality, Record

Key = tuple[str, str, str]
RETRIED = (Outcome.CRASHED, Outcome.TIMEOUT, Outcome.ERROR)


def still_good(unit: Unit, quick: bool, finished: Mapping[Key, Record], environment: Environment) -> Sequence[Record] | None:
    """The unit's records if all are there, none is worth another try, and code, machine and effort are what they were; else None.

    A unit is taken whole or not at all: a cell run alone later would not be paired with the others. ``quick``: whether the run is
    a quick one, whose cells do not answer for a full one's, nor the other way round.
    """
    asked = definition(unit.benchmark, unit.case)
    records = []
    for contender in unit.contenders:
        record = finished.get((unit.benchmark.name, unit.case.id, contender.name))
        if record is None or record.outcome in RETRIED or record.quality is Quality.NOISY:
            return None
        if record.definition != asked or record.contender != info(contender):
            return None
        if record.command != command(unit.benchmark, contender, unit.case, quick):
            return None
        if place(record.environment) != place(environment):
            return None
        records.append(record)
    return records


def place(environment: Environment) -> Environment:
    """The environment without the commit: a change elsewhere in the checkout does not touch what a source hash says is equal."""
    return environment.model_copy(update={"commit": None, "dirty": None})
