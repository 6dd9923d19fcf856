"""From recorded launches to aieng_bench/calibration.json, through compare() and ci's two looks themselves.

python scripts/calibration/evaluate.py pack [FOLDER]        recordings into launches.jsonl.gz
python scripts/calibration/evaluate.py 'what ran beside'    launches.jsonl.gz into calibration.json
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
from work import SLOWDOWN

from aieng_bench.calibration import Calibration, Rate, Trial
from aieng_bench.ci.interleaving import AGAIN, Records, concluded
from aieng_bench.compare import Change, Verdict, compare
from aieng_bench.define import LATENCY
from aieng_bench.measure.quality import quality
from aieng_bench.record.reading import line, load, parse
from aieng_bench.record.schema import Quality, Record
from aieng_bench.record.store import write_whole

HERE = Path(__file__).parent
LAUNCHES = HERE / "launches.jsonl.gz"
RESULT = HERE.parent.parent / "aieng_bench/calibration.json"
PIN, SAME, COPY, SLOWER = CONTENDERS = ("other_work", "unchanged", "copy", "slower")
DRAWS, CURVE_DRAWS = 1000, 200
TRIALS = (("compare", 5), ("compare", 16), ("ci", 16))
"""Who compares, and launches a side: of a leaderboard; of many; of a gate in continuous integration at its first look."""
TRIED = (0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
"""Slow-downs of which the smallest that is found 95 % of the time is sought."""

Launch = tuple[tuple[float, ...], ...]
"""Samples of each contender of one launch, in the order of CONTENDERS."""
Recording = dict[str, dict[str, Record]]
"""Case and contender to record."""
Samples = Sequence[tuple[float, ...]]
"""Of one contender, by launch."""
Pair = Callable[[float | None], Change]
"""A comparison of head with base. Of the slow-down in head: None for none, 0 for that of ``slower``, else what arithmetic adds."""


def recordings(records: Sequence[Record]) -> list[Recording]:
    """In the order of time; a case that is not whole is left out."""
    found: dict[str, Recording] = {}
    for record in sorted(records, key=lambda r: r.created):
        found.setdefault(record.run, {}).setdefault(record.case_id, {})[record.contender.name] = record
    whole = [{case: cells for case, cells in one.items() if len(cells) == len(CONTENDERS)} for one in found.values()]
    return [{case: cells for case, cells in one.items() if all(c.samples for c in cells.values())} for one in whole]


def launches_of(cells: dict[str, Record]) -> list[Launch]:
    return list(zip(*(cells[name].samples[LATENCY.name] for name in CONTENDERS)))


def measured(template: Record, run: str, samples: Samples, other: Samples) -> Record:
    """A record of these launches, judged for noise as the engine does, beside the ``other`` of the same rounds."""
    trust, reason = quality([LATENCY], {LATENCY.name: samples}, None, (), [{LATENCY.name: other}])
    rounds = [list(range(len(launch))) for launch in samples]
    fields = {"samples": {LATENCY.name: samples}, "rounds": rounds, "quality": trust, "quality_reason": reason, "run": run}
    return Record.model_validate({**template.model_dump(), **fields})


def slowed(launches: Sequence[Launch], name: str, slow: float | None) -> Samples:
    name = SLOWER if slow == 0 else name
    """What ``name`` took, or ``slower`` in its place, or slowed down by arithmetic; see Pair."""
    samples = [launch[CONTENDERS.index(SLOWER if slow == 0 else name)] for launch in launches]
    return [tuple(value * (1 + (slow or 0)) for value in launch) for launch in samples]


def stored(cells: dict[str, Record], base: Sequence[Launch], head: Sequence[Launch]) -> Pair:
    """Two runs of ``unchanged``, each with its baseline, compared as ``aieng-bench compare`` does."""

    def side(launches: Sequence[Launch], slow: float | None, run: str) -> list[Record]:
        pin, ours = slowed(launches, PIN, None), slowed(launches, SAME, slow)
        return [measured(cells[PIN], run, pin, ours), measured(cells[SAME], run, ours, pin)]

    return lambda slow: _only(compare(side(base, None, "base"), side(head, slow, "head")).changes)


def gated(cells: dict[str, Record], first: Sequence[Launch], again: Sequence[Launch]) -> Pair:
    """``unchanged`` and its copy in the same rounds, compared as ``aieng-bench ci`` does: looked at again where undecided."""

    def look(launches: Sequence[Launch], slow: float | None) -> Records:
        base, head = slowed(launches, SAME, None), slowed(launches, COPY, slow)
        return [measured(cells[SAME], "base", base, head)], [measured(cells[SAME], "head", head, base)]

    def call(slow: float | None) -> Change:
        once = look(first, slow)
        undecided = _only(concluded(once).changes).verdict is Verdict.UNDECIDED
        return _only(concluded(once, look(again, slow)).changes if undecided else concluded(once).changes)

    return call


def _only(changes: Sequence[Change]) -> Change:
    (change,) = changes
    return change


def drawn(found: Sequence[Recording], by: str, launches: int, count: int) -> Iterator[Pair]:
    """Comparisons of drawn launches, always the same ones.

    The launches of a case, from all recordings, are split at random, and each side or look draws from a part of its own. Never with
    replacement: a launch drawn twice is one observation that counts as two, and gave 9 % false alarms. So only cases that have
    enough launches take part.
    """
    generator = np.random.Generator(np.random.PCG64(launches))
    pools: dict[str, list[Launch]] = {}
    for one in found:
        for case, cells in one.items():
            pools.setdefault(case, []).extend(launches_of(cells))
    second = AGAIN * launches if by == "ci" else launches
    cases = sorted(case for case, pool in pools.items() if len(pool) >= launches + second)
    for i in range(count if cases else 0):
        case = cases[i % len(cases)]
        cells, pool = next(one[case] for one in found if case in one), pools[case]
        order = [pool[j] for j in generator.permutation(len(pool))]
        yield (gated if by == "ci" else stored)(cells, order[:launches], order[launches : launches + second])


def ran(found: Sequence[Recording], by: str, launches: int) -> Iterator[Pair]:
    """Comparisons of launches as they ran.

    By ``compare``: recordings are paired in time, disjoint, and give a comparison for every ``launches`` that they have. By ``ci``:
    each recording is a first look; a second takes the launches of the recordings after it, which other second looks share.
    """
    for i, one in enumerate(found):
        for case, cells in one.items():
            later = [found[(i + step) % len(found)] for step in range(1, AGAIN + 1)]
            mine, following = launches_of(cells), [launches_of(one[case]) if case in one else [] for one in later]
            if by == "ci":
                if len(mine) >= launches and all(len(rest) >= launches for rest in following) and len(found) > AGAIN:
                    yield gated(cells, mine[:launches], list(chain.from_iterable(rest[:launches] for rest in following)))
            elif i % 2 == 0 and i + 1 < len(found):
                for start in range(0, min(len(mine), len(following[0])) - launches + 1, launches):
                    yield stored(cells, mine[start : start + launches], following[0][start : start + launches])


def refused(change: Change) -> bool:
    return change.reason.endswith(f"is {Quality.NOISY}")


def trial(found: Sequence[Recording], by: str, kind: str, launches: int) -> Trial | None:
    """None if there are not the launches for it."""
    pairs = list(ran(found, by, launches) if kind == "real" else drawn(found, by, launches, DRAWS))
    if not pairs:
        return None
    same, slower = [pair(None) for pair in pairs], [pair(0 if kind == "real" else SLOWDOWN) for pair in pairs]
    clean = [pair for pair, change in zip(pairs, same) if not refused(change)][:CURVE_DRAWS]
    calls = [change.verdict for change in same]
    return Trial.model_validate(
        {
            "by": by,
            "kind": kind,
            "launches": launches,
            "false_alarms": Rate.of(sum(call in (Verdict.SLOWER, Verdict.FASTER) for call in calls), len(calls)),
            "found": Rate.of(sum(change.verdict is Verdict.SLOWER for change in slower), len(slower)),
            "noisy": Rate.of(sum(map(refused, same)), len(calls)),
            "smallest": None if kind == "real" else smallest(clean),
        }
    )


def smallest(pairs: Sequence[Pair]) -> float | None:
    """The smallest slow-down of those tried that is found in 95 % of the pairs, as more is found no less often."""
    low, high = (0, len(TRIED)) if pairs else (len(TRIED), len(TRIED))
    while low < high:
        middle = (low + high) // 2
        hits = sum(pair(TRIED[middle]).verdict is Verdict.SLOWER for pair in pairs)
        low, high = (low, middle) if hits >= 0.95 * len(pairs) else (middle + 1, high)
    return TRIED[low] if low < len(TRIED) else None


def evaluate(records: Sequence[Record], beside: str) -> Calibration:
    """Each trial in a process of its own, as together they take minutes."""
    found = recordings(records)
    where = records[0].environment
    with ProcessPoolExecutor() as pool:
        asked = [pool.submit(trial, found, by, kind, n) for kind in ("real", "resampled") for by, n in TRIALS]
        trials = [one.result() for one in asked]
    return Calibration(
        machine=where.machine,
        cpu=where.cpu,
        cores=where.cores,
        measured=min(record.created for record in records)[:10],
        beside=beside,
        slowdown=SLOWDOWN,
        recordings=len(found),
        cases=len({case for one in found for case in one}),
        launches=sum(len(launches_of(cells)) for one in found for cells in one.values()),
        trials=tuple(found for found in trials if found is not None),
    )


def packed() -> list[Record]:
    return [parse(text) for text in gzip.decompress(LAUNCHES.read_bytes()).decode().split("\n") if text]


if __name__ == "__main__":
    if sys.argv[1] == "pack":
        text = "".join(line(r) + "\n" for r in load(Path(sys.argv[2] if len(sys.argv) > 2 else "runs/calibration")).records)
        LAUNCHES.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        write_whole(RESULT, evaluate(packed(), sys.argv[1]).model_dump_json(indent=1) + "\n")
