"""Series over published runs: where they are cut, which change points are found and how often falsely, what the command says."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from aieng_bench.cli import app
from aieng_bench.history import SHORTEST, change_points, jump, series
from aieng_bench.record.reading import line
from aieng_bench.record.schema import ContenderInfo
from tests.engine.made import DEFINITION, ENVIRONMENT, record

runner = CliRunner()
SIGMA, STEP = 0.01, 0.03


def day(number):
    return f"2025-{1 + number // 28:02d}-{1 + number % 28:02d}T00:00:00Z"


def runs(levels, **changes):
    """A run a day; ours is ``level`` times as fast as torch. A value of ``changes`` is called with the number of the run."""
    made = []
    for i, level in enumerate(levels):
        own = {name: value(i) for name, value in changes.items()}
        for name, kind, latency in (("torch", "baseline", 100.0), ("ours", "ours", 100.0 / level)):
            made.append(record(name, kind, [[latency] * 3] * 2, run=f"run-{i:02d}", created=day(i), **own))
    return made


def test_steps_of_three_sigma_are_found_and_placed_within_two():
    """300 series of 30 runs, the step anywhere but in the first or last 6; 98 % at the least (295 here)."""
    generator = np.random.default_rng(1)
    placed = 0
    for _ in range(300):
        at = int(generator.integers(6, 25))
        levels = generator.normal(0, SIGMA, 30)
        levels[at:] += STEP * generator.choice([-1, 1])
        placed += any(abs(found - at) <= 2 for found, _ in change_points(levels))
    assert placed >= 0.98 * 300


@pytest.mark.parametrize("noise", ["normal", "heavy"])
def test_stationary_series_give_at_most_one_false_alarm_in_a_hundred(noise):
    """1,000 series of 36 runs, also with Student's t of 3 degrees of freedom, whose newest run may well jump."""
    generator = np.random.default_rng(2)
    alarms = 0
    for _ in range(1000):
        levels = SIGMA * (generator.normal(0, 1, 36) if noise == "normal" else generator.standard_t(3, 36))
        alarms += bool(change_points(levels)) or (noise == "normal" and jump(levels) is not None)
    assert alarms <= 10


def test_a_regression_and_its_repair_are_two_change_points():
    generator = np.random.default_rng(3)
    both = 0
    for _ in range(30):
        levels = generator.normal(0, SIGMA, 60)
        levels[20:40] -= STEP
        found = [at for at, _ in change_points(levels)]
        both += len(found) == 2 and abs(found[0] - 20) <= 2 and abs(found[1] - 40) <= 2
    assert both >= 24


def test_short_and_constant_series_have_no_change_points():
    assert change_points(np.array([0.0] * 5 + [9.0] * (SHORTEST - 6))) == []
    assert change_points(np.zeros(50)) == []
    assert change_points(np.empty(0)) == []


def test_only_a_delta_beyond_what_the_series_has_shown_is_a_jump():
    calm = np.tile([0.0, 0.01, 0.03], 12)
    assert jump(calm) is None
    assert jump(np.append(calm, 0.5)) == pytest.approx(0.47)
    assert jump(np.append(calm[:10], 0.5)) is None, "ten deltas are too few to learn from"


def test_a_shift_names_the_run_and_its_size():
    generator = np.random.default_rng(4)
    levels = np.exp(generator.normal(0, SIGMA, 24)) * np.where(np.arange(24) < 14, 2.0, 1.5)
    (found,) = series(reversed(runs(levels)))
    (segment,) = found.segments
    (shift,) = segment.shifts()
    assert (found.contender, found.baseline, found.metric.name) == ("ours", "torch", "latency_us")
    assert (shift.point.run, shift.point.created) == ("run-14", day(14))
    assert shift.effect == pytest.approx(0.75, rel=0.02)


@pytest.mark.parametrize(
    ("changed", "because"),
    [
        ({"libraries": {"torch": "2.14.0"}}, ("torch", "2.13.0", "2.14.0")),
        ({"driver": "570"}, ("driver", "none", "570")),
        ({"gpu": "H100"}, ("gpu", "none", "H100")),
        ({"libraries": {"torch": "2.13.0", "peer": "1"}}, None),
        ({"python": "3.12.0"}, None),
    ],
)
def test_new_versions_start_a_segment(changed, because):
    """The step at the same run is no change point then: it is what the new version did."""
    moved = ENVIRONMENT.model_copy(update=changed)
    levels = [2.0 + 0.001 * (i % 3) for i in range(15)] + [1.0 + 0.001 * (i % 3) for i in range(15)]
    (found,) = series(runs(levels, environment=lambda i: moved if i >= 15 else ENVIRONMENT))
    if because is None:
        assert [len(segment.points) for segment in found.segments] == [30]
        assert len(found.segments[0].shifts()) == 1
    else:
        assert [(len(segment.points), segment.because) for segment in found.segments] == [(15, ()), (15, (because,))]
        assert [segment.shifts() for segment in found.segments] == [[], []]


def test_a_changed_definition_starts_a_segment_too():
    new = DEFINITION.model_copy(update={"hash": "new"})
    (found,) = series(runs([1.0] * 4, definition=lambda i: new if i == 3 else DEFINITION))
    assert [segment.because for segment in found.segments] == [(), (("definition", "d3f1", "new"),)]


def test_machines_are_never_mixed_and_cells_that_are_not_ranked_leave_no_point():
    other = ENVIRONMENT.model_copy(update={"machine": "other-8c"})
    found = series(runs([1.0] * 6, environment=lambda i: other if i % 2 else ENVIRONMENT))
    assert [(one.machine, len(one.segments[0].points)) for one in found] == [("test-cpu-2c-8gib", 3), ("other-8c", 3)]
    (gaps,) = series(runs([1.0] * 6, quality=lambda i: "NOISY" if i in (2, 3) else "CLEAN"))
    assert [point.run for point in gaps.segments[0].points] == ["run-00", "run-01", "run-04", "run-05"]


def test_without_a_baseline_the_figure_itself_is_followed_and_less_is_better():
    alone = DEFINITION.model_copy(update={"baseline": ""})
    found = series(runs([1.0, 2.0], definition=lambda _: alone))
    assert [[math.exp(-point.level) for point in one.segments[0].points] for one in found] == [
        [pytest.approx(100)] * 2,
        [pytest.approx(100), pytest.approx(50)],
    ]


def published(tmp_path, records):
    (tmp_path / "machine").mkdir()
    for run in {one.run for one in records}:
        text = "".join(line(one) + "\n" for one in records if one.run == run)
        (tmp_path / "machine" / f"{run}.jsonl").write_text(text)
    return str(tmp_path)


def test_the_command_says_where_a_level_changed(tmp_path):
    place = published(tmp_path, runs([2.0 + 0.002 * (i % 3) for i in range(12)] + [1.6 + 0.002 * (i % 3) for i in range(12)]))
    done = runner.invoke(app, ["history", place])
    assert done.exit_code == 0
    assert "2025-01-13 0123456789 worse: 0.800× the level before" in " ".join(done.output.split())
    assert done.output.splitlines()[-1] == "1 series since the last change of versions: 1 of 24 runs"
    (content,) = json.loads(runner.invoke(app, ["history", place, "--benchmark", "attention", "--json"]).stdout)
    assert [shift["run"] for shift in content["segments"][0]["shifts"]] == ["run-12"]


def test_the_command_says_plainly_that_a_series_is_too_short(tmp_path):
    place = published(tmp_path, runs([2.0, 2.1]))
    done = runner.invoke(app, ["history", place])
    assert done.output.splitlines()[-2:] == [
        "1 series since the last change of versions: 1 of 2 runs",
        f"1 too short: change points are looked for from {SHORTEST} runs on.",
    ]
    assert "2.10× torch  too short" in done.output


def test_a_pattern_without_series_is_exit_three_and_names_what_there_is(tmp_path):
    done = runner.invoke(app, ["history", published(tmp_path, runs([2.0])), "--benchmark", "nope"])
    assert done.exit_code == 3
    assert "attention/forward" in done.stderr


def test_hostile_names_are_inert(tmp_path):
    hostile = ContenderInfo(name="evil\x1b[31m\n::error::x", kind="ours")
    records = [*runs([2.0]), record(run="run-00", contender=hostile, created=day(0))]
    done = runner.invoke(app, ["history", published(tmp_path, records)])
    assert "\x1b" not in done.output
    assert not any(text.startswith("::") for text in done.output.splitlines())
