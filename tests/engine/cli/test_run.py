"""``run`` as its user sees it; what measures is replaced by a function that makes records up."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from aieng_bench import registry
from aieng_bench.cli import app
from aieng_bench.cli.progress import Bars, PlainLines
from aieng_bench.define import Contender, KernelBenchmark, Study, grid
from aieng_bench.measure.cell import command
from aieng_bench.measure.plan import Unit, make_plan
from aieng_bench.record.schema import ContenderInfo
from aieng_bench.record.store import RunStore
from tests.engine.made import DEFINITION, record

runner = CliRunner()


def nothing(*_):
    return {}


def benchmark(name="attention/forward"):
    made = KernelBenchmark(
        name=name,
        title="Attention, forward",
        summary="",
        baseline="torch",
        full={"cpu": grid(S=[512, 1024], dtype=["float32", "bfloat16"])},
        quick={"cpu": grid(S=512, dtype=["float32", "bfloat16"])},
        inputs=nothing,
        oracle=nothing,
        framework=nothing,
        work=nothing,
    )
    for contender, kind in (("torch", "baseline"), ("ours", "ours"), ("gpu", "ours")):
        made.add(Contender(contender, kind, nothing, devices=("cuda",) if contender == "gpu" else ("cpu", "cuda")))
    made.suite = "kernels"
    return made


@pytest.fixture(autouse=True)
def suite(monkeypatch, tmp_path):
    found = {b.name: b for b in (benchmark(), benchmark("diffusion/ddim"))}
    monkeypatch.setattr(registry, "benchmarks", lambda: found)
    monkeypatch.chdir(tmp_path)


def measured(unit: Unit, run: str, **changes):
    made = []
    for contender in unit.contenders:
        info = {"contender": ContenderInfo(name=contender.name, kind=contender.kind), "case": dict(unit.case), "run": run}
        info["definition"] = DEFINITION.model_copy(update={"benchmark": unit.benchmark.name})
        if contender.name == "gpu":
            made.append(record(latency=[], outcome="UNSUPPORTED", outcome_reason="runs on cuda; this case is on cpu", **info))
        else:
            made.append(record(latency=[[20.0 if contender.name == "torch" else 10.0] * 3] * 3, **info, **changes))
    return made


def fake(monkeypatch, stop_after=None, **changes):
    """Replace the measuring; returns the calls made."""
    calls = []

    def run(plan, store, progress, *, resume=False):
        calls.append((plan, resume))
        progress.started(len(plan.units))
        for number, unit in enumerate(plan.units):
            if number == stop_after:
                raise KeyboardInterrupt
            progress.unit_started(unit)
            progress.step(unit, "launch 1 of 2", 0.5)
            progress.note("a worker \x1b[2J crashed")
            made = measured(unit, store.run, **changes)
            for one in made:
                store.write(one)
            progress.unit_finished(unit, made)
        return []

    monkeypatch.setattr("aieng_bench.measure.run", run, raising=False)
    return calls


def test_a_run_shows_progress_tables_summary_path_and_the_next_command(monkeypatch):
    fake(monkeypatch)
    done = runner.invoke(app, ["run", "attention", "--quick", "--out", "here"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert any(line.startswith("[0/2") and "launch 1 of 2" in line for line in lines)
    assert any("ours" in line and "2.00" in line for line in lines)
    assert any("gpu  UNSUPPORTED: runs on cuda; this case is on cpu" in line for line in lines)
    assert "4 ranked, 2 UNSUPPORTED" in lines[-2]
    assert "the run is here" in lines[-2]
    assert lines[-1] == "next: aieng-bench report here --out page"
    assert "\x1b" not in done.output
    assert len(RunStore.open(Path("here")).finished()) == 6


def test_a_run_without_a_folder_goes_under_runs_and_is_the_latest(monkeypatch):
    fake(monkeypatch)
    assert runner.invoke(app, ["run", "attention", "--quick"]).exit_code == 0
    (folder,) = Path("runs").iterdir()
    shown = runner.invoke(app, ["show", "latest"])
    assert shown.exit_code == 0
    assert runner.invoke(app, ["show", folder.name]).output == shown.output


def test_json_is_all_that_stdout_holds(monkeypatch):
    fake(monkeypatch)
    done = runner.invoke(app, ["run", "attention", "--quick", "--json"])
    content = json.loads(done.stdout)
    ours = content["groups"][0]["rows"][0]
    assert (ours["contender"], ours["rank"], ours["speedup"]["value"]) == ("ours", 1, 2.0)
    assert "launch 1 of 2" in done.stderr


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(monkeypatch):
    fake(monkeypatch, stop_after=1)
    done = runner.invoke(app, ["run", "attention", "--quick", "--out", "here"])
    assert done.exit_code == 130
    assert "interrupted after 1 of 2 cases" in done.output
    assert done.output.splitlines()[-1] == "next: aieng-bench run attention --quick --device cpu --resume --out here"
    assert len(RunStore.open(Path("here")).finished()) == 3


def test_resume_goes_on_and_starts_where_there_is_nothing(monkeypatch):
    calls = fake(monkeypatch)
    arguments = ["run", "attention", "--quick", "--out", "here", "--resume"]
    assert runner.invoke(app, arguments).exit_code == 0
    run = RunStore.open(Path("here")).run
    assert runner.invoke(app, arguments).exit_code == 0
    assert RunStore.open(Path("here")).run == run
    assert [resume for _, resume in calls] == [True, True]
    refused = runner.invoke(app, arguments[:-1])
    assert refused.exit_code == 4
    assert "continue it with --resume" in refused.stderr


def test_resume_without_a_run_is_an_error():
    done = runner.invoke(app, ["run", "attention", "--resume"])
    assert (done.exit_code, done.stderr) == (3, "aieng-bench: there is no run under runs/ yet\n")


def test_a_failed_or_incorrect_cell_is_exit_two(monkeypatch):
    fake(monkeypatch, check={"verdict": "INCORRECT", "reason": "out: zeros"})
    done = runner.invoke(app, ["run", "attention", "--quick"])
    assert done.exit_code == 2
    assert "INCORRECT: out: zeros" in done.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["atention"], "no benchmark matches 'atention'; nearest: attention"),
        (["attention", "--contender", "their"], "no contender named 'their'; there are gpu, ours, torch"),
        (["attention", "--dtype", "int4"], "nothing to run on device 'cpu' with dtype int4"),
        (["attention[S=7]"], "attention[S=7]: no case has S=7; there are 512, 1024"),
        (["attention[S=1024]", "--quick"], "attention[S=1024]: no quick case has S=1024; there are 512"),
        (["attention", "attention[T=7]"], "attention[T=7]: no case has an axis 'T'; there are S, dtype, device"),
        (["attention[S=512]", "--dtype", "int4"], "attention[S=512]: no case on cpu has all of that, and the dtype"),
        (["attention", "--device", "tpu"], "--device tpu: there are cpu and cuda"),
    ],
)
def test_what_matches_nothing_is_exit_three_and_one_line(arguments, reason):
    done = runner.invoke(app, ["run", *arguments])
    assert done.exit_code == 3
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not Path("runs").exists()


def planned(*arguments: str) -> list[str]:
    done = runner.invoke(app, ["run", *arguments, "--dry-run", "--json"])
    assert done.exit_code == 0, done.stderr
    return [f"{cell['benchmark']} {cell['case']}" for cell in json.loads(done.stdout)["cases"]]


def test_brackets_choose_cases():
    one = ["attention/forward S=1024,dtype=bfloat16,device=cpu"]
    assert planned("attention/forward[S=1024,dtype=bfloat16]") == one
    assert planned("*[S=1024,dtype=bfloat16]") == [*one, "diffusion/ddim S=1024,dtype=bfloat16,device=cpu"]
    assert planned("diffusion/ddim[S=512]", "attention[dtype=bfloat16]", "--dtype", "bfloat16") == [
        "diffusion/ddim S=512,dtype=bfloat16,device=cpu",
        "attention/forward S=512,dtype=bfloat16,device=cpu",
        one[0],
    ]
    assert planned("[ad]*/*") == planned("*")  # what has no = in it is a set of letters


def test_a_cell_s_command_measures_that_case_alone():
    declared = benchmark()
    for case in declared.cases("cpu"):
        words = shlex.split(command(declared, declared.contenders["ours"], case, quick=False))
        assert planned(*words[2:]) == [f"{declared.name} {case.id}"]


def test_before_it_starts_a_run_says_what_its_studies_take(monkeypatch):
    study = Study(
        name="vision/digits",
        title="digits",
        summary="",
        baseline="torch",
        full={"cpu": grid(size=[1, 2])},
        quick={"cpu": grid(size=1)},
        metrics=(),
        minutes=80.0,
        quick_minutes=0.5,
    )
    study.add(Contender("torch", "baseline", nothing))
    monkeypatch.setattr(registry, "benchmarks", lambda: {b.name: b for b in (benchmark(), study)})
    told = {
        "*": "6 cases, 5 launches of each contender of a kernel, seeds of a study's; the studies take about 1 h 20 min",
        "vision[size=1]": "about 40 min 0 s on two cores",
        "vision --quick": "about 30 s on two cores",
    }
    for words, expected in told.items():
        done = runner.invoke(app, ["run", *words.split(), "--dry-run"])
        assert expected in " ".join(done.output.split()), done.output
    assert "about" not in runner.invoke(app, ["run", "attention", "--dry-run"]).output


def test_a_dry_run_measures_nothing(monkeypatch):
    calls = fake(monkeypatch)
    done = runner.invoke(app, ["run", "attention", "--dry-run", "--contender", "ours", "--dtype", "float32"])
    assert done.exit_code == 0
    assert "S=512,dtype=float32,device=cpu  torch, ours" in done.output
    assert not calls
    assert not Path("runs").exists()


def test_a_full_disk_is_one_line_and_exit_four(monkeypatch):
    def full(self, record):
        raise OSError(28, "No space left on device", "runs/x/records/a.json")

    fake(monkeypatch)
    monkeypatch.setattr(RunStore, "write", full)
    done = runner.invoke(app, ["run", "attention", "--quick"])
    assert done.exit_code == 4
    assert done.stderr == "aieng-bench: No space left on device: runs/x/records/a.json\n"


def test_a_bug_shows_its_traceback(monkeypatch):
    monkeypatch.setattr("aieng_bench.measure.run", lambda *a, **k: {}["oops"], raising=False)
    assert isinstance(runner.invoke(app, ["run", "attention", "--quick"]).exception, KeyError)


def test_plain_lines_are_few():
    plan = make_plan([benchmark()], device="cpu", quick=True)
    log, now = io.StringIO(), [0.0]
    lines = PlainLines(Console(file=log, width=120), show=False, clock=lambda: now[0])
    lines.started(2)
    for tenth in range(100):
        now[0] = tenth / 10
        lines.step(plan.units[0], "launch 1 of 2", tenth / 100)
    assert len(log.getvalue().splitlines()) == 3


def test_bars_fit_eighty_columns_and_tables_stay_above_them():
    plan, screen = make_plan([benchmark()], device="cpu", quick=True), io.StringIO()
    with Bars(Console(file=screen, width=80, force_terminal=True, color_system=None), show=True) as bars:
        bars.started(2)
        bars.step(plan.units[0], "launch 1 of 2 " + "and so on " * 30, 0.5)
        bars._progress.refresh()
        bars.unit_finished(plan.units[0], measured(plan.units[0], "run"))
        bars._progress.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\n", screen.getvalue())
    assert "0/2" in shown
    assert "25 %" in shown
    assert "launch 1 of 2" in shown
    assert "1/2" in shown
    assert "50 %" in shown
    assert "ours" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_plain_lines_do_not_follow_every_round():
    plan = make_plan([benchmark()], device="cpu", quick=True)
    log, now = io.StringIO(), [0.0]
    lines = PlainLines(Console(file=log, width=120), show=False, clock=lambda: now[0])
    for tenth in range(100):
        now[0] = tenth / 10
        lines.step(plan.units[0], f"round {tenth}", tenth / 100)
    lines.unit_finished(plan.units[0], [])
    assert len(log.getvalue().splitlines()) <= 11
    assert log.getvalue().splitlines()[-1].endswith("finished")
