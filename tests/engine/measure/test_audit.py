"""Timed calls on inputs that change, calls on values never seen, and the guard on what a worker rests on."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping
from itertools import count, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from aieng_bench.measure import answers, timing
from aieng_bench.measure import audit as auditing
from aieng_bench.measure import inputs as given
from aieng_bench.measure.integrity import Guard, Tampered
from aieng_bench.measure.quality import quality
from aieng_bench.record.schema import Quality


def contents() -> list[dict[str, Any]]:
    return [{"x": torch.full((4, 4), float(i)), "n": i} for i in range(3)]


def audited(function: Any) -> auditing.Audit:
    made = contents()
    present = given.copies(made[0], 1)[0]
    found = auditing.audit(timing.CpuTimer(), function, present, made, ("out",))
    assert torch.equal(present["x"], made[0]["x"])
    assert present["n"] == 0
    return found


def right(found: auditing.Audit) -> bool:
    return all(torch.equal(one.out, torch.full((4, 4), one.content + 1.0)) for one in found.held)


def test_an_honest_contender_has_one_right_output_for_each_content() -> None:
    found = audited(lambda x, n: x + 1)
    assert sorted(one.content for one in found.held) == [0, 1, 2]
    assert right(found)
    assert not found.reused
    assert not found.changed


def test_slow_calls_are_audited_on_every_content_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "SPEND_S", 0.0)
    calls = count()
    found = audited(lambda x, n: (next(calls), x + 1)[1])
    assert {one.content for one in found.held} == {0, 1, 2}
    assert next(calls) <= auditing.BATCHES * auditing.SHORTEST


def test_the_contents_change_where_they_lie_and_never_stay() -> None:
    seen: list[tuple[int, float]] = []

    def function(x: Tensor, n: int) -> Tensor:
        seen.append((x.data_ptr(), float(x[0, 0])))
        assert n == x[0, 0]
        return x + 1

    audited(function)
    assert len(seen) >= auditing.BATCHES * auditing.SHORTEST
    assert len({address for address, _ in seen}) == 1
    assert all(a != b for (_, a), (_, b) in pairwise(seen))


def test_results_kept_by_address_are_wrong() -> None:
    known: dict[int, Tensor] = {}
    assert not right(audited(lambda x, n: known.setdefault(x.data_ptr(), x + 1).clone()))


def test_a_ring_of_buffers_is_noticed() -> None:
    buffers, turns = [torch.empty(4, 4) for _ in range(8)], count()
    assert audited(lambda x, n: torch.add(x, 1, out=buffers[next(turns) % 8])).reused


def test_an_input_written_to_is_named() -> None:
    def function(x: Tensor, n: int) -> Tensor:
        out = x + 1
        x[0, 0] = 7
        return out

    assert audited(function).changed == ["x"]


class Late(timing.CpuTimer):
    """Whose device goes on for a while after each batch, or after all but the first."""

    def __init__(self, spared: int) -> None:
        super().__init__()
        self._spared = spared

    def batch(self, function: Any, arguments: Iterator[Mapping[str, Any]], calls: int) -> timing.Batch:
        batch = super().batch(function, arguments, calls)
        self._spared -= 1
        return dataclasses.replace(batch, elapsed_ns=10**7, late_ns=0 if self._spared >= 0 else 5 * 10**6)


@pytest.mark.parametrize(("spared", "late"), [(0, True), (1, False)])
def test_work_that_goes_on_after_every_batch_is_late(spared: int, late: bool) -> None:
    made = contents()
    assert auditing.audit(Late(spared), lambda x, n: x + 1, dict(made[0]), made, ("out",)).late is late


def test_a_form_for_every_answer() -> None:
    good: dict[str, Any] = {"samples": {"latency_us": 1.0}, "claimed_ns": 5}
    assert answers.check("turn", good) is good
    for bad in ({}, {"samples": "none"}, {**good, "claimed_ns": "x"}, {**good, "more": 1}, {**good, "samples": {"x": math.nan}}):
        with pytest.raises(ValueError, match="validation error"):
            answers.check("turn", bad)


def test_no_more_outputs_are_judged_than_fit() -> None:
    noise = count()
    assert len(audited(lambda x, n: x + 1 + 1e-3 * next(noise)).held) == auditing.DUMPED


class Clockless:
    """A timer that counts the elements that a function says it worked on, instead of time."""

    def batch(self, function: Any, arguments: Iterator[Mapping[str, Any]], calls: int) -> timing.Batch:
        work = [function(**next(arguments)) for _ in range(calls)]
        return timing.Batch(sum(work) / calls, 1, 0, None, None)


def new_values() -> Iterator[dict[str, Any]]:
    return ({"x": torch.full((2,), float(i))} for i in count(10))


@pytest.mark.parametrize("calls", [1, 3, 100])
def test_what_remembers_values_is_quicker_the_second_time_and_what_computes_is_not(calls: int) -> None:
    known: set[float] = set()

    def remembers(x: Tensor) -> float:
        value = float(x[0])
        work = 1.0 if value in known else 100.0
        known.add(value)
        return work

    fresh = new_values()
    timer: Any = Clockless()
    first, again = auditing.novelty(timer, remembers, {"x": torch.zeros(2)}, lambda: next(fresh), calls)
    assert (first, again) == (100, 1)
    assert auditing.novelty(timer, lambda x: 100.0, {"x": torch.zeros(2)}, lambda: next(fresh), calls) == (100, 100)


def test_one_disturbed_pass_is_tried_again() -> None:
    passes = iter([1.0, 900.0, 1.0, 100.0, 1.0, 100.0, 1.0, 100.0])
    fresh = new_values()
    timer: Any = Clockless()
    assert auditing.novelty(timer, lambda x: next(passes), {"x": torch.zeros(2)}, lambda: next(fresh), 1) == (100, 100)


def test_results_kept_make_a_figure_suspect_and_one_good_launch_clears_it() -> None:
    verdict, reason = quality([], {}, None, [], novelty=[(100.0, 20.0), (120.0, 25.0)])
    assert verdict is Quality.SUSPECT
    assert "new values takes 100 µs, on values seen before 20 µs" in reason
    assert quality([], {}, None, [], novelty=[(100.0, 20.0), (21.0, 20.0)])[0] is Quality.CLEAN


def test_the_guard_lets_what_changes_nothing_pass() -> None:
    assert Guard().around(lambda **fields: fields)(x=1) == {"x": 1}


def test_the_guard_names_what_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def tampering(where: Any, name: str) -> Any:
        monkeypatch.setattr(where, name, lambda *arguments: 0)
        return {}

    for where, name, word in (
        (statistics, "median", "statistics.median"),
        (timing, "turn", "timing.turn"),
        (timing.CpuTimer, "batch", "CpuTimer.batch"),
    ):
        guard = Guard()
        with pytest.raises(Tampered, match=word):
            guard.around(tampering)(where=where, name=name)
        monkeypatch.undo()


def test_the_guard_sees_code_replaced_within_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard()
    monkeypatch.setattr(timing.hot, "__code__", timing.size_of.__code__)
    with pytest.raises(Tampered, match="hot"):
        guard.check()


def test_the_guard_sees_threads_changed() -> None:
    threads = torch.get_num_threads()
    guard = Guard()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(Tampered, match=f"{threads + 1} threads instead of {threads}"):
            guard.check()
    finally:
        torch.set_num_threads(threads)
