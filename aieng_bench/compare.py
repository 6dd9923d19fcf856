"""Two stored sources against each other: FASTER, SLOWER, SAME or UNDECIDED per cell and metric, and what newly fails.

Stored runs share no rounds, so absolute times would compare two moments of a machine. What is compared is each contender's ratio
to the same named baseline, measured beside it in interleaved rounds; the effect is the quotient of the two ratios and carries both
errors. A cell without a baseline (pytest-benchmark's) is compared by absolute time, and the output says so.

FASTER (better, whatever the metric) and SLOWER need the interval wholly beyond the equivalence band and Yuen's test on the log
ratios of launches (seeds, for a study) below alpha after Holm's correction over all cells; SAME needs the interval wholly inside
the band; all else is UNDECIDED. Interval and p are of the same trimmed means (:func:`aieng_bench.effect.shift`); what they find and
how often they are wrong is measured (:mod:`aieng_bench.calibration`). With one launch a side only rounds can vary, and memory
layout moves identical code by several per cent: then the band is wider. A metric that is exact needs none of this: equal is SAME,
and any difference is FASTER or SLOWER.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from aieng_bench.effect import centred, holm, log, quotient, shift
from aieng_bench.record.schema import Correctness, Environment, MetricInfo, Outcome, Quality, Record
from aieng_bench.summary import Floats, Over, Ratio, interval, median, observed

ALPHA = 0.05
BAND = 0.02
ONE_LAUNCH_BAND = 0.10
LOOKS = 2
"""Where sides are interleaved, what is UNDECIDED is measured once more: each of the two looks has half of alpha."""

Cell = tuple[str, str, str, str]
"""Benchmark, hash of its definition, case, contender."""


class Verdict(StrEnum):
    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    UNDECIDED = "UNDECIDED"


class DifferentHardware(ValueError):
    """The two sides were measured on different machines."""


@dataclass(frozen=True)
class Change:
    """One metric of one cell: ``effect`` is how many times better head is than base; ``p`` is corrected. Figures are medians."""

    benchmark: str
    case: str
    contender: str
    metric: MetricInfo
    base: float | None
    head: float | None
    effect: Ratio | None
    p: float | None
    verdict: Verdict
    reason: str = ""
    absolute: bool = False


@dataclass(frozen=True)
class Failure:
    """A cell that head does not measure and base did, or whose result in head is incorrect."""

    benchmark: str
    case: str
    contender: str
    base: str
    head: str


@dataclass(frozen=True)
class Comparison:
    changes: tuple[Change, ...]
    failures: tuple[Failure, ...]
    only_base: tuple[str, ...]
    only_head: tuple[str, ...]
    environment: tuple[tuple[str, str, str], ...]
    """What differs between the two sides: name, base, head."""
    alpha: float = ALPHA
    band: float = BAND

    @property
    def exit_code(self) -> int:
        """0 no regression, 1 regression, 2 something failed or is incorrect, 3 no cell could be compared."""
        if self.failures:
            return 2
        if all(change.effect is None and not change.metric.exact for change in self.changes):
            return 3
        return 1 if any(change.verdict is Verdict.SLOWER for change in self.changes) else 0

    def to_json(self) -> dict[str, Any]:
        changes = [
            {**asdict(change), "metric": change.metric.model_dump(), "effect": change.effect and change.effect.to_json()}
            for change in self.changes
        ]
        return {**asdict(self), "changes": changes, "exit_code": self.exit_code}


def compare(
    base: Sequence[Record], head: Sequence[Record], *, cross_hardware: bool = False, interleaved: bool = False
) -> Comparison:
    """Compare what two sources hold; of several runs in a source, each case's newest counts. Raises DifferentHardware.

    ``interleaved``: both sides ran in the same rounds (see ``aieng-bench ci``), so they are paired and need no baseline.
    """
    timed = [[record for record in side if record.definition.kind != "static"] for side in (base, head)]
    machines = [sorted({record.environment.machine for record in side}) for side in timed]
    if not cross_hardware and all(machines) and machines[0] != machines[1]:
        raise DifferentHardware(f"measured on different machines: {', '.join(machines[0])} against {', '.join(machines[1])}")
    cells, others = _newest(base), _newest(head)
    changes, failures = [], []
    for cell in cells:
        if cell not in others:
            continue
        failure = _failure(cells[cell], others[cell])
        if failure is not None:
            failures.append(failure)
        elif _measured(cells[cell]) and _measured(others[cell]):
            changes += _changes(cell, cells, others, interleaved)
    return Comparison(
        changes=tuple(_decide(changes)),
        failures=tuple(failures),
        only_base=tuple(_name(cell) for cell in cells if cell not in others),
        only_head=tuple(_name(cell) for cell in others if cell not in cells),
        environment=tuple(_differences(cells.values(), others.values())),
    )


def _newest(records: Iterable[Record]) -> dict[Cell, Record]:
    """Each cell of the newest run of its case: a contender is never paired with another run's baseline."""
    newest: dict[tuple[str, str, str], tuple[str, str]] = {}
    listed = list(records)
    for record in listed:
        case = (record.definition.benchmark, record.definition.hash, record.case_id)
        newest[case] = max(newest.get(case, ("", "")), (record.created, record.run))
    chosen = {}
    for record in listed:
        case = (record.definition.benchmark, record.definition.hash, record.case_id)
        if record.run == newest[case][1]:
            chosen[*case, record.contender.name] = record
    return chosen


def _name(cell: Cell) -> str:
    return " ".join((cell[0], cell[2], cell[3]))


def _measured(record: Record) -> bool:
    return record.outcome is Outcome.RAN and record.check.verdict is not Correctness.INCORRECT


def _failure(base: Record, head: Record) -> Failure | None:
    incorrect = head.outcome is Outcome.RAN and head.check.verdict is Correctness.INCORRECT
    if not incorrect and (_measured(head) or not _measured(base)):
        return None
    return Failure(base.definition.benchmark, base.case_id, base.contender.name, _state(base), _state(head))


def _state(record: Record) -> str:
    if record.outcome is not Outcome.RAN:
        return f"{record.outcome}: {record.outcome_reason}".rstrip(": ")
    return f"{record.check.verdict}: {record.check.reason}".rstrip(": ")


def _changes(cell: Cell, base: dict[Cell, Record], head: dict[Cell, Record], interleaved: bool) -> list[Change]:
    """A change for each metric with samples on both sides; a named baseline that the rest is held against has none."""
    old, new = base[cell], head[cell]
    pin = "" if interleaved else old.definition.baseline
    if pin == old.contender.name:
        return []
    found = []
    for metric in new.definition.metrics:
        if median(old, metric.name) is None or median(new, metric.name) is None:
            continue
        change = Change(
            *(cell[0], cell[2], cell[3], metric, median(old, metric.name), median(new, metric.name)),
            effect=None,
            p=None,
            verdict=Verdict.UNDECIDED,
            absolute=not pin and not interleaved,
        )
        reason = next(
            (f"{side} is {r.quality}" for side, r in (("base", old), ("head", new)) if r.quality is not Quality.CLEAN), ""
        )
        if metric.exact:
            found.append(_exact(change, old, new))
        elif reason:
            found.append(replace(change, reason=reason))
        elif interleaved:
            found.append(_paired(change, old, new))
        elif pin:
            pins = base.get((*cell[:3], pin)), head.get((*cell[:3], pin))
            found.append(_against_pin(change, (old, new), pins, pin))
        else:
            found.append(_absolute(change, old, new))
    return found


def _exact(change: Change, old: Record, new: Record) -> Change:
    """The reason is what else differs between the two, given with each difference, or once where all that decides is equal."""
    assert change.base is not None
    assert change.head is not None
    gain = change.head - change.base if change.metric.better == "higher" else change.base - change.head
    verdict = Verdict.FASTER if gain > 0 else Verdict.SLOWER if gain < 0 else Verdict.SAME
    told = verdict is not Verdict.SAME or change.metric == new.definition.metrics[0]
    figures = ((name, old.extra.get(name, 0.0), new.extra.get(name, 0.0)) for name in dict.fromkeys([*old.extra, *new.extra]))
    others = [f"{name} {was:g} → {now:g}" for name, was, now in figures if was != now]
    return replace(change, verdict=verdict, reason=", ".join(others) if told else "", absolute=False)


def _paired(change: Change, old: Record, new: Record) -> Change:
    if old.inputs_hash != new.inputs_hash:
        return replace(change, reason="the two sides were given different inputs")
    logs, over = observed(new, old, change.metric)
    if not len(logs):
        return replace(change, reason="no rounds in common")
    found = centred(logs)
    effect = interval(logs, over) if found is None or over == "rounds" else found.ratio(over, len(logs))
    return replace(change, effect=effect, p=None if found is None else min(1.0, LOOKS * found.p))


def _against_pin(change: Change, cells: tuple[Record, Record], pins: tuple[Record | None, Record | None], pin: str) -> Change:
    sides = []
    for side, cell, baseline in zip(("base", "head"), cells, pins):
        if baseline is None or not baseline.ranked:
            return replace(change, reason=f"{side} has no valid measurement of the baseline {pin}")
        logs, over = observed(cell, baseline, change.metric)
        if not len(logs):
            return replace(change, reason=f"in {side}, no rounds shared with the baseline {pin}")
        sides.append((over, logs))
    return _between(change, *sides)


def _between(change: Change, base: tuple[Over, Floats], head: tuple[Over, Floats]) -> Change:
    """By launches, or seeds; where rounds alone varied, which are no independent observations, by the sides' own intervals."""
    found = shift(head[1], base[1])
    p = None if found is None else found.p
    if found is None or base[0] != head[0] or base[0] == "rounds":
        old, new = (interval(logs, over) for over, logs in (base, head))
        return replace(change, effect=quotient(new, old), p=p)
    return replace(change, effect=found.ratio(base[0], min(len(base[1]), len(head[1]))), p=p)


def _absolute(change: Change, old: Record, new: Record) -> Change:
    sign = -1.0 if change.metric.better == "lower" else 1.0
    sides: list[tuple[Over, Floats]] = []
    for record in (old, new):
        launches = [np.asarray(launch) for launch in record.samples[change.metric.name] if launch]
        values = np.array([np.median(launch) for launch in launches]) if len(launches) > 1 else launches[0]
        if (values <= 0).any():
            return replace(change, reason="a figure is not positive")
        sides.append(("launches" if len(launches) > 1 else "rounds", sign * np.log(values)))
    return _between(change, *sides)


def _decide(changes: Sequence[Change]) -> list[Change]:
    tested = [i for i, change in enumerate(changes) if change.p is not None]
    corrected = dict(zip(tested, holm([changes[i].p or 0.0 for i in tested])))
    return [_verdict(replace(change, p=corrected.get(i))) for i, change in enumerate(changes)]


def _verdict(change: Change) -> Change:
    if change.effect is None:
        return change
    band = math.log1p(ONE_LAUNCH_BAND if change.effect.over == "rounds" else BAND)
    low, high = log(change.effect.low), log(change.effect.high)
    if -band < low and high < band:
        return replace(change, verdict=Verdict.SAME)
    if change.p is None:
        return replace(change, reason="too few launches or seeds")
    if low > band or high < -band:
        if change.p < ALPHA:
            return replace(change, verdict=Verdict.FASTER if low > band else Verdict.SLOWER)
        return replace(change, reason=f"p = {change.p:.2g} after correction")
    return replace(change, reason="interval too wide")


def _differences(base: Iterable[Record], head: Iterable[Record]) -> list[tuple[str, str, str]]:
    """Environment fields and library versions whose sets of values differ."""
    sides = [_values(record.environment for record in side) for side in (base, head)]
    if not all(sides):
        return []
    old, new = ({name: ", ".join(sorted(values)) for name, values in side.items()} for side in sides)
    names = sorted({*old, *new})
    return [(name, old.get(name, "–"), new.get(name, "–")) for name in names if old.get(name) != new.get(name)]


def _values(environments: Iterable[Environment]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for environment in environments:
        flat = environment.model_dump(mode="json", exclude={"libraries", "variables"})
        for name, value in {**flat, **environment.libraries, **environment.variables}.items():
            found.setdefault(name, set()).add(str(value))
    return found
