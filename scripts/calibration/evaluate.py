"""From recorded launches to aieng_bench/calibration.json, through compare() itself.

python scripts/calibration/evaluate.py pack [FOLDER]        recordings into launches.jsonl.gz
python scripts/calibration/evaluate.py 'what ran beside'    launches.jsonl.gz into calibration.json
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from work import SLOWDOWN

from aieng_bench.calibration import Calibration, Rate, Trial
from aieng_bench.compare import Change, Verdict, compare
from aieng_bench.define import LATENCY
from aieng_bench.measure.quality import quality
from aieng_bench.record.reading import line, load, parse
from aieng_bench.record.schema import Quality, Record
from aieng_bench.record.store import write_whole

HERE = Path(__file__).parent
LAUNCHES = HERE / "launches.jsonl.gz"
RESULT = HERE.parent.parent / "aieng_bench/calibration.json"
PIN, SAME, SLOWER = "other_work", "unchanged", "slower"
DRAWS, CURVE_DRAWS = 1000, 200
SIDES = (5, 16)
"""Launches a side: of a leaderboard, and of a gate in continuous integration."""
JOINED = (1, 4)
"""Recordings that make a side of a real comparison: 5 launches, and 20."""
TRIED = (0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
"""Slow-downs of which the smallest that is found 95 % of the time is sought."""

Launch = tuple[tuple[float, ...], ...]
"""Samples of each contender of one launch, in the order PIN, SAME, SLOWER."""
Recording = dict[str, dict[str, Record]]
"""Case and contender to record."""


def recordings(records: Sequence[Record]) -> list[Recording]:
    """In the order of time; a case that is not whole is left out."""
    found: dict[str, Recording] = {}
    for record in sorted(records, key=lambda r: r.created):
        found.setdefault(record.run, {}).setdefault(record.case_id, {})[record.contender.name] = record
    return [{case: cells for case, cells in one.items() if len(cells) == 3} for one in found.values()]


def launches_of(cells: dict[str, Record]) -> list[Launch]:
    return list(zip(*(cells[name].samples[LATENCY.name] for name in (PIN, SAME, SLOWER))))


def side(cells: dict[str, Record], launches: Sequence[Launch], slow: float | None = None, run: str = "") -> list[Record]:
    """A run made of these launches, judged for noise as the engine does: the baseline, and as ``unchanged`` what is compared.

    ``slow``: None for the recorded ``unchanged``, 0 for the recorded ``slower``, else ``unchanged`` slowed down by this part.
    """
    pin, same, slower = ([list(launch[i]) for launch in launches] for i in range(3))
    ours = slower if slow == 0 else [[value * (1 + (slow or 0)) for value in launch] for launch in same]
    both = ((PIN, pin, ours), (SAME, ours, pin))
    made = []
    for name, samples, other in both:
        trust, reason = quality([LATENCY], {LATENCY.name: samples}, None, (), [{LATENCY.name: other}])
        rounds = [list(range(len(launch))) for launch in samples]
        fields = {"samples": {LATENCY.name: samples}, "rounds": rounds, "quality": trust, "quality_reason": reason, "run": run}
        made.append(Record.model_validate({**cells[name].model_dump(), **fields}))
    return made


def verdict(base: list[Record], head: list[Record]) -> Change:
    (change,) = compare(base, head).changes
    return change


def refused(change: Change) -> bool:
    return change.reason.endswith(f"is {Quality.NOISY}")


def trial(kind: str, launches: int, same: Sequence[Change], slowed: Sequence[Change], smallest: float | None = None) -> Trial:
    calls = [change.verdict for change in same]
    return Trial.model_validate(
        {
            "kind": kind,
            "launches": launches,
            "false_alarms": Rate.of(sum(call in (Verdict.SLOWER, Verdict.FASTER) for call in calls), len(calls)),
            "found": Rate.of(sum(change.verdict is Verdict.SLOWER for change in slowed), len(slowed)),
            "noisy": Rate.of(sum(map(refused, same)), len(calls)),
            "smallest": smallest,
        }
    )


def draws(found: Sequence[Recording], launches: int, count: int) -> Iterator[Callable[[float | None], Change]]:
    """Pairs of runs of drawn launches, as functions of the slow-down injected into the second; always the same.

    The launches of a case, from all recordings, are split at random, and each side draws from a half of its own. Never with
    replacement: a launch drawn twice is one observation that counts as two, and gave 9 % false alarms. So only cases that have
    two sides' launches take part.
    """
    generator = np.random.Generator(np.random.PCG64(launches))
    pools: dict[str, list[Launch]] = {}
    for one in found:
        for case, cells in one.items():
            pools.setdefault(case, []).extend(launches_of(cells))
    cases = sorted(case for case, pool in pools.items() if len(pool) >= 2 * launches)
    for i in range(count if cases else 0):
        case = cases[i % len(cases)]
        template, pool = next(one[case] for one in found if case in one), pools[case]
        order = generator.permutation(len(pool))
        base, head = ([pool[j] for j in places] for places in (order[:launches], order[launches : 2 * launches]))

        def call(slow: float | None, template=template, base=base, head=head) -> Change:  # type: ignore[no-untyped-def]
            return verdict(side(template, base, run="base"), side(template, head, slow, run="head"))

        yield call


def resampled(found: Sequence[Recording], launches: int) -> Trial | None:
    """None if no case has the launches of two sides."""
    pairs = list(draws(found, launches, DRAWS))
    if not pairs:
        return None
    same, slowed = [pair(None) for pair in pairs], [pair(SLOWDOWN) for pair in pairs]
    clean = [pair for pair, change in zip(pairs, same) if not refused(change)][:CURVE_DRAWS]
    low, high = (0, len(TRIED)) if clean else (len(TRIED), len(TRIED))
    while low < high:  # more slow-down is found no less often
        middle = (low + high) // 2
        hits = sum(pair(TRIED[middle]).verdict is Verdict.SLOWER for pair in clean)
        low, high = (low, middle) if hits >= 0.95 * len(clean) else (middle + 1, high)
    return trial("resampled", launches, same, slowed, TRIED[low] if low < len(TRIED) else None)


def real(found: Sequence[Recording], joined: int) -> Trial | None:
    """Disjoint pairs of sides, each of ``joined`` recordings one after the other, case by case."""
    same, slowed, launches = [], [], 0
    for first in range(0, len(found) - 2 * joined + 1, 2 * joined):
        halves = found[first : first + joined], found[first + joined : first + 2 * joined]
        for case in found[first]:
            if not all(case in one for half in halves for one in half):
                continue
            base, head = ([launch for one in half for launch in launches_of(one[case])] for half in halves)
            launches = len(base)
            template = found[first][case]
            same.append(verdict(side(template, base, run="base"), side(template, head, run="head")))
            slowed.append(verdict(side(template, base, run="base"), side(template, head, 0, run="head")))
    return trial("real", launches, same, slowed) if same else None


def trials(found: Sequence[Recording]) -> list[Trial | None]:
    """Each in a process of its own, as together they take minutes."""
    with ProcessPoolExecutor() as pool:
        asked = [pool.submit(real, found, joined) for joined in JOINED] + [pool.submit(resampled, found, n) for n in SIDES]
        return [one.result() for one in asked]


def evaluate(records: Sequence[Record], beside: str) -> Calibration:
    found = recordings(records)
    where = records[0].environment
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
        trials=tuple(trial for trial in trials(found) if trial is not None),
    )


def packed() -> list[Record]:
    return [parse(text) for text in gzip.decompress(LAUNCHES.read_bytes()).decode().split("\n") if text]


if __name__ == "__main__":
    if sys.argv[1] == "pack":
        text = "".join(line(r) + "\n" for r in load(Path(sys.argv[2] if len(sys.argv) > 2 else "runs/calibration")).records)
        LAUNCHES.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        write_whole(RESULT, evaluate(packed(), sys.argv[1]).model_dump_json(indent=1) + "\n")
