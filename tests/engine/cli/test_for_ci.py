"""What continuous integration is told of a comparison: JUnit XML and GitHub's annotations, whatever names the records bring."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from aieng_bench.cli import app
from aieng_bench.cli.for_ci import MOST_ANNOTATIONS, as_annotations, as_junit
from aieng_bench.compare import Change, Comparison, Failure, Verdict
from aieng_bench.record.reading import line
from aieng_bench.summary import Ratio
from tests.engine.made import DEFINITION, record

runner = CliRunner()
HOSTILE = 'x%0A::error::y"/><failure message="\'&\x00\x1b[31m\ufffe\uffff\ud800,b:c\r\n::set-output name=a::b ]]>'


def change(verdict, name="ours", reason=""):
    value = {Verdict.SLOWER: 0.9, Verdict.FASTER: 1.1}.get(verdict, 1.0)
    effect = Ratio(value, value - 0.01, value + 0.01)
    return Change("attention/forward", "S=512", name, DEFINITION.metrics[0], 100.0, 100.0 / value, effect, 0.001, verdict, reason)


def comparison(*changes, failures=()):
    return Comparison(changes=changes, failures=failures, only_base=(), only_head=(), environment=())


MIXED = comparison(
    change(Verdict.SLOWER),
    change(Verdict.FASTER, "faster"),
    change(Verdict.SAME, "same"),
    change(Verdict.UNDECIDED, "unsure", "interval too wide"),
    failures=(Failure("attention/forward", "S=512", "dead", "PASSED", "CRASHED: signal 11"),),
)


def test_junit_has_a_testcase_for_each_cell_and_metric_with_what_became_of_it():
    (suite,) = ElementTree.fromstring(as_junit(MIXED)).findall("testsuite")
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    children = {case.get("name"): {child.tag: child for child in case} for case in suite}
    assert all(case.get("classname") == "attention/forward" for case in suite)
    slower = children["S=512 ours latency_us"]["failure"]
    assert slower.get("message") == "SLOWER: 0.900× [0.890, 0.910] as good as before (100 µs → 111 µs, p = 0.001)"
    assert children["S=512 unsure latency_us"]["skipped"].get("message") == "UNDECIDED: interval too wide"
    error = children["S=512 dead"]["error"]
    assert (error.get("type"), error.get("message")) == ("CRASHED", "PASSED → CRASHED: signal 11")
    assert children["S=512 same latency_us"] == {}
    assert list(children["S=512 faster latency_us"]) == ["system-out"]


def test_a_comparison_of_nothing_is_an_error_in_junit():
    (suite,) = ElementTree.fromstring(as_junit(comparison()))
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    assert "nothing matched" in suite.find("testcase/error").get("message")


def test_hostile_names_leave_legal_xml_with_the_structure_it_had():
    found = comparison(change(Verdict.SLOWER, HOSTILE), failures=(Failure(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),))
    text = as_junit(found)
    text.encode()
    suite = ElementTree.fromstring(text).find("testsuite")
    assert [[child.tag for child in case] for case in suite] == [["failure"], ["error"]]
    assert not set("\x00\x1b\ufffe\uffff") & set(text)


def test_annotations_are_for_regressions_and_failures_alone():
    assert as_annotations(MIXED) == [
        "::error title=FAILED attention/forward::S=512 dead: PASSED → CRASHED: signal 11",
        "::error title=SLOWER attention/forward::S=512 ours latency_us: "
        "SLOWER: 0.900× [0.890, 0.910] as good as before (100 µs → 111 µs, p = 0.001)",
    ]
    assert as_annotations(comparison(change(Verdict.SAME))) == []


def test_annotations_escape_as_github_documents():
    (told,) = as_annotations(comparison(failures=(Failure("a:b,c%d", "S=1", HOSTILE, "PASSED", "ERROR"),)))
    title, message = told.removeprefix("::error title=").split("::", 1)
    assert title == "FAILED a%3Ab%2Cc%25d"
    assert message.startswith("S=1 x%250A::error::y")
    assert not set("\r\n\x00\x1b") & set(told)


@pytest.mark.parametrize(("count", "lines"), [(MOST_ANNOTATIONS, MOST_ANNOTATIONS), (25, MOST_ANNOTATIONS)])
def test_what_github_would_drop_is_counted(count, lines):
    told = as_annotations(comparison(*[change(Verdict.SLOWER, f"c{i}") for i in range(count)]))
    assert len(told) == lines
    assert ("and 16 more: 25 SLOWER" in told[-1]) == (count == 25)


def sources(tmp_path, **changes):
    """Ours gets half as fast from one file to the other."""
    for name, latency in (("a", 100.0), ("b", 200.0)):
        samples = [[latency, latency * 1.001]] * 3 + [[latency * 1.002, latency]] * 3
        torch = record("torch", "baseline", [[300.0, 301.0]] * 6)
        (tmp_path / f"{name}.jsonl").write_text("".join(line(one) + "\n" for one in (torch, record(latency=samples, **changes))))
    return str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")


def test_the_command_writes_junit_and_annotations(tmp_path):
    done = runner.invoke(app, ["compare", *sources(tmp_path), "--junit", str(tmp_path / "j.xml"), "--github"])
    assert done.exit_code == 1
    assert ElementTree.parse(tmp_path / "j.xml").getroot().find("testsuite").get("failures") == "1"
    first, *middle, resume, told = done.output.splitlines()
    assert first.startswith("::stop-commands::")
    assert resume == f"::{first.removeprefix('::stop-commands::')}::"
    assert any("1 SLOWER" in text for text in middle)
    assert told.startswith("::error title=SLOWER attention/forward::")
    assert "::" not in runner.invoke(app, ["compare", *sources(tmp_path)]).output


def test_json_and_annotations_do_not_share_stdout(tmp_path):
    done = runner.invoke(app, ["compare", *sources(tmp_path), "--json", "--github"])
    assert (done.exit_code, done.stdout) == (4, "")
