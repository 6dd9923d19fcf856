"""The calibration of compare: its bounds, that its figures are those of the committed launches, and that they are shown."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from aieng_bench import calibration
from aieng_bench.calibration import Rate, clopper_pearson
from aieng_bench.report import write
from aieng_bench.report.markdown import text
from tests.engine.made import record

SCRIPTS = Path(__file__).parents[2] / "scripts/calibration"


@pytest.fixture(scope="module")
def script():
    """scripts/calibration/evaluate.py as a module."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec = importlib.util.spec_from_file_location("evaluate", SCRIPTS / "evaluate.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPTS))
    return module


@pytest.mark.parametrize(("hits", "n"), [(0, 100), (1, 100), (37, 100), (100, 100), (3, 1000)])
def test_the_bounds_are_clopper_and_pearsons(hits, n):
    low, high = clopper_pearson(hits, n)
    exact = stats.binomtest(hits, n).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((exact.low, exact.high))


def test_a_rate_is_written_with_its_bounds():
    assert str(Rate.of(0, 1000)) == "0 of 1,000 [0, 0.37 %]"
    assert str(Rate.of(951, 1000)) == "951 of 1,000 [94, 96 %]"


def test_the_result_is_as_large_as_promised_and_its_bounds_follow_from_its_counts():
    found = calibration.load()
    for trial in found.trials:
        for rate in (trial.false_alarms, trial.found, trial.noisy):
            assert rate == Rate.of(rate.hits, rate.n)
        assert trial.false_alarms.n >= 1000 or trial.kind == "real"
    assert {(trial.kind, trial.launches) for trial in found.trials} >= {("real", 5), ("resampled", 5), ("resampled", 16)}


def test_the_result_is_what_the_committed_launches_give(script):
    """The real comparisons all over again; of the resampled ones, that each is drawn as it was."""
    found = calibration.load()
    recordings = script.recordings(script.packed())
    real = [trial for trial in found.trials if trial.kind == "real"]
    assert [script.real(recordings, trial.launches // 5) for trial in real] == real
    assert found.recordings == len(recordings)
    once, again = ([call(None) for call in script.draws(recordings, 5, 10)] for _ in range(2))
    assert once == again


def test_what_is_injected_is_what_compare_sees(script):
    """Without noise, both ways of injecting a slow-down come out as it; the launches of one side are never the other's."""
    steady = [[100.0 + i] * 4 for i in range(40)]
    slower = [[1.05 * value for value in launch] for launch in steady]
    cells = {
        "other_work": record("other_work", "baseline", [[200.0 + 2 * i] * 4 for i in range(40)]),
        "unchanged": record("unchanged", latency=steady),
        "slower": record("slower", latency=slower),
    }
    cells = {
        name: one.model_copy(update={"definition": one.definition.model_copy(update={"baseline": "other_work"})})
        for name, one in cells.items()
    }
    launches = script.launches_of(cells)
    base = script.side(cells, launches[:20], run="base")
    for slow, effect in ((None, 1.0), (0, 1 / 1.05), (0.05, 1 / 1.05), (0.5, 1 / 1.5)):
        change = script.verdict(base, script.side(cells, launches[20:], slow, run="head"))
        assert change.effect.value == pytest.approx(effect)
        assert change.verdict == ("SAME" if slow is None else "SLOWER")
    for call in script.draws([{"case": cells}], 16, 20):
        change = call(None)
        assert change.base != change.head


def test_every_leaderboard_has_the_line_beside_it(tmp_path):
    told = calibration.load().line
    write([record(), record("torch", "baseline")], tmp_path, "site")
    assert text(told) in (tmp_path / "index.md").read_text()
    page = (tmp_path / "index.html").read_text()
    assert page.count('class="muted small calibration"') == page.count("<h3>") == 1
    assert f"<bdi>{told}</bdi>" in page


def test_noise_that_hides_a_slowdown_lowers_what_is_found(script):
    """The benchmark can fail: five launches of 10 % noise do not find 5 %, and are not said to."""
    generator = np.random.default_rng(1)
    noisy = [[float(100 * np.exp(generator.normal(0, 0.1)))] * 4 for _ in range(40)]
    pin = {"definition": record().definition.model_copy(update={"baseline": "other_work"})}
    cells = {
        "other_work": record("other_work", "baseline", [[200.0] * 4] * 40, **pin),
        "unchanged": record("unchanged", latency=noisy, **pin),
        "slower": record("slower", latency=noisy, **pin),
    }
    calls = [call(0.05).verdict for call in script.draws([{"case": cells}], 5, 40)]
    assert calls.count("SLOWER") < 20
