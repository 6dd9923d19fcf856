"""The commands that list and read: in process, and as a real command where start-up is the point."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aieng_bench.cli import app
from aieng_bench.record.reading import line
from aieng_bench.record.schema import ContenderInfo
from tests.engine.made import ENVIRONMENT, record

runner = CliRunner()
ROOT = Path(__file__).parents[3]
MAIN = "from aieng_bench.cli import main; main()"


def command(*arguments, code=MAIN):
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, cwd=ROOT)


def source(path: Path, *records) -> str:
    path.write_text("".join(line(one) + "\n" for one in records), encoding="utf-8")
    return str(path)


def test_ls_imports_no_torch():
    heavy = "{'torch', 'triton', 'scipy', 'pandas', 'plotly', 'diffusers', 'sklearn'}"
    code = f"import sys, aieng_bench.cli as c\ntry: c.main()\nfinally: assert not {heavy} & set(sys.modules)"
    done = command("ls", code=code)
    assert done.returncode == 0, done.stderr
    assert "benchmarks" in done.stdout


def test_ls_as_json_tells_all_of_every_benchmark():
    listed = json.loads(command("ls", "--json").stdout)
    assert all(b["baseline"] in [c["name"] for c in b["contenders"]] for b in listed)
    assert all(b["cases"]["cpu"]["quick"] for b in listed)


def test_ls_of_nothing_is_one_line_on_stderr():
    done = command("ls", "zzzattention")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("aieng-bench: no benchmark matches 'zzzattention'")
    assert len(done.stderr.splitlines()) == 1


def test_a_suite_that_cannot_be_imported_is_named_and_hides_no_other(tmp_path: Path) -> None:
    """A stranger's distribution: one good module, one that lacks a library, one whose name is taken, one package that raises."""
    suite, absent = tmp_path / "stranger", tmp_path / "absent"
    suite.mkdir()
    absent.mkdir()
    (absent / "__init__.py").write_text("1 / 0")
    (suite / "__init__.py").touch()
    (suite / "lacking.py").write_text("import no_such_library")
    good = (ROOT / "tests/engine/measure/toy_suite/scale.py").read_text()
    (suite / "scale.py").write_text(good.replace("toy_suite", "stranger"))
    (suite / "taken.py").write_text("from stranger.scale import benchmark")
    metadata = tmp_path / "stranger-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[aieng_bench.suites]\nstranger = stranger\nabsent = absent\n")
    done = command("ls", code=f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {MAIN}")
    assert done.returncode == 0, done.stderr
    assert "attention/forward" in done.stdout
    assert "of suite stranger" in done.stdout
    lines = done.stderr.splitlines()
    assert lines[0] == "aieng-bench: left out absent: ZeroDivisionError: division by zero"
    assert lines[1] == "aieng-bench: left out stranger.lacking: ModuleNotFoundError: No module named 'no_such_library'"
    assert lines[2].startswith("aieng-bench: left out stranger.taken: ValueError: benchmark ")
    assert lines[2].endswith("is declared in stranger.scale already")
    assert len(lines) == 3


def test_a_closed_pipe_is_no_traceback():
    shell = f"{sys.executable} -c '{MAIN}' ls --json | head -c 1"
    done = subprocess.run(shell, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "["
    assert "Traceback" not in done.stderr


def test_run_starts_where_the_report_libraries_are_absent():
    absent = "import sys\nfor name in ('plotly', 'pandas', 'jinja2', 'scipy'): sys.modules[name] = None\n"
    done = command("run", "*", "--quick", "--dry-run", code=absent + MAIN)
    assert done.returncode == 0, done.stderr


def test_doctor_says_why_for_every_contender():
    done = command("doctor")
    assert done.returncode == 0, done.stderr
    for benchmark in json.loads(command("ls", "--json").stdout):
        assert benchmark["name"] in done.stdout
        for contender in benchmark["contenders"]:
            assert contender["name"] in done.stdout


def test_show_reads_a_published_file_and_names_what_is_broken(tmp_path):
    file = source(tmp_path / "a.jsonl", record(), record("torch", "baseline", [[200.0, 201.0, 199.0]] * 3))
    with Path(file).open("a") as out:
        out.write('{"record": NaN}\n')
    done = runner.invoke(app, ["show", file])
    assert done.exit_code == 0
    assert "2.00" in done.stdout
    assert f"left out {file}:3: $.record: not a finite number" in done.stderr


def test_hostile_names_are_harmless_in_the_terminal(tmp_path):
    names = ["\x1b[31mred\x1b]0;title\x07", "[bold]markup[/bold]", "a\u202eb", "new\nline", "[link=http://x]y[/link]"]
    environment = ENVIRONMENT.model_copy(update={"machine": "\x1b[2J"})
    made = [record(contender=ContenderInfo(name=n, kind="ours"), environment=environment, case={n: n, "device": n}) for n in names]
    made += [record(contender=ContenderInfo(name=n, kind="ours"), outcome="ERROR", outcome_reason=n, log=n) for n in names]
    done = runner.invoke(app, ["show", source(tmp_path / "a.jsonl", *made)], color=True)
    assert done.exit_code == 0
    assert "[bold]markup[/bold]" in done.stdout
    assert not any(c in done.stdout for c in "\x1b\x07\u202e")


@pytest.mark.parametrize(
    "arguments",
    [["show", "nothing"], ["compare", "nothing", "nothing"], ["report", "nothing", "--out", "x"], ["publish", "nothing"]],
)
def test_a_source_that_is_not_there_is_exit_three(arguments):
    done = runner.invoke(app, arguments)
    assert done.exit_code == 3
    assert "no run or file 'nothing'" in done.stderr


def test_publish_then_verify_then_an_edited_number(tmp_path):
    results = tmp_path / "results"
    run = source(tmp_path / "run.jsonl", record(), record("torch", "baseline", [[200.0]] * 3))
    done = runner.invoke(app, ["publish", run, "--results", str(results)])
    assert done.exit_code == 0, done.output
    file = results / "test-cpu-2c-8gib" / "2025-01-01-0123456789.jsonl"
    assert str(file) in done.stdout
    assert runner.invoke(app, ["verify", str(file)]).exit_code == 0
    assert runner.invoke(app, ["verify", str(results)]).exit_code == 0
    assert runner.invoke(app, ["publish", run, "--results", str(results)]).exit_code == 0

    file.write_text(file.read_text().replace("200.0", "150.0"))
    broken = runner.invoke(app, ["verify", str(file)])
    assert broken.exit_code == 2
    assert f"{file}:2: $.sha256: the content does not match" in broken.stderr
    changed = runner.invoke(app, ["publish", run, "--results", str(results)])
    assert changed.exit_code == 4
    assert "never changed" in changed.stderr


def test_a_read_only_disk_is_one_line_and_exit_four(tmp_path, monkeypatch):
    run = source(tmp_path / "run.jsonl", record())

    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    done = runner.invoke(app, ["publish", run, "--results", "results"])
    assert done.exit_code == 4
    assert done.stderr == "aieng-bench: Read-only file system: results/test-cpu-2c-8gib\n"
