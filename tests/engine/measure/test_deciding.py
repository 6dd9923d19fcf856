"""What is decided from figures alone: how often to call, and whether to believe what came out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watching import plan

from aieng_bench.define import LATENCY, LATENCY_COLD
from aieng_bench.measure.quality import quality, relative_iqr
from aieng_bench.measure.schedule import Calls, schedule
from aieng_bench.record.schema import Limit, Quality

STEADY = {"latency_us": [[10.0, 10.1, 9.9, 10.0], [10.2, 10.0, 9.8, 10.1]]}
LIMIT = Limit(time_us=5.0, binds="memory", bandwidth_bytes_per_s=1e10, rate_per_s=1e12, source="measured")
FAIR = [(30_000_000, 28_000_000)] * 8
BATCH_S = 200e-6


def calls(call_s: float, cold: bool = False) -> Calls:
    return Calls(call_s, max(1, math.ceil(BATCH_S / call_s)), cold)


def test_quick_calls_get_all_rounds_and_many_batches() -> None:
    found = schedule({"a": calls(1e-6), "b": calls(50e-6)}, plan("scale", quick=True, launches=2, rounds=6, unit_budget_s=10.0))
    assert found.rounds == 6
    assert [t.batches for t in found.turns.values()] == [100, 100]
    assert found.turns["b"].calls == 4


def test_very_slow_calls_get_one_batch_and_the_least_rounds() -> None:
    found = schedule({"a": calls(5.0), "b": calls(1e-3)}, plan("scale", quick=True, launches=2, rounds=6, unit_budget_s=10.0))
    assert found.rounds == 5
    assert found.turns["a"].batches == 1


def test_turns_are_shortened_before_rounds_are_dropped() -> None:
    pilots = {name: calls(5e-3) for name in "abcdefgh"}
    roomy, tight = (
        schedule(pilots, plan("scale", quick=True, launches=2, rounds=6, unit_budget_s=budget)) for budget in (10.0, 1.8)
    )
    assert tight.rounds >= 5
    assert tight.turns["a"].batches < roomy.turns["a"].batches


@given(st.lists(st.floats(1e-7, 10.0), min_size=1, max_size=9), st.sampled_from([1, 2, 5, 16]), st.booleans(), st.floats(0.1, 60))
def test_never_fewer_than_ten_rounds_nor_more_than_planned(times: list[float], launches: int, quick: bool, budget: float) -> None:
    asked = plan("scale", quick=quick, launches=launches, rounds=12, unit_budget_s=budget)
    found = schedule({str(i): calls(t, cold=not quick) for i, t in enumerate(times)}, asked)
    assert math.ceil(10 / launches) <= found.rounds <= 12
    assert min(t.batches for t in found.turns.values()) >= 1


def test_a_steady_measurement_is_clean() -> None:
    assert quality([LATENCY, LATENCY_COLD], STEADY, LIMIT, FAIR) == (Quality.CLEAN, "")


def test_a_wide_spread_is_noisy() -> None:
    verdict, reason = quality([LATENCY], {"latency_us": [[10.0, 20.0, 11.0, 25.0], [10.0, 22.0, 10.0, 19.0]]}, None, FAIR)
    assert verdict is Quality.NOISY
    assert "interquartile range" in reason


@pytest.mark.parametrize("samples", [[[0.0] * 5], [[-1.0] * 5]])
def test_no_time_or_less_is_suspect(samples: list[list[float]]) -> None:
    assert quality([LATENCY], {"latency_us": samples}, None, FAIR)[0] is Quality.SUSPECT


def test_faster_than_the_machine_is_suspect_and_at_its_limit_is_not() -> None:
    for share, verdict in ((0.97, Quality.SUSPECT), (0.99, Quality.CLEAN)):
        samples = {"latency_us": [[share * LIMIT.time_us] * 8]}
        assert quality([LATENCY], samples, LIMIT, FAIR)[0] is verdict


@pytest.mark.parametrize("claimed", [1_000_000, 40_000_000])
def test_claims_that_the_parents_clock_denies_are_suspect(claimed: int) -> None:
    """A clock that runs slow, and one that runs fast."""
    verdict, reason = quality([LATENCY], STEADY, LIMIT, [(30_000_000, claimed)] * 8)
    assert verdict is Quality.SUSPECT
    assert "accounts for" in reason


def test_turns_that_the_machine_delayed_are_not_suspect() -> None:
    delayed = [(60_000_000, 28_000_000)] * 12
    assert quality([LATENCY], STEADY, LIMIT, FAIR + delayed)[0] is Quality.CLEAN


def test_relative_iqr() -> None:
    assert relative_iqr([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)


def test_what_slows_all_alike_is_not_noise() -> None:
    """A neighbour that halves the machine for a launch moves every contender, and cancels in the ratios."""
    slow = [[10.0] * 6, [20.0, 20.5, 19.5, 20.0, 20.0, 20.2]]
    peers = [{"latency_us": [[x * factor for x in launch] for launch in slow]} for factor in (2.0, 5.0)]
    assert quality([LATENCY], {"latency_us": slow}, None, FAIR)[0] is Quality.NOISY
    assert quality([LATENCY], {"latency_us": slow}, None, FAIR, peers)[0] is Quality.CLEAN


def test_own_noise_is_not_excused_by_steady_peers() -> None:
    peers = [STEADY, STEADY]
    wild = [[10.0, 20.0, 11.0, 25.0][i % 4] for i in range(len(STEADY["latency_us"][0]))]
    samples = {"latency_us": [wild for _ in STEADY["latency_us"]]}
    assert quality([LATENCY], samples, None, FAIR, peers)[0] is Quality.NOISY
