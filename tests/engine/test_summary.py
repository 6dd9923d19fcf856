"""Medians, speed-ups with intervals, ranks: against simulation and against what is true by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from aieng_bench.record.schema import ContenderInfo, Limit, MetricInfo
from aieng_bench.summary import groups, median, observations, speedup, student
from tests.engine.made import DEFINITION, record

LATENCY = DEFINITION.metrics[0]
STUDY = DEFINITION.model_copy(
    update={"kind": "study", "baseline": "resnet", "metrics": (MetricInfo(name="accuracy", unit="", better="higher"),)}
)


def noisy(generator, launches, rounds, centre=100.0, layout=0.02, noise=0.05, drift=None):
    drift = np.zeros((launches, rounds)) if drift is None else drift
    shape = generator.normal(0, layout, (launches, 1)) + generator.normal(0, noise, (launches, rounds)) + drift
    return (centre * np.exp(shape)).tolist()


def baseline(latency=None, **changes):
    return record("torch", "baseline", latency, **changes)


def test_the_median_is_over_launches_of_medians_over_rounds():
    assert median(record(latency=[[1, 2, 30], [4, 5, 60], [7, 8, 9]]), "latency_us") == 5
    assert median(record(latency=[]), "latency_us") is None


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_above_one_is_better_whatever_the_direction(better):
    metric = MetricInfo(name="latency_us", unit="µs", better=better)
    ratio = speedup(record(latency=[[10, 10.1]] * 3), baseline([[30, 30.3]] * 3), metric)
    assert ratio is not None
    assert ratio.value == pytest.approx(3 if better == "lower" else 1 / 3)
    assert ratio.low <= ratio.value <= ratio.high


def test_pairing_by_round_takes_out_what_hits_both_alike():
    generator = np.random.default_rng(0)
    slow = np.exp(generator.normal(0, 1, (4, 10)))
    ratio = speedup(record(latency=slow.tolist()), baseline((2 * slow).tolist()), LATENCY)
    assert ratio is not None
    assert ratio.value == pytest.approx(2)
    assert ratio.high / ratio.low == pytest.approx(1)


def test_rounds_are_paired_by_their_number_not_their_place():
    late = record(latency=[[10.0, 20.0, 40.0]] * 3, rounds=[[5, 6, 7]] * 3)
    other = baseline([[7.0, 30.0, 60.0, 120.0]] * 3, rounds=[[4, 5, 6, 7]] * 3)
    np.testing.assert_allclose(observations(late, other, LATENCY), math.log(3))
    assert speedup(late, baseline([[1.0]] * 3, rounds=[[99]] * 3), LATENCY) is None


@pytest.mark.parametrize(("launches", "rounds"), [(2, 6), (3, 10), (5, 10), (16, 5)])
def test_ninety_five_per_cent_means_it(launches, rounds):
    generator = np.random.default_rng(launches)
    covered = 0
    for _ in range(200):
        drift = generator.normal(0, 0.1, (launches, rounds))
        ratio = speedup(
            record(latency=noisy(generator, launches, rounds, drift=drift)),
            baseline(noisy(generator, launches, rounds, 200.0, drift=drift)),
            LATENCY,
        )
        assert ratio is not None
        covered += ratio.low <= 2 <= ratio.high
    # Below this bound with a chance of 1e-4 if the true coverage were 92 %.
    assert covered >= stats.binom.ppf(1e-4, 200, 0.92)


def test_one_launch_says_that_only_rounds_varied():
    ratio = speedup(record(latency=[[1, 1.1, 0.9, 1.05]]), baseline([[2, 2.1, 1.9, 2.2]]), LATENCY)
    assert ratio is not None
    assert (ratio.over, ratio.n) == ("rounds", 4)


def test_the_same_records_give_the_same_figures():
    generator = np.random.default_rng(3)
    pair = record(latency=noisy(generator, 5, 10)), baseline(noisy(generator, 5, 10))
    assert speedup(*pair, LATENCY) == speedup(*pair, LATENCY)


def test_launches_of_unequal_length_and_figures_that_are_not_positive():
    assert speedup(record(latency=[[1, 2], [3], [1, 2, 3]]), baseline([[2, 4], [6], [2, 4, 6]]), LATENCY) is not None
    assert speedup(record(latency=[[1.0, 0.0]]), baseline([[1.0, 1.0]]), LATENCY) is None
    assert speedup(record(latency=[[1.0, -1.0]]), baseline([[1.0, 1.0]]), LATENCY) is None


def study(name, accuracy, kind="ours"):
    return record(
        definition=STUDY,
        contender=ContenderInfo(name=name, kind=kind),
        samples={"accuracy": [[a] for a in accuracy]},
        rounds=[[seed] for seed in range(len(accuracy))],
    )


def test_a_study_is_paired_by_seed_with_students_t():
    vit, resnet = [0.97, 0.98, 0.975], [0.96, 0.965, 0.972]
    ratio = speedup(study("vit", vit), study("resnet", resnet, "baseline"), STUDY.metrics[0])
    expected = stats.ttest_1samp(np.log(np.divide(vit, resnet)), 0).confidence_interval(0.95)
    assert ratio is not None
    assert (ratio.over, ratio.n) == ("seeds", 3)
    assert math.log(ratio.low) == pytest.approx(expected.low, rel=1e-3)
    assert math.log(ratio.high) == pytest.approx(expected.high, rel=1e-3)


def test_one_seed_has_a_value_and_no_interval():
    ratio = speedup(study("vit", [0.9]), study("resnet", [0.6], "baseline"), STUDY.metrics[0])
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(1.5), 0, math.inf)


@pytest.mark.parametrize("freedom", [1, 2, 4, 15, 16, 40, 1000])
def test_students_quantile_is_scipys(freedom):
    assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=5e-3)


def test_a_group_ranks_what_may_be_ranked_and_lists_the_rest():
    limit = Limit(time_us=5, binds="memory", bandwidth_bytes_per_s=1e9, rate_per_s=None, source="measured")
    made = [
        record("slow", latency=[[40.0]] * 3),
        record("fast", latency=[[10.0]] * 3, limit=limit),
        baseline([[30.0]] * 3),
        record("eager", "baseline", [[20.0]] * 3),
        record("wrong", latency=[[1.0]] * 3, check={"verdict": "INCORRECT"}),
        record("cuda", latency=[], outcome="UNSUPPORTED", outcome_reason="needs cuda"),
        record("jumpy", latency=[[2.0]] * 3, quality="NOISY"),
    ]
    (group,) = groups(made)
    assert [(row.record.contender.name, row.rank) for row in group.rows] == [
        *(("fast", 1), ("eager", 2), ("torch", 3), ("slow", 4)),
        *(("cuda", None), ("jumpy", None), ("wrong", None)),
    ]
    assert group.fastest_baseline == "eager"
    fast = group.rows[0]
    assert fast.speedup is not None
    assert fast.speedup_fastest is not None
    assert (fast.speedup.value, fast.speedup_fastest.value) == pytest.approx((3, 2))
    assert fast.percent_of_limit == 50
    assert group.label == "B=2 S=512 dtype=float32"
    assert all(row.medians == {} and row.speedup is None for row in group.rows[4:])


def test_runs_and_cases_are_kept_apart_and_a_missing_baseline_is_no_error():
    made = [record(), record(run="another"), record(case={"S": 1, "device": "cpu"}), baseline(outcome="CRASHED")]
    found = groups(made)
    assert len(found) == 3
    assert found[0].rows[0].speedup is None
    assert found[0].fastest_baseline is None
    assert groups([]) == []
    (nothing,) = groups([baseline(outcome="CRASHED")])
    assert nothing.headline is None
