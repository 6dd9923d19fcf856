"""The calibration of compare: its bounds, that its figures are those of the committed launches, and that they are shown."""

from __future__ import annotations

import importlib.util
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from aieng_bench import calibration
from aieng_bench.calibration import Rate, clopper_pearson
from aieng_bench.record.schema import Record
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
        assert trial.false_alarms.n >= (100 if trial.kind == "real" else 1000)
    assert {(t.by, t.kind, t.launches) for t in found.trials} == set(product(("compare",), ("real", "resampled"), (5, 16))) | set(
        product(("ci",), ("real", "resampled"), (16,))
    )


def test_the_result_is_what_the_committed_launches_give(script):
    """The real comparisons all over again; of the resampled ones, that each is drawn as it was."""
    found = calibration.load()
    recordings = script.recordings(script.packed())
    real = [trial for trial in found.trials if trial.kind == "real" and trial.by == "ci"]
    assert [script.trial(recordings, trial.by, trial.kind, trial.launches) for trial in real] == real
    assert found.recordings == len(recordings)
    for by in ("compare", "ci"):
        once, again = ([call(None) for call in script.drawn(recordings, by, 16, 10)] for _ in range(2))
        assert once == again


def cells(pin, same, slower) -> dict[str, Record]:
    """A recorded case of these launches; the copy does as ``unchanged`` does."""
    launches = {"other_work": pin, "unchanged": same, "copy": same, "slower": slower}
    pinned = record().definition.model_copy(update={"baseline": "other_work"})
    return {name: record(name, latency=samples, definition=pinned) for name, samples in launches.items()}


@pytest.mark.parametrize("by", ["compare", "ci"])
def test_what_is_injected_is_what_is_compared(script, by):
    """Without noise, both ways of injecting a slow-down come out as it; the launches of one side or look are never another's."""
    steady = [[100 * 1.003**i] * 4 for i in range(48)]
    doubled, slower = ([[factor * value for value in launch] for launch in steady] for factor in (2, 1.05))
    case = cells(doubled, steady, slower)
    launches = script.launches_of(case)
    call = (script.gated if by == "ci" else script.stored)(case, launches[:16], launches[16:])
    for slow, effect in ((None, 1.0), (0, 1 / 1.05), (0.05, 1 / 1.05), (0.5, 1 / 1.5)):
        change = call(slow)
        assert change.effect.value == pytest.approx(effect)
        assert change.verdict == ("SAME" if slow is None else "SLOWER")
    for call in script.drawn([{"case": case}], by, 16, 20):
        change = call(None)
        assert (change.base != change.head) == (by == "compare")


def test_what_ran_is_compared_with_what_ran_beside_it(script):
    """Recordings are paired in time by ``compare``, launch for launch; ``ci`` has one comparison for each."""
    found = [{"case": cells([[200.0] * 4] * 16, [[100.0 + 50 * n] * 4] * 16, [[105.0 + 50 * n] * 4] * 16)} for n in range(4)]
    assert len(list(script.ran(found, "compare", 5))) == 2 * 3
    assert len(list(script.ran(found, "compare", 16))) == 2
    assert len(list(script.ran(found, "ci", 16))) == 4
    assert list(script.ran(found[:2], "ci", 16)) == [], "no launches for a second look"
    (first, _) = [call(0) for call in script.ran(found, "compare", 16)]
    assert (first.base, first.head) == (100.0, 155.0)


def test_every_leaderboard_has_the_line_beside_it(tmp_path):
    told = calibration.load().line
    write([record(), record("torch", "baseline")], tmp_path, "site")
    markdown = (tmp_path / "index.md").read_text()
    assert text(told) in markdown
    assert all(text(value) in markdown for row in calibration.load().rows for value in row)
    page = (tmp_path / "index.html").read_text()
    assert page.count('class="muted small calibration"') == page.count("<h3>") == 1
    assert f"<bdi>{told}</bdi> <a" in page


def test_noise_that_hides_a_slowdown_lowers_what_is_found(script):
    """The benchmark can fail: five launches of 10 % noise do not find 5 %, and are not said to."""
    generator = np.random.default_rng(1)
    noisy = [[float(100 * np.exp(generator.normal(0, 0.1)))] * 4 for _ in range(40)]
    calls = [call(0.05).verdict for call in script.drawn([{"case": cells([[200.0] * 4] * 40, noisy, noisy)}], "compare", 5, 40)]
    assert calls.count("SLOWER") < 20
