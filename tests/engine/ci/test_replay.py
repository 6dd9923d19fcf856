"""``ci`` on recorded samples: nothing is measured here, a planted regression is found and named, its absence raises no alarm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aieng_bench.ci.checkouts import NotBuilt, Side
from aieng_bench.ci.interleaving import Shared
from aieng_bench.cli import app, interleaving
from aieng_bench.compare import LOOKS, compare
from aieng_bench.define import Case, Study
from aieng_bench.effect import centred
from aieng_bench.measure.plan import Plan, Unit
from aieng_bench.record.reading import load
from aieng_bench.record.schema import Record
from tests.engine.made import record

runner = CliRunner()
RECORDED = Path(__file__).parent / "recorded.jsonl"
"""Two cells of a published run: attention/backward of cpu_avx512_bf16 and diffusion/ddpm_step of cpu_avx512."""
SLOWED = "cpu_avx512_bf16"


def recorded() -> list[Record]:
    return load(RECORDED).records


def redrawn(original: Record, generator: np.random.Generator, launches: int, factor: float = 1.0, **changes: object) -> Record:
    """Launches whose rounds are drawn from those of the recorded ones, times a factor."""
    samples = original.samples["latency_us"]
    drawn = [generator.choice(samples[i % len(samples)], 10) * factor for i in range(launches)]
    kept = {"latency_us": tuple(tuple(map(float, launch)) for launch in drawn)}
    return original.model_copy(update={"samples": kept, "rounds": (tuple(range(10)),) * launches, **changes})


class Replay:
    """In place of measuring: both sides drawn anew from what was recorded, head's slowed contender by ``factor``."""

    def __init__(self, seed: int, factor: float) -> None:
        self.generator, self.factor = np.random.default_rng(seed), factor
        self.looks: list[tuple[str, int, int]] = []

    def __call__(self, plan: Plan, which: str) -> tuple[list[Record], list[Record]]:
        self.looks.append((which, len(plan.units), plan.launches))
        wanted = {unit.benchmark.name for unit in plan.units}
        cells = [cell for cell in recorded() if cell.definition.benchmark in wanted]
        base = [redrawn(cell, self.generator, plan.launches, run="base") for cell in cells]
        factors = [self.factor if cell.contender.name == SLOWED else 1.0 for cell in cells]
        head = [redrawn(cell, self.generator, plan.launches, f, run="head") for cell, f in zip(cells, factors)]
        return base, head


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Replay:
    """The command as it is, but for checkouts and measuring."""
    here = Side("base", None, None, Path(), Path())
    units = []
    for cell in recorded():
        stand_in = Study(
            name=cell.definition.benchmark, title="", summary="", baseline="", full={}, quick={}, metrics=()
        )  # fmt: skip
        units.append(Unit(stand_in, Case(cell.case), ()))

    @contextmanager
    def nothing(*_: object) -> Iterator[tuple[Side, Side]]:
        yield here, here

    made = Replay(*request.param)
    monkeypatch.setattr("aieng_bench.ci.checkouts.checkouts", nothing)
    monkeypatch.setattr(interleaving, "planned", lambda sides, patterns, device, launches: Shared(
        Plan(tuple(units), False, launches, 10, 60.0), ("gone",), ()
    ))  # fmt: skip
    monkeypatch.setattr(interleaving, "measuring", lambda *_: made)
    return made


@pytest.mark.parametrize("replay", [(seed, 1.10) for seed in range(4)], indirect=True)
def test_a_planted_regression_of_ten_per_cent_ends_with_one_and_is_named(replay: Replay, tmp_path: Path) -> None:
    done = runner.invoke(app, ["ci", "BASE", "HEAD", "--json", "--markdown", str(tmp_path / "c.md")])
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout)
    assert [c["contender"] for c in found["changes"] if c["verdict"] == "SLOWER"] == [SLOWED]
    (change,) = (c for c in found["changes"] if c["contender"] == SLOWED)
    assert change["effect"]["low"] < 1 / 1.10 < change["effect"]["high"]
    assert f"`{SLOWED}`" in next(row for row in (tmp_path / "c.md").read_text().splitlines() if "**SLOWER** |" in row)
    assert found["only_base"] == ["gone"]
    assert replay.looks[0] == ("first", 2, 16)


@pytest.mark.parametrize("replay", [(seed, 1.0) for seed in range(4)], indirect=True)
def test_the_same_code_ends_with_nought(replay: Replay) -> None:
    done = runner.invoke(app, ["ci", "BASE", "HEAD"])
    assert done.exit_code == 0, done.output
    assert "SLOWER" not in done.stdout


@pytest.mark.parametrize("replay", [(1, 1.02)], indirect=True)
def test_what_is_undecided_is_measured_once_more_with_twice_the_launches(replay: Replay) -> None:
    """An effect as large as the band is wide; the second look is the last, whatever it finds."""
    done = runner.invoke(app, ["ci", "BASE", "HEAD", "--launches", "3", "--json"])
    assert done.exit_code in (0, 1)
    assert [look[0] for look in replay.looks] == ["first", "again"]
    assert replay.looks[1][2] == 6
    decided_on = {c["effect"]["n"] for c in json.loads(done.stdout)["changes"] if c["contender"] == SLOWED}
    assert decided_on == {6}


def test_sides_that_shared_no_inputs_or_rounds_are_not_compared() -> None:
    other = compare([record(inputs_hash="a")], [record(inputs_hash="b")], interleaved=True)
    assert [c.reason for c in other.changes] == ["the two sides were given different inputs"]
    apart = compare([record()], [record(rounds=[[7, 8, 9]] * 3)], interleaved=True)
    assert [c.reason for c in apart.changes] == ["no rounds in common"]
    assert apart.exit_code == other.exit_code == 3


def test_rounds_pair_the_sides_and_each_look_has_half_of_alpha() -> None:
    """Drift that both sides see in a round cancels; the p is that of the launches' differences, for two looks."""
    generator = np.random.default_rng(5)
    drift = np.exp(generator.normal(0, 0.3, (8, 6)))
    noise = np.exp(generator.normal(0, 0.004, (8, 6)))
    base, head = record(latency=(100 * drift).tolist()), record(latency=(110 * drift * noise).tolist())
    (change,) = compare([base], [head], interleaved=True).changes
    assert change.verdict == "SLOWER"
    logs = np.median(np.log(100 / (110 * noise)), axis=1)
    found = centred(logs)
    assert found is not None
    assert change.p == pytest.approx(LOOKS * found.p)


def test_one_launch_far_off_hides_no_slow_down() -> None:
    generator = np.random.default_rng(6)
    base, head = (100 * level * np.exp(generator.normal(0, 0.01, (10, 6))) for level in (1.0, 1.05))
    head[3] *= 2
    (change,) = compare([record(latency=base.tolist())], [record(latency=head.tolist())], interleaved=True).changes
    assert change.verdict == "SLOWER"
    assert change.effect is not None
    assert change.effect.value == pytest.approx(1 / 1.05, rel=0.01)


@pytest.mark.parametrize(("side", "code"), [("head", 2), ("base", 4)])
def test_a_side_that_cannot_be_built_has_an_exit_code(side: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise NotBuilt(side, "pip ended with 1: no\nwheel")

    monkeypatch.setattr("aieng_bench.ci.checkouts.checkouts", broken)
    done = runner.invoke(app, ["ci", "BASE", "HEAD"])
    assert done.exit_code == code
    assert done.stderr == f"aieng-bench: {side}: pip ended with 1: no wheel\n"


def test_a_real_run_of_a_repository_with_a_planted_slow_down() -> None:
    """What ``scripts/plant_regression.py`` measured: ``planted`` is slower by a tenth in head, ``steady`` is not."""
    base, head = (load(RECORDED.parent / "planted" / f"{side}.jsonl").records for side in ("base", "head"))
    found = compare(base, head, interleaved=True)
    assert found.exit_code == 1
    assert {change.contender for change in found.changes if change.verdict == "SLOWER"} == {"planted"}
    for change in found.changes:
        assert change.effect is not None
        assert change.effect.low < (1 / 1.10 if change.contender == "planted" else 1.0) < change.effect.high
