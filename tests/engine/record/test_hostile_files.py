"""Files that another version, a broken disk or an attacker made: named, set aside or refused, and never a traceback or a wait."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aieng_bench.cli import app
from aieng_bench.cli.running import open_store
from aieng_bench.record import reading
from aieng_bench.record.publish import verify
from aieng_bench.record.reading import Broken, Newer, line, load
from aieng_bench.record.store import RunStore
from tests.engine.made import ENVIRONMENT, record

runner = CliRunner()
ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run of two records."""
    made = RunStore.create(tmp_path / "run", command="aieng-bench run '*'", asked={}, environment=ENVIRONMENT)
    for name in ("first", "second"):
        made.write(record(name, run=made.run))
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def from_the_future(file: Path) -> None:
    content = json.loads(file.read_text())
    (content.get("record") or content)["schema_version"] = 3
    content["of_the_future"] = True
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("what", ["run.json", "records/*first*"])
def test_what_is_newer_is_refused_and_untouched(store: RunStore, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("aieng_bench.measure.run")
    (file,) = store.folder.glob(what)
    from_the_future(file)
    before = contents(store.folder)
    done = runner.invoke(app, ["run", "*", "--device", "cpu", "--resume", "--out", str(store.folder)])
    assert done.exit_code == 4
    newest = 1 if what == "run.json" else 2
    assert f"schema_version: 3 is newer than this aieng-bench reads ({newest})" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert contents(store.folder) == before


def test_a_newer_record_is_left_out_by_name_and_the_rest_is_shown(store: RunStore) -> None:
    (file,) = (store.folder / "records").glob("*first*")
    from_the_future(file)
    (problem,) = store.load().broken
    assert isinstance(problem, Newer)
    done = runner.invoke(app, ["show", str(store.folder)])
    assert done.exit_code == 0
    assert "second" in done.stdout
    assert "is newer than" in done.stderr


@pytest.mark.parametrize("damage", ["torn", "empty", "flipped", "folder"])
def test_resume_names_a_broken_record_and_sets_it_aside(store: RunStore, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    (file,) = (store.folder / "records").glob("*first*")
    whole = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        file.write_bytes({"torn": whole[:200], "empty": b"", "flipped": whole.replace(b"101.0", b"101.5")}[damage])
    again = open_store(store.folder, resume=True, words=[])
    assert str(file) in capsys.readouterr().err
    assert not file.exists()
    assert Path(f"{file}.broken").exists()
    assert [key[2] for key in again.finished()] == ["second"]
    again.write(record("first", run=again.run))
    assert len(again.finished()) == 2
    assert not again.load().broken
    assert Path(f"{file}.broken").exists()


def test_a_run_of_which_nothing_is_broken_is_opened_in_silence(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(open_store(store.folder, resume=True, words=[]).finished()) == 2
    assert capsys.readouterr().err == ""


def test_a_pipe_among_the_records_is_named_and_not_waited_for(store: RunStore) -> None:
    os.mkfifo(store.folder / "records/pipe.json")
    loaded = store.load()
    assert len(loaded.records) == 2
    assert ["not a regular file" in str(problem) for problem in loaded.broken] == [True]


def test_a_file_beyond_all_measure_is_not_read(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with (store.folder / "records/bomb.json").open("w") as bomb:
        bomb.truncate(10 * 2**30)  # takes no room on the disk
    loaded = store.load()
    assert len(loaded.records) == 2
    assert "the most that is read is 268435456" in str(loaded.broken[0])
    monkeypatch.setattr(reading, "LARGEST_FILE", 100)
    assert not store.load().records


def test_a_published_link_or_a_cell_published_twice_does_not_verify(store: RunStore, tmp_path: Path) -> None:
    file = tmp_path / "results/2025.jsonl"
    file.parent.mkdir()
    file.write_text("".join(line(one) + "\n" for one in store.load().records))
    assert verify(file.parent) == []
    (file.parent / "link.jsonl").symlink_to("/etc/passwd")
    assert [problem.reason for problem in verify(file.parent)] == ["is a link; what is published is a file of its own"]
    file.write_text(file.read_text() * 2)
    assert [problem.reason.split(" of the same cell")[0] for problem in verify(file)] == ["2 records", "2 records"]


@pytest.mark.parametrize("command", [["show"], ["publish"], ["report", "--out", "pages"], ["compare", "{0}"]])
def test_a_foreign_file_is_one_line_and_exit_four_whatever_reads_it(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("foreign.json").write_text('{"benchmarks": [{"stats": {"data": [1e999]}}]}')
    done = runner.invoke(app, [word.format("foreign.json") for word in [command[0], "foreign.json", *command[1:]]])
    assert (done.exit_code, done.stdout) == (4, "")
    assert done.stderr == "aieng-bench: foreign.json: $.benchmarks[0].stats.data[0]: not a finite number\n"


def test_a_manifest_that_is_not_an_object_is_broken(store: RunStore) -> None:
    for text in ("[]", "1", '"x"', "null"):
        (store.folder / "run.json").write_text(text)
        with pytest.raises(Broken, match=r"run\.json: \$: "):
            RunStore.open(store.folder)


def test_records_that_were_ever_published_still_load() -> None:
    published = load(ROOT / "results")
    assert published.records
    assert not published.broken


UNSAFE = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
LOADERS = {"torch.load", "numpy.load", "np.load", "yaml.load", "eval", "exec"}


@pytest.mark.parametrize("package", ["aieng_bench", "suites/aieng_suites"])
def test_nothing_reads_a_format_that_runs_code(package: str) -> None:
    """Nobody imports pickle or its like, nor calls what unpickles or evaluates."""
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = {node.module} if isinstance(node, ast.ImportFrom) else {alias.name for alias in node.names}
                assert not UNSAFE & {str(module).split(".")[0] for module in modules}, file
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in LOADERS, (file, node.lineno)
