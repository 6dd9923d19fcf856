"""Whether a contender's speed is its own work: timed calls whose inputs change under it, and calls on values never seen before.

The rounds that are ranked call with the same inputs again and again, as a hot figure must. What answers such calls from an earlier
one (by the input's address, by its values, by skipping some) is right in each of them, so it is found here.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from aieng_bench.measure import inputs as given
from aieng_bench.measure import outputs
from aieng_bench.measure.quality import SEEN_BEFORE
from aieng_bench.measure.timing import Function, Timer

BATCHES = 16
SHORTEST, LONGEST = 2, 4
"""Calls a batch, of which two keep their outputs: one drawn at random and the last. What skips every tenth call escapes all batches
once in a hundred times."""
SPEND_S, HOLD_BYTES = 0.3, 2**28
"""Beyond either no batch is begun, once an output of every content is held: slow calls get a few batches."""
DUMPED = 8
"""Of outputs that differ so many are judged, drawn at random: a contender that is not deterministic would fill the disk."""
LATE_NS, LATE_SHARE = 100_000, 0.25
"""Asking an idle device whether it is idle takes some 10 µs."""
TRIES = 10
SETS, SETS_BYTES = 8, 2**30

_RANDOM = random.SystemRandom()


@dataclass(frozen=True)
class Held:
    """An output of the call on contents number ``content``, and its fingerprint when it was returned."""

    content: int
    print: str
    out: Any


@dataclass(frozen=True)
class Audit:
    """``held``: one output per content and fingerprint; ``reused``: one changed later; ``changed``: inputs that a call wrote to;
    ``late``: after every batch the device went on with work that the calls' own stream knows nothing of."""

    held: Sequence[Held]
    reused: bool
    changed: Sequence[str]
    late: bool


def audit(
    timer: Timer, function: Function, inputs: dict[str, Any], contents: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Audit:
    """Batches in which the inputs, where they lie, take other values at each call, never the same twice running.

    Every output kept is fingerprinted at once, as work put off may be done a moment later. ``inputs`` end as ``contents[0]``.
    """
    digests = [given.digest(content) for content in contents]
    held: list[Held] = []
    changed: set[str] = set()
    shown: list[int] = []
    late = True
    begun, bytes_held = time.monotonic(), 0
    for _ in range(BATCHES):
        enough = time.monotonic() - begun > SPEND_S or bytes_held > HOLD_BYTES
        if enough and len({one.content for one in held}) == len(contents):
            break
        first, calls = len(shown), SHORTEST if enough else _RANDOM.randint(SHORTEST, LONGEST)
        batch = timer.batch(function, _changing(inputs, contents, shown), calls)
        for call, out in {batch.chosen: batch.kept, calls - 1: batch.last}.items():
            held.append(Held(shown[first + call], outputs.fingerprint(out, names), out))
            bytes_held += sum(outputs.sizes(out, names))
        late &= batch.late_ns > max(LATE_NS, LATE_SHARE * batch.elapsed_ns)
        changed |= set(given.differing(inputs, digests[shown[-1]]))
    reused = any(outputs.fingerprint(one.out, names) != one.print for one in held)
    given.refill(inputs, contents[0])
    different = list({(one.content, one.print): one for one in held}.values())
    return Audit(_RANDOM.sample(different, min(DUMPED, len(different))), reused, sorted(changed), late)


def _changing(inputs: dict[str, Any], contents: Sequence[Mapping[str, Any]], shown: list[int]) -> Iterator[Mapping[str, Any]]:
    while True:
        shown.append(_RANDOM.choice([i for i in range(len(contents)) if not shown or i != shown[-1]]))
        given.refill(inputs, contents[shown[-1]])
        yield inputs


def novelty(
    timer: Timer, function: Function, inputs: Mapping[str, Any], fresh: Callable[[], Mapping[str, Any]], calls: int
) -> tuple[float, float]:
    """Microseconds a call on values never seen before, the least of a few tries, and on the same values right after, the median.

    Noise only makes a time longer. So calls that compute both times would need every first pass disturbed, and half of the second
    ones not; a further try is made while it looks like that.
    """
    sets = given.copies(inputs, max(1, min(calls, SETS, SETS_BYTES // max(1, given.size_of(inputs)))))

    def timed(contents: Sequence[Mapping[str, Any]]) -> float:
        # Written both times, so that both find equal caches; and twice each time, for on an EPYC honest calls took up to twice as
        # long on contents that were just made, perhaps still to be written back, as on the same written once more.
        for _ in range(2):
            for one, content in zip(sets, contents, strict=True):
                given.refill(one, content)
        timer.batch(function, repeat(inputs), len(sets))  # threads wake
        return timer.batch(function, iter(sets), len(sets)).us_per_call

    first, again = [], []
    for _ in range(TRIES):
        contents = [fresh() for _ in sets]
        first.append(timed(contents))
        again.append(timed(contents))
        if len(first) > 1 and min(first) <= SEEN_BEFORE * statistics.median_low(again):
            break
    return min(first), statistics.median_low(again)
