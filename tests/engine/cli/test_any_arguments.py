"""The command line under any arguments and any records: a documented exit code, and never a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import aieng_bench.ceilings
import aieng_bench.measure
from aieng_bench import report
from aieng_bench.cli import app
from aieng_bench.record import Record
from aieng_bench.record.reading import line
from aieng_bench.summary import groups
from tests.engine.made import record
from tests.engine.strategies import HOSTILE, contradictory

runner = CliRunner()
DOCUMENTED = {0, 1, 2, 3, 4, 130}
"""Done; a regression; something failed, or the arguments are no command; nothing matched; could not; interrupted."""
COMMANDS = ("ls", "run", "show", "compare", "report", "publish", "verify", "calibrate", "doctor")
OPTIONS = ("--quick", "--device", "--dtype", "--contender", "--out", "--resume", "--dry-run", "--json", "--cross-hardware")
OPTIONS += ("--markdown", "--title", "--results", "--help", "-h", "--version", "--", "-", "--out=", "--device=cpu")
NAMES = ("*", "attention", "attention/forward", "cpu", "cuda", "latest", "torch_sdpa", "float32", ".", "..", "")
FILES = ("good.jsonl", "other.jsonl", "torn.jsonl", "theirs.json", "folder", "run", "missing")
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# No file of this name is reached: nothing here may write outside its own folder.
strange = st.text(st.characters(exclude_characters="/\0"), max_size=12) | st.sampled_from([h for h in HOSTILE if "/" not in h])
words = st.sampled_from((*OPTIONS, *NAMES, *FILES)) | strange


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A current folder, deep enough that ``..`` is ours too, in which nothing is measured."""
    folder = tmp_path_factory.mktemp("any") / "outer/inner"
    (folder / "folder").mkdir(parents=True)
    (folder / "run/records").mkdir(parents=True)
    (folder / "run/run.json").write_text('{"schema_version": 1}')
    (folder / "good.jsonl").write_text(line(record()) + "\n" + line(record("torch", "baseline")) + "\n")
    (folder / "other.jsonl").write_text(line(record(latency=[[50.0, 51.0, 49.0]] * 3, created="2026-01-01T00:00:00Z")) + "\n")
    (folder / "torn.jsonl").write_text(line(record())[:300])
    (folder / "theirs.json").write_text(json.dumps({"benchmarks": [{"stats": {"data": [1.0]}}]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(aieng_bench.measure, "run", lambda *_, **__: [])
        patch.setattr(aieng_bench.ceilings, "calibrate", unmeasured)
        yield folder


def unmeasured(*_: Any) -> Any:
    raise RuntimeError("nothing is measured in a test")


@given(st.sampled_from(COMMANDS), st.lists(words, max_size=5))
@settings(SETTINGS, max_examples=250)
def test_any_arguments_end_with_a_documented_code(place: Path, command: str, arguments: list[str]) -> None:
    done = runner.invoke(app, [command, *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), (arguments, done.exception)
    assert done.exit_code in DOCUMENTED
    assert "Traceback" not in done.output


@given(st.lists(strange, max_size=3))
@settings(SETTINGS, max_examples=50)
def test_any_words_are_no_command(place: Path, arguments: list[str]) -> None:
    done = runner.invoke(app, arguments)
    assert isinstance(done.exception, SystemExit)
    assert done.exit_code == (2 if arguments != ["-h"] else 0)


@given(st.lists(contradictory(), min_size=1, max_size=4))
@settings(SETTINGS, max_examples=100)
def test_any_valid_records_are_shown_and_compared(place: Path, made: list[Record]) -> None:
    """Records that contradict themselves, with names that attack the terminal or a comment."""
    Path("odd.jsonl").write_text("".join(line(one) + "\n" for one in made), encoding="utf-8", newline="")
    for arguments in (["show", "odd.jsonl"], ["compare", "odd.jsonl", "odd.jsonl", "--markdown", "odd.md"]):
        done = runner.invoke(app, arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert done.exit_code in DOCUMENTED
        assert not set("\x1b\x07\u202e") & set(done.output)
    assert not set("\x1b\x07\u202e") & set(Path("odd.md").read_text(encoding="utf-8"))


@given(st.lists(contradictory(), min_size=1, max_size=3))
@settings(SETTINGS, max_examples=15)
def test_any_valid_records_make_a_page(place: Path, made: list[Record]) -> None:
    groups(made)
    report.write(made, Path("pages"), "any")
