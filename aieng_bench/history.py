"""Published runs of a machine as series, cut where a driver, the GPU or a library changed, and the change points within them.

A point is one run's median over launches of a contender's ratio to the named baseline (without a baseline, its absolute figure), in
logs, oriented so that up is better. A change point is found as in Matteson and James, "A nonparametric approach for multiple change
point analysis of multivariate data" (2014), and in Fleming et al., "Hunter" (2023), today Apache Otava: the best split of a segment
is tested, and if it stands, both parts are searched in turn. The statistic is the likelihood ratio of a shift of the mean; its
distribution comes from permutations of the segment itself, so noise of any shape gives false alarms at the stated rate.

A shift needs runs behind it. Of the newest run alone it can be said only that it jumped: by more than Q3 + 3 IQR of the series' own
earlier deltas, the rule of rustc-perf (docs/comparison-analysis.md). It is no change point until more runs confirm it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from typing import Any

import numpy as np

from aieng_bench.record.schema import MetricInfo, Record
from aieng_bench.summary import Floats, median, observations

ALPHA = 0.004
"""Chance that a stationary segment shows a change point; with the jumps of Gaussian noise a series stays below 1 %."""
PERMUTATIONS = 9999
SHORTEST = 12
"""Runs a segment must have to be searched: at 10, the clearest split has p = 2 / C(10, 5) = 0.008; at 12, a third of that."""
WINDOW = 16
"""Runs of the narrowest window that is searched; the next is twice as wide, and so on up to the whole segment."""
LEAST_SIDE = 2
"""Runs on either side of a change point: one alone is an outlier as likely as a change."""
PAST_DELTAS = 30
"""Deltas before the newest that :func:`jump` learns from; quartiles of 28 still gave 9 false alarms in 1,000 stationary series."""


@dataclass(frozen=True)
class Point:
    """``level``: log of how many times better than the baseline (or of the absolute figure, negated where lower is better)."""

    run: str
    created: str
    commit: str | None
    level: float
    versions: dict[str, str]


@dataclass(frozen=True)
class Shift:
    """The level of ``point`` and those after it is ``effect`` times as good as before; ``p`` by permutation."""

    point: Point
    effect: float
    p: float


@dataclass(frozen=True)
class Segment:
    """Points under the same versions; ``because``: what had changed where it starts, as name, before, after."""

    points: tuple[Point, ...]
    because: tuple[tuple[str, str, str], ...] = ()

    @property
    def levels(self) -> Floats:
        return np.array([point.level for point in self.points])

    @property
    def too_short(self) -> bool:
        return len(self.points) < SHORTEST

    def shifts(self) -> list[Shift]:
        levels = self.levels
        found = change_points(levels)
        edges = [0, *(at for at, _ in found), len(levels)]
        means = [float(levels[a:b].mean()) for a, b in pairwise(edges)]
        return [Shift(self.points[at], exp(after - before), p) for (at, p), (before, after) in zip(found, pairwise(means))]


@dataclass(frozen=True)
class Series:
    """One metric of a contender in a case on a machine, over runs in time order."""

    machine: str
    benchmark: str
    case: str
    contender: str
    metric: MetricInfo
    baseline: str
    segments: tuple[Segment, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in ("machine", "benchmark", "case", "contender", "baseline")},
            "metric": self.metric.name,
            "segments": [_segment_json(segment) for segment in self.segments],
        }


def _segment_json(segment: Segment) -> dict[str, Any]:
    points = [{"run": p.run, "created": p.created, "commit": p.commit, "level": p.level} for p in segment.points]
    shifts = [{"run": s.point.run, "created": s.point.created, "effect": s.effect, "p": s.p} for s in segment.shifts()]
    newest = jump(segment.levels)
    because = [dict(zip(("name", "before", "after"), change)) for change in segment.because]
    return {
        "because": because,
        "points": points,
        "too_short": segment.too_short,
        "shifts": shifts,
        "newest_jumped": newest and exp(newest),
    }


def series(records: Iterable[Record]) -> list[Series]:
    """Every series of these records. A cell that is not ranked, or whose baseline is not, leaves no point."""
    runs: dict[tuple[str, str, str, str], dict[str, Record]] = defaultdict(dict)
    for record in records:
        runs[record.run, record.definition.benchmark, record.definition.hash, record.case_id][record.contender.name] = record
    points: dict[tuple[str, str, str, str, str], list[tuple[Record, Point]]] = defaultdict(list)
    metrics: dict[tuple[str, str, str, str, str], MetricInfo] = {}
    for (_, benchmark, _, case), cells in runs.items():
        for record in cells.values():
            for metric, point in _points(record, cells):
                key = (record.environment.machine, benchmark, case, record.contender.name, metric.name)
                points[key].append((record, point))
                metrics[key] = metric
    made, places = [], list(dict.fromkeys(key[:3] for key in points))
    for key, found in sorted(points.items(), key=lambda item: places.index(item[0][:3])):
        found.sort(key=lambda pair: (pair[1].created, pair[1].run))
        newest = found[-1][0].definition
        made.append(Series(*key[:4], metrics[key], newest.baseline, tuple(segments([point for _, point in found]))))
    return made


def _points(record: Record, cells: dict[str, Record]) -> Iterator[tuple[MetricInfo, Point]]:
    pin = record.definition.baseline
    baseline = cells.get(pin)
    if not record.ranked or record.contender.name == pin or (pin and (baseline is None or not baseline.ranked)):
        return
    for metric in record.definition.metrics:
        if baseline is not None:
            logs = observations(record, baseline, metric)
            level = float(np.median(logs)) if len(logs) else None
        else:
            figure = median(record, metric.name)
            level = None if figure is None or figure <= 0 else (-1 if metric.better == "lower" else 1) * log(figure)
        if level is not None:
            yield metric, Point(record.run, record.created, record.environment.commit, level, versions(record))


def versions(record: Record) -> dict[str, str]:
    """What starts a segment when it changes. The definition is among it, as it gives a figure its meaning."""
    where = record.environment
    fixed = {"gpu": where.gpu, "driver": where.driver, "definition": record.definition.hash, "malloc": where.malloc}
    return {**where.libraries, **{name: value or "none" for name, value in fixed.items()}}


def segments(points: Sequence[Point]) -> Iterator[Segment]:
    """Runs of points between changes of a version. A library that newly appears is no change: nothing was measured with another."""
    known: dict[str, str] = {}
    first = 0
    because: tuple[tuple[str, str, str], ...] = ()
    for i, point in enumerate(points):
        changed = tuple((name, known[name], v) for name, v in point.versions.items() if known.get(name, v) != v)
        known |= point.versions
        if changed:
            yield Segment(tuple(points[first:i]), because)
            first, because = i, changed
    if points:
        yield Segment(tuple(points[first:]), because)


def change_points(levels: Floats) -> list[tuple[int, float]]:
    """Indices at which a new level starts, in order, each with its p; at last each is placed anew between its neighbours."""
    found = dict(_search(levels, 0))
    edges = [0, *sorted(found), len(levels)]
    placed = [low + _best(_gains(levels[low:high])) for low, high in zip(edges, edges[2:])]
    return sorted(dict(zip(placed, (found[at] for at in edges[1:-1]))).items())


def _search(levels: Floats, start: int) -> Iterator[tuple[int, float]]:
    """Half of alpha is for the whole, half for all narrower windows together."""
    tried = list(_windows(len(levels)))
    for low, high in tried:
        share = 2 if high - low == len(levels) else 2 * (len(tried) - 1)
        at, p = _split(levels[low:high], ALPHA / share)
        if p * share <= ALPHA:
            yield start + low + at, p * share
            yield from _search(levels[: low + at], start)
            yield from _search(levels[low + at :], start + low + at)
            return


def _windows(n: int) -> Iterator[tuple[int, int]]:
    """Places to look, narrow ones first; in a wide one, a shift and its reversal pass for noise."""
    size = WINDOW
    while size < n:
        starts = {*range(0, n - size, size // 2), n - size}
        yield from ((low, low + size) for low in sorted(starts))
        size *= 2
    if n >= SHORTEST:
        yield 0, n


def _split(levels: Floats, alpha: float) -> tuple[int, float]:
    """The best split and its p, by permutation; a hopeless one is given up after the first tenth (Besag and Clifford, 1991)."""
    gains = _gains(levels)
    at, most = _best(gains), gains.max() * (1 - 1e-9)  # equal up to rounding counts as reached
    generator = np.random.Generator(np.random.PCG64(len(levels)))
    reached, done = 0, 0
    for count in (PERMUTATIONS // 10, PERMUTATIONS - PERMUTATIONS // 10):
        shuffled = generator.permuted(np.tile(levels, (count, 1)), axis=1)
        reached += int((_gains(shuffled).max(axis=-1) >= most).sum())
        done += count
        if 1 + reached > alpha * (1 + PERMUTATIONS):
            break
    return at, (1 + reached) / (1 + done)


def _gains(levels: Floats) -> Floats:
    """For each split k = LEAST_SIDE … n − LEAST_SIDE of the last axis, the sum of squares that two means explain beyond one."""
    n = levels.shape[-1]
    k = np.arange(LEAST_SIDE, n - LEAST_SIDE + 1)
    sums = np.cumsum(levels - levels.mean(axis=-1, keepdims=True), axis=-1)[..., k - 1]
    return np.asarray(sums**2 * n / (k * (n - k)))


def _best(gains: Floats) -> int:
    return LEAST_SIDE + int(gains.argmax())


def jump(levels: Floats) -> float | None:
    """The newest delta if it exceeds Q3 + 3 IQR of the earlier ones' sizes; None if it does not, or they are too few to tell."""
    deltas = np.diff(levels)
    if len(deltas) <= PAST_DELTAS:
        return None
    low, high = np.quantile(np.abs(deltas[:-1]), [0.25, 0.75])
    return float(deltas[-1]) if abs(deltas[-1]) > high + 3 * (high - low) else None
