"""What is read from a stranger's artifact, and what is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aieng_bench.ci import artifact
from aieng_bench.cli import app
from aieng_bench.cli.interleaving import LONGEST_COMMENT, MARK
from aieng_bench.record.reading import Broken, line
from aieng_bench.record.schema import ContenderInfo, Record
from tests.engine.made import DEFINITION, ENVIRONMENT, record

runner = CliRunner()
COMMIT = str(ENVIRONMENT.commit)
FAST, SLOW = [[100.0, 101.0, 99.0]] * 8, [[150.0, 151.0, 149.0]] * 8


def archive(path: Path, members: list[tuple[str, str | Record]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members:
            made.writestr(name, content if isinstance(content, str) else line(content))
    return path


def two(base: Record, head: Record) -> list[tuple[str, str | Record]]:
    return [("base/records/a.json", base), ("head/records/a.json", head)]


def test_a_comment_is_made_of_the_records(tmp_path: Path) -> None:
    extra = [("base/run.json", "{"), ("perf.md", "@everyone"), ("../../x/base/records/a.json", "{"), ("run.sh", "rm -rf /")]
    made = archive(tmp_path / "a.zip", [*two(record(latency=FAST), record(latency=SLOW)), *extra])
    done = runner.invoke(app, ["comment", str(made), "--commit", COMMIT])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{MARK}\n")
    assert "**1 SLOWER**" in done.stdout
    assert "everyone" not in done.stdout
    assert list(tmp_path.iterdir()) == [made]


def test_the_second_look_counts_where_the_first_was_undecided(tmp_path: Path) -> None:
    wild = [[100.0 + 30 * (i % 3), 100.0, 100.0 + 20 * (i % 2)] for i in range(8)]
    wild = [[value * (0.7 if i % 2 else 1.4) for value in launch] for i, launch in enumerate(wild)]
    again = [("again/base/records/a.json", record(latency=FAST)), ("again/head/records/a.json", record(latency=SLOW))]
    for first, verdict in ((wild, "SLOWER"), (FAST, "SAME")):
        made = archive(tmp_path / "a.zip", [*two(record(latency=FAST), record(latency=first)), *again])
        assert [str(change.verdict) for change in artifact.read(made).changes] == [verdict]
    undecided = archive(tmp_path / "a.zip", two(record(latency=FAST), record(latency=wild)))
    assert [str(change.verdict) for change in artifact.read(undecided).changes] == ["UNDECIDED"]


def test_hostile_names_are_inert_and_long_comments_are_cut(tmp_path: Path) -> None:
    hostile = ContenderInfo(name="@team <img src=x> | `x` [l](javascript:1)", kind="ours")
    cases = [{"n": i, "device": "cpu"} for i in range(700)]
    members = []
    for side, latency in (("base", FAST), ("head", SLOW)):
        members += [(f"{side}/records/{i}.json", record(contender=hostile, latency=latency, case=c)) for i, c in enumerate(cases)]
    done = runner.invoke(app, ["comment", str(archive(tmp_path / "a.zip", members))])
    assert done.exit_code == 0
    assert len(done.stdout) <= LONGEST_COMMENT + 100
    assert "`@team <img src=x> ¦ 'x' [l](javascript:1)`" in done.stdout
    assert done.stdout.rstrip().endswith("the rest is in the artifact")


def edited(**changes: object) -> Record:
    metric = DEFINITION.metrics[0].model_copy(update=changes)
    return record(definition=DEFINITION.model_copy(update={"metrics": (metric,)}))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("base/records/a.json", line(record()).replace("100.0", "1.0"))], "does not match its hash"),
        ([("base/records/a.json", '{"record": NaN}')], "not a finite number"),
        ([("base/records/a.json", "x" * (artifact.MOST_OF_A_RECORD + 1))], "too large"),
        ([(f"{i}", "") for i in range(artifact.MOST_MEMBERS + 1)], "more than 4000 members"),
        (two(record(), edited(unit="<b>@team")), "a unit that is none"),
        (two(record(), record(environment=ENVIRONMENT.model_copy(update={"commit": "f" * 40}))), "another commit than"),
    ],
)
def test_what_ci_does_not_write_is_refused(members: list[tuple[str, str | Record]], reason: str, tmp_path: Path) -> None:
    made = archive(tmp_path / "a.zip", members)
    with pytest.raises(Broken, match=reason):
        artifact.read(made, COMMIT)
    done = runner.invoke(app, ["comment", str(made), "--commit", COMMIT])
    assert (done.exit_code, done.stdout) == (4, "")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="two of one name"):
        artifact.read(archive(tmp_path / "a.zip", [("x", "a"), ("x", "b")]))


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as made:
        made.writestr("base/records/a.json", line(record()))
    content = whole.getvalue()
    for damaged in (b"", b"PK", content[:-20], content[:60] + b"\0" * 40 + content[100:]):
        (tmp_path / "a.zip").write_bytes(damaged)
        with pytest.raises(Broken):
            artifact.read(tmp_path / "a.zip")


def test_a_large_archive_is_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "a.zip").open("wb") as file:
        file.truncate(artifact.MOST_BYTES + 1)
    with pytest.raises(Broken, match="larger than"):
        artifact.read(tmp_path / "a.zip")
