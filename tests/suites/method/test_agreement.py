"""The benchmark that holds our timer against others': its arithmetic, and that both sides time the same call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aieng_suites.method import agreement

from aieng_bench.define import Case


def test_disagreement_is_the_median_of_the_rounds_own_ratios() -> None:
    """A round in which the machine was ten times slower for both says nothing."""
    figures = agreement.disagreement([1.1e-3, 11e-3, 2.2e-3], [1e-3, 10e-3, 2e-3])
    assert figures["disagreement_percent"] == pytest.approx(10)
    assert (figures["_ours_us"], figures["_theirs_us"]) == (pytest.approx(2200), pytest.approx(2000))
    assert agreement.disagreement([1.0], [1.1])["disagreement_percent"] == pytest.approx(100 / 11)


@pytest.mark.parametrize("function", agreement.FUNCTIONS)
def test_both_time_the_same_call(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """A timer that claims a second a call is found far off."""
    asked: list[Callable[[], Any]] = []

    def theirs(call: Callable[[], Any]) -> tuple[float, int]:
        assert call().isfinite().all()
        asked.append(call)
        return 1.0, 1

    monkeypatch.setattr(agreement, "ROUNDS", 2)
    figures = agreement.against(Case({"function": function, "device": "cpu"}), theirs)(seed=0)
    assert len(asked) == 1 + 2, "once to learn how many calls it times at once"
    assert figures["_theirs_us"] == 1e6
    assert 0 < figures["_ours_us"] < 1e6
    assert figures["disagreement_percent"] > agreement.LARGEST_DISAGREEMENT


def test_torchs_timer_returns_seconds_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "ROUNDS", 2)
    figures = agreement.torch_timer(Case({"function": "softmax", "device": "cpu"}))(seed=0)
    assert 0.02 < figures["_ratio"] < 50  # not milliseconds for microseconds, whatever the machine does meanwhile
