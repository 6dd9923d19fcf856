"""Means over seeds, the Pareto front, and which metrics a study is compared by."""

from __future__ import annotations

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aieng_bench.report import study
from aieng_bench.report.headline import headline
from aieng_bench.summary import groups


def test_quality_and_cost_are_the_accuracy_and_the_latency() -> None:
    quality, cost = study.quality_metric(synthetic.STUDY), study.cost_metric(synthetic.STUDY)
    assert quality is not None
    assert cost is not None
    assert (quality.name, cost.name) == ("accuracy", "latency_p50_us"), "not the first time, which is that of training"
    assert study.quality_metric(synthetic.LATENCY) is None


def test_a_study_is_summed_up_by_its_quality_or_else_by_its_first_figure() -> None:
    records = synthetic.study()
    claim = headline(groups(records), "digits").named
    assert (claim.text, claim.word) == ("98.4 %", "theirs 98.9 %")
    times = [metric for metric in synthetic.STUDY if metric.better == "lower"]
    definition = records[0].definition.model_copy(update={"metrics": tuple(times)})
    claim = headline(groups([r.model_copy(update={"definition": definition}) for r in records]), "digits").named
    assert (claim.text, claim.word, claim.detail) == ("9.01 s", "theirs 6.09 s", "time to 95 % · vs resnet")
    nothing = records[0].definition.model_copy(update={"metrics": ()})
    claim = headline(groups([r.model_copy(update={"definition": nothing}) for r in records]), "digits").named
    assert (claim.text, claim.detail) == ("–", "no ranked pair to compare")


def test_the_interval_is_students() -> None:
    record = synthetic.study()[0]
    values = study.seeds(record, "accuracy")
    low, high = stats.t.interval(0.95, len(values) - 1, loc=stats.tmean(values), scale=stats.sem(values))
    found = study.mean(record, "accuracy")
    assert found is not None
    assert found[1] is not None
    assert (found[0] - found[1], found[0] + found[1]) == pytest.approx((low, high), rel=1e-4)
    assert study.mean(record, "no_such_metric") is None


@pytest.mark.parametrize(
    ("value", "half", "written"),
    [
        (98.9432, 0.3671, ("98.94", "0.37")),
        (420.4, 3.08, ("420.4", "3.1")),
        (28031.2, 87.7, ("28,031", "88")),
        (7.0, 0.0, ("7.00", "0")),
    ],
)
def test_a_mean_is_written_to_the_decimals_of_its_error(value: float, half: float, written: tuple[str, str]) -> None:
    assert study.plus_minus(value, half) == written


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_the_pareto_front_holds_whatever_nothing_beats(points: list[tuple[int, int]]) -> None:
    front = {points[i] for i in study.pareto(points)}

    def beaten(p: tuple[int, int]) -> bool:
        return any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)

    assert front == {p for p in points if not beaten(p)}
