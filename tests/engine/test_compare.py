"""Comparing two sources: the verdicts by simulation, what fails, what matches, and what the command says of it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from aieng_bench.cli import app
from aieng_bench.compare import DifferentHardware, Verdict, compare
from aieng_bench.effect import holm, quotient, shift
from aieng_bench.record.reading import line
from aieng_bench.record.schema import ContenderInfo
from aieng_bench.summary import Ratio, interval, observations
from tests.engine.made import DEFINITION, ENVIRONMENT, record

runner = CliRunner()
CELLS = ({"S": 512, "device": "cpu"}, {"S": 1024, "device": "cpu"})


def side(generator, *, ours=100.0, machine_speed=1.0, launches=8, rounds=8, layout=0.003, noise=0.005, run="base", **changes):
    """A run of two cases, each with the baseline at 200 and ours, on a machine that is slower by a factor in this run."""
    made = []
    for case in CELLS:
        drift = generator.normal(0, 0.05, (launches, rounds))
        for name, kind, centre in (("torch", "baseline", 200.0), ("ours", "ours", ours)):
            logs = generator.normal(0, layout, (launches, 1)) + generator.normal(0, noise, (launches, rounds)) + drift
            made.append(record(name, kind, (machine_speed * centre * np.exp(logs)).tolist(), run=run, case=case, **changes))
    return made


def verdicts(base, head, **options):
    return [change.verdict for change in compare(base, head, **options).changes]


@pytest.mark.parametrize(
    ("ours", "verdict", "code"), [(100.0, Verdict.SAME, 0), (110.0, Verdict.SLOWER, 1), (90.0, Verdict.FASTER, 0)]
)
def test_a_change_is_seen_whatever_the_machine_did_meanwhile(ours, verdict, code):
    generator = np.random.default_rng(1)
    found = compare(side(generator), side(generator, ours=ours, machine_speed=1.4, run="head"))
    assert [change.verdict for change in found.changes] == [verdict] * 2
    assert found.exit_code == code
    assert all(change.effect.low <= 100 / ours <= change.effect.high for change in found.changes)


def test_wild_noise_is_undecided():
    generator = np.random.default_rng(2)
    runs = [compare(side(generator, layout=0.05), side(generator, layout=0.05, run="head")) for _ in range(12)]
    calls = [change.verdict for found in runs for change in found.changes]
    assert calls.count(Verdict.UNDECIDED) >= 18
    # At most alpha of the comparisons, whatever the number of cells; this bound fails with a chance below 1e-3.
    assert sum(found.exit_code == 1 for found in runs) <= stats.binom.ppf(0.999, 12, 0.05)


def test_the_same_code_gives_no_false_alarm_at_the_layout_noise_that_was_measured():
    generator = np.random.default_rng(3)
    calls = [v for _ in range(25) for v in verdicts(side(generator, layout=0.02), side(generator, layout=0.02, run="head"))]
    assert sum(v in (Verdict.SLOWER, Verdict.FASTER) for v in calls) <= 1


def test_noisy_cells_and_missing_baselines_cannot_gate():
    generator = np.random.default_rng(4)
    base = side(generator)
    noisy = compare(base, side(generator, ours=200, run="head", quality="NOISY"))
    assert {(c.verdict, c.reason) for c in noisy.changes} == {(Verdict.UNDECIDED, "head is NOISY")}
    alone = compare(base, [r for r in side(generator, run="head") if r.contender.name == "ours"])
    assert {c.reason for c in alone.changes} == {"head has no valid measurement of the baseline torch"}
    assert alone.exit_code == noisy.exit_code == 3


def test_what_newly_fails_or_is_incorrect_is_exit_two():
    good, generator = record(), np.random.default_rng(5)
    crashed = record(latency=[], outcome="CRASHED", outcome_reason="signal 11")
    wrong = record(check={"verdict": "INCORRECT", "reason": "out: zeros"})
    for head, state in ((crashed, "CRASHED: signal 11"), (wrong, "INCORRECT: out: zeros")):
        found = compare([good], [head])
        assert [(f.base, f.head) for f in found.failures] == [("PASSED", state)]
        assert found.exit_code == 2
    assert compare([crashed], [crashed]).exit_code == 3
    assert compare([wrong], [wrong]).exit_code == 2
    assert compare([crashed], [good]).failures == ()
    slower_and_wrong = compare([*side(generator), good], [*side(generator, ours=300, run="head"), wrong])
    assert slower_and_wrong.exit_code == 2


def test_cells_of_one_side_are_listed_and_changed_definitions_never_meet():
    other = record(definition=DEFINITION.model_copy(update={"hash": "new"}))
    found = compare([record(), record("old")], [other, record("new")])
    assert found.exit_code == 3
    assert found.only_base == (
        "attention/forward B=2,S=512,dtype=float32,device=cpu ours",
        "attention/forward B=2,S=512,dtype=float32,device=cpu old",
    )
    assert len(found.only_head) == 2
    assert compare([], []).exit_code == 3


def test_the_newest_run_of_a_source_counts_and_is_not_paired_with_another():
    generator = np.random.default_rng(6)
    old = side(generator, ours=400, run="old")
    new = side(generator, run="new", created="2025-02-01T00:00:00Z")
    assert verdicts([*new, *old], side(generator, run="head")) == [Verdict.SAME] * 2


def test_other_hardware_is_refused_and_other_libraries_are_shown():
    moved = ENVIRONMENT.model_copy(update={"machine": "other-8c", "libraries": {"torch": "2.14.0"}})
    with pytest.raises(DifferentHardware, match="test-cpu-2c-8gib against other-8c"):
        compare([record()], [record(environment=moved)])
    found = compare([record()], [record(environment=moved)], cross_hardware=True)
    assert found.environment == (("machine", "test-cpu-2c-8gib", "other-8c"), ("torch", "2.13.0", "2.14.0"))


def test_both_errors_are_carried():
    both = quotient(Ratio(2, 1.8, 2.2), Ratio(1, 0.9, 1.1))
    one = quotient(Ratio(2, 1.8, 2.2), Ratio(1, 1, 1))
    assert both.value == one.value == 2
    assert both.low < one.low == pytest.approx(1.8)
    assert both.high > one.high == pytest.approx(2.2)
    assert quotient(Ratio(2, 0, np.inf, "seeds"), Ratio(1, 1, 1)).high == np.inf


def test_the_interval_of_a_median_over_rounds_covers():
    generator = np.random.default_rng(7)
    covered = sum(r.low <= 1 <= r.high for r in (interval(generator.normal(0, 1, 25), "rounds") for _ in range(400)))
    assert covered >= stats.binom.ppf(1e-4, 400, 0.95)


@pytest.mark.parametrize("sizes", [(2, 2), (4, 3), (5, 5), (5, 12), (16, 16)])
def test_the_shift_is_yuens(sizes):
    generator = np.random.default_rng(11)
    new, old = (generator.standard_t(3, n) + 0.3 * i for i, n in enumerate(sizes))
    theirs = stats.ttest_ind(new, old, equal_var=False, trim=0.2)
    interval = theirs.confidence_interval()
    found = shift(new, old)
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, theirs.pvalue))
    assert (found.low + found.high) / 2 == pytest.approx(found.value)


def test_one_launch_that_is_far_off_hides_nothing():
    generator = np.random.default_rng(12)
    old, new = (generator.normal(0, 0.01, 10) for _ in range(2))
    new += 0.1
    old[3] += 0.8
    assert shift(new, old).p < 1e-3
    assert shift(new, old).low > 0.05
    assert stats.ttest_ind(new, old, equal_var=False).pvalue > 0.05


def test_interval_and_p_are_of_the_same_observations():
    generator = np.random.default_rng(13)
    base, head = side(generator, layout=0.03), side(generator, layout=0.03, run="head")
    for i, change in enumerate(compare(base, head).changes):
        logs = [observations(cells[2 * i + 1], cells[2 * i], change.metric) for cells in (base, head)]
        found = shift(logs[1], logs[0])
        assert (math.log(change.effect.low), math.log(change.effect.high)) == pytest.approx((found.low, found.high))
        assert (change.effect.over, change.effect.n) == ("launches", 8)


def test_degenerate_sides_have_their_p():
    assert shift(np.ones(1), np.ones(5)) is None
    assert shift(np.ones(3), np.ones(3)).p == 1
    assert shift(np.ones(3), np.full(3, 2.0)).p == 0


def test_holm_is_the_textbooks():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def write(path, records):
    path.write_text("".join(line(one) + "\n" for one in records))
    return str(path)


def test_the_command_tells_people_machines_and_github(tmp_path):
    generator = np.random.default_rng(8)
    base, head = side(generator), side(generator, ours=150.0, run="head")
    hostile = record(contender=ContenderInfo(name="@team <img> | `x` \x1b[1m", kind="ours"))
    base, head = write(tmp_path / "a.jsonl", [*base, hostile]), write(tmp_path / "b.jsonl", head)
    done = runner.invoke(app, ["compare", base, head, "--markdown", str(tmp_path / "c.md")])
    assert done.exit_code == 1
    assert "2 SLOWER" in done.output.splitlines()[-1]
    assert "\x1b" not in done.output
    content = json.loads(runner.invoke(app, ["compare", base, head, "--json"]).stdout)
    assert content["exit_code"] == 1
    assert content["changes"][0]["effect"]["value"] == pytest.approx(2 / 3, rel=0.02)
    markdown = (tmp_path / "c.md").read_text()
    assert markdown.startswith("**2 SLOWER**")
    assert "`only in base: attention/forward B=2,S=512,dtype=float32,device=cpu @team <img> ¦ 'x'`" in markdown
    assert markdown.count("| **SLOWER** |") == 2


def test_the_command_refuses_other_hardware_with_exit_four(tmp_path):
    base = write(tmp_path / "a.jsonl", [record()])
    head = write(tmp_path / "b.jsonl", [record(environment=ENVIRONMENT.model_copy(update={"machine": "other"}))])
    done = runner.invoke(app, ["compare", base, head])
    assert done.exit_code == 4
    assert "--cross-hardware" in done.stderr
    assert runner.invoke(app, ["compare", base, head, "--cross-hardware"]).exit_code == 3


def test_the_corrected_level_can_be_reached_with_five_launches_and_hundreds_of_cells():
    """A permutation test could not: of 5 and 5 launches its smallest p is 2 / 252."""
    generator = np.random.default_rng(9)
    made = {"base": [], "head": []}
    for run, ours in (("base", 100.0), ("head", 112.0)):
        for case in range(200):
            for name, kind, centre in (("torch", "baseline", 200.0), ("ours", "ours", 100.0 if case else ours)):
                samples = centre * np.exp(generator.normal(0, 0.002, (5, 4)))
                made[run].append(record(name, kind, samples.tolist(), run=run, case={"S": case, "device": "cpu"}))
    found = compare(made["base"], made["head"])
    assert [change.case for change in found.changes if change.verdict is Verdict.SLOWER] == ["S=0,device=cpu"]
    assert sum(change.verdict is Verdict.SAME for change in found.changes) >= 190


def test_same_needs_the_whole_interval_inside_the_band():
    generator = np.random.default_rng(10)
    seen = set()
    for _ in range(20):
        for change in compare(side(generator, layout=0.009), side(generator, layout=0.009, run="head")).changes:
            inside = change.effect.low > 1 / 1.02 and change.effect.high < 1.02
            assert (change.verdict is Verdict.SAME) == inside
            seen.add(change.verdict)
    assert len(seen) > 1


def test_launches_without_a_sample_are_no_measurement() -> None:
    free = record().definition.model_copy(update={"baseline": ""})
    empty, full = record(latency=[[], []], definition=free), record(definition=free)
    assert compare([empty], [full]).changes == compare([full], [empty]).changes == ()
