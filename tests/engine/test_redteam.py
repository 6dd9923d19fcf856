"""The catch matrix as a function of records, the command that prints it, and the page that shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aieng_bench import redteam, registry
from aieng_bench.cli import app
from aieng_bench.define import REDTEAM, KernelBenchmark, grid
from aieng_bench.measure.plan import Plan
from aieng_bench.record.schema import Check, ContenderInfo, Outcome, Quality, Record
from aieng_bench.report import write
from tests.engine.made import DEFINITION, record

runner = CliRunner()
WRONG = {"check": Check(verdict="INCORRECT", reason="out is wrong")}
ABSENT = {"outcome": "UNSUPPORTED", "outcome_reason": "no CUDA device here", "check": Check(verdict="UNCHECKED")}
HOSTILE = "<img src=x onerror=alert(1)> @team |"


def pair(name: str, cheat: dict[str, Any], twin: dict[str, Any] | None = None, waived: str = "") -> list[Record]:
    definition = DEFINITION.model_copy(
        update={
            "suite": REDTEAM,
            "benchmark": f"{REDTEAM}/{name}",
            "title": f"does {name}",
            "summary": waived,
            "baseline": "honest",
        }
    )
    contenders = (("cheat", cheat), ("honest", twin or {}))
    return [
        record(definition=definition, contender=ContenderInfo(name=who, kind="baseline"), **changes) for who, changes in contenders
    ]


def row(cheat: dict[str, Any], twin: dict[str, Any] | None = None, waived: str = "") -> redteam.Row:
    (found,) = redteam.matrix(pair("trick", cheat, twin, waived))
    return found


@pytest.mark.parametrize(
    ("cheat", "waived", "verdict", "how"),
    [
        (WRONG, "", "caught", "INCORRECT: out is wrong"),
        ({"outcome": "CRASHED", "outcome_reason": "exited"}, "", "caught", "CRASHED: exited"),
        ({"quality": "SUSPECT", "quality_reason": "too fast"}, "", "caught", "SUSPECT: too fast"),
        (WRONG, "cannot be seen", "caught", "INCORRECT: out is wrong"),
        ({}, "cannot be seen", "waived", "cannot be seen"),
        ({}, "", "MISSED", ""),
        ({"quality": "NOISY", "quality_reason": "a busy machine"}, "", "MISSED", ""),
        (ABSENT, "", "not run", "no CUDA device here"),
    ],
)
def test_a_cheat_is_caught_waived_missed_or_not_run(cheat: dict[str, Any], waived: str, verdict: str, how: str) -> None:
    found = row(cheat, ABSENT if cheat is ABSENT else {}, waived)
    assert (found.name, found.what, found.verdict, found.how) == ("trick", "does trick", verdict, how)
    assert found.good is (verdict != "MISSED")


@pytest.mark.parametrize(
    ("twin", "verdict"),
    [
        ({}, "passed"),
        ({"quality": "NOISY"}, "passed"),
        ({"quality": "SUSPECT"}, "REFUSED"),
        (WRONG, "REFUSED"),
        (ABSENT, "not run"),
    ],
)
def test_a_twin_passes_unless_something_is_held_against_it(twin: dict[str, Any], verdict: str) -> None:
    found = row(WRONG, twin)
    assert (found.twin, found.twin_verdict) == ("honest", verdict)
    assert found.good is (verdict != "REFUSED")


def test_records_of_other_suites_are_no_cheats() -> None:
    assert redteam.matrix([record()]) == []


class Noting:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_only_a_twin_that_a_busy_machine_may_have_refused_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    calibrated: list[str] = []

    class Unit:
        def __init__(self, name: str) -> None:
            self.benchmark = type("B", (), {"name": f"{REDTEAM}/{name}"})
            self.case = {"device": "cpu"}

    def run(plan: Any, store: Any, progress: Any) -> list[Record]:
        asked.append([unit.benchmark.name.split("/")[1] for unit in plan.units])
        first = len(asked) == 1
        suspect = {"quality": Quality.SUSPECT, "quality_reason": "faster than the machine can"} if first else {}
        twins = {"busy": suspect, "killed": {"outcome": Outcome.OOM_HOST} if first else {}, "wrong": WRONG, "fine": {}}
        return [one for name in asked[-1] for one in pair(name, {} if name == "fine" else WRONG, twins[name])]

    monkeypatch.setattr("aieng_bench.measure.run", run)
    monkeypatch.setattr("aieng_bench.ceilings.calibrate", lambda device, quick, threads: calibrated.append(device))
    units: Any = tuple(map(Unit, ("busy", "killed", "wrong", "fine")))
    progress: Any = Noting()
    store: Any = None
    rows = redteam.challenge(Plan(units, True, 1, 1, 1.0), store, progress)
    assert asked == [["busy", "killed", "wrong", "fine"], ["busy", "killed"]]
    assert calibrated == ["cpu"]
    assert [(r.name, r.verdict, r.twin_verdict) for r in rows] == [
        ("busy", "caught", "passed"),
        ("fine", "MISSED", "passed"),
        ("killed", "caught", "passed"),
        ("wrong", "caught", "REFUSED"),
    ]
    assert "busy: SUSPECT: faster than the machine can; killed: OOM_HOST" in progress.notes[0]


def corpus(*names: str) -> dict[str, KernelBenchmark]:
    def nothing(*_: Any) -> Any:
        return {}

    points = {"cpu": grid(dtype="float32")}
    made = {}
    for name in names:
        made[f"{REDTEAM}/{name}"] = KernelBenchmark(
            f"{REDTEAM}/{name}", "", "", "honest", points, points, inputs=nothing, oracle=nothing, framework=nothing, work=nothing
        )
    return made


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """``redteam`` with a corpus of two, and records instead of measuring: those under ``pairs``."""
    made: dict[str, Any] = {"asked": []}

    def run(plan: Any, store: Any, progress: Any) -> list[Record]:
        made["asked"] = [unit.benchmark.name for unit in plan.units]
        return [one.model_copy(update={"run": store.run}) for one in made["pairs"]]

    monkeypatch.setattr(registry, "cheats", lambda: corpus("one", "two"))
    monkeypatch.setattr(registry, "cheats_left_out", dict)
    monkeypatch.setattr("aieng_bench.measure.run", run)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.mark.parametrize(
    ("changes", "code"), [((WRONG, {}), 0), ((ABSENT, ABSENT), 0), (({}, {}), 2), ((WRONG, WRONG), 2)], ids=str
)
def test_the_exit_code_says_whether_all_is_well(command: dict[str, Any], changes: tuple[Any, Any], code: int) -> None:
    command["pairs"] = pair("one", *changes)
    done = runner.invoke(app, ["redteam"])
    assert done.exit_code == code, done.output
    assert command["asked"] == ["redteam/one", "redteam/two"]
    assert "1 cheats: " in done.output
    assert "does one" in done.output


def test_json_is_all_that_stdout_holds(command: dict[str, Any]) -> None:
    command["pairs"] = pair("one", WRONG)
    done = runner.invoke(app, ["redteam", "o*", "--json", "--out", "here"])
    (found,) = json.loads(done.stdout)["rows"]
    assert (found["verdict"], found["how"], found["twin_verdict"]) == ("caught", "INCORRECT: out is wrong", "passed")
    assert command["asked"] == ["redteam/one"]
    assert json.loads(Path("here/run.json").read_text())["command"] == "aieng-bench redteam 'o*'"


def test_a_pattern_that_names_no_cheat_is_an_error_with_the_nearest(command: dict[str, Any]) -> None:
    done = runner.invoke(app, ["redteam", "tow"])
    assert done.exit_code == 3
    assert "nearest: two" in done.stderr


def test_a_broken_corpus_is_no_clean_bill(command: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "cheats_left_out", lambda: {"some.module": "ImportError: gone"})
    done = runner.invoke(app, ["redteam"])
    assert done.exit_code == 2
    assert "some.module: ImportError: gone" in done.stderr


def test_the_page_shows_the_matrix_instead_of_a_leaderboard(tmp_path: Path) -> None:
    write([*pair(HOSTILE, WRONG), *pair("waived", {}, waived=HOSTILE), *pair("missed", {})], tmp_path, "Site")
    html, markdown = (tmp_path / "index.html").read_text(), (tmp_path / "index.md").read_text()
    assert "The red team&#39;s 3 cheats: 1 caught, 1 waived, 1 MISSED; 3 of 3 honest twins passed." in html
    assert 'id="redteam"' in html
    for absent in ("In short", 'class="board', "speed-up", "<img src=x"):
        assert absent not in html
    assert "## Red team" in markdown
    assert "In short" not in markdown
    assert "@team" not in markdown
    assert html.count("<tr>") == 1 + 3


def test_other_runs_have_no_matrix(tmp_path: Path) -> None:
    write([record()], tmp_path, "Site")
    assert 'id="redteam"' not in (tmp_path / "index.html").read_text()
    assert "Red team" not in (tmp_path / "index.md").read_text()
