"""A comparison as continuous integration reads it: JUnit XML, which GitHub's report actions, GitLab and Jenkins show, and GitHub's
annotations. Names come from records, so they are cleaned, and escaped as each format asks.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from aieng_bench.cli.comparing import row, verdicts
from aieng_bench.report.format import clean

if TYPE_CHECKING:
    from aieng_bench.compare import Change, Comparison, Failure

MOST_ANNOTATIONS = 10
"""GitHub shows so many errors of a step and drops the rest in silence."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_junit(found: Comparison) -> str:
    """A testcase for each cell and metric: SLOWER is a failure, UNDECIDED skipped with its reason, a cell that fails an error.

    A comparison of nothing holds one error, as a file without a failure would be shown as success.
    """
    suite = Element("testsuite", name="aieng-bench compare")
    for change in found.changes:
        case = _testcase(suite, change.benchmark, f"{change.case} {change.contender} {change.metric.name}")
        if change.verdict == "SLOWER":
            SubElement(case, "failure", type="SLOWER", message=_legal(told(change)))
        elif change.verdict == "UNDECIDED":
            SubElement(case, "skipped", message=_legal(f"UNDECIDED: {change.reason}"))
        elif change.verdict == "FASTER":
            SubElement(case, "system-out").text = _legal(told(change))
    for failure in found.failures:
        case = _testcase(suite, failure.benchmark, f"{failure.case} {failure.contender}")
        SubElement(case, "error", type=_legal(failure.head.split(":")[0]), message=_legal(_states(failure)))
    if found.exit_code == 3:
        SubElement(_testcase(suite, "aieng-bench", "compare"), "error", type="NOTHING", message=_legal(verdicts(found)))
    counts = {"tests": "testcase", "failures": "testcase/failure", "errors": "testcase/error", "skipped": "testcase/skipped"}
    suite.attrib |= {name: str(len(suite.findall(path))) for name, path in counts.items()}
    suites = Element("testsuites")
    suites.append(suite)
    indent(suites)
    return tostring(suites, encoding="unicode", xml_declaration=False).join(['<?xml version="1.0" encoding="UTF-8"?>\n', "\n"])


def _testcase(suite: Element, benchmark: str, name: str) -> Element:
    return SubElement(suite, "testcase", classname=_legal(benchmark), name=_legal(name))


def _legal(text: str) -> str:
    """Cleaned, and without the code points that no XML 1.0 document may hold, not even escaped."""
    return _NOT_XML.sub("", clean(text, limit=2000))


def told(change: Change) -> str:
    """A change in one line."""
    _, _, base, head, effect, verdict, _ = row(change)
    p = "" if change.p is None else f", p = {change.p:.2g}"
    return f"{verdict}: {effect} as good as before ({base} → {head}{p})"


def _states(failure: Failure) -> str:
    return f"{failure.base} → {failure.head}"


def as_annotations(found: Comparison) -> list[str]:
    """GitHub's workflow commands, an error for each failure and each regression; the last counts those that GitHub would drop."""
    lines = [
        _error(f"FAILED {failure.benchmark}", f"{failure.case} {failure.contender}: {_states(failure)}")
        for failure in found.failures
    ]
    lines += [
        _error(f"SLOWER {change.benchmark}", f"{change.case} {change.contender} {change.metric.name}: {told(change)}")
        for change in found.changes
        if change.verdict == "SLOWER"
    ]
    rest = len(lines) - MOST_ANNOTATIONS + 1
    return (
        lines
        if rest <= 1
        else [*lines[: MOST_ANNOTATIONS - 1], _error("aieng-bench compare", f"and {rest} more: {verdicts(found)}")]
    )


def _error(title: str, message: str) -> str:
    return f"::error title={_escape(title, ':,')}::{_escape(message)}"


def _escape(text: str, further: str = "") -> str:
    """As actions/toolkit escapes data (%, CR, LF) and properties (also colon and comma)."""
    return "".join(f"%{ord(c):02X}" if c in "%\r\n" + further else c for c in clean(text, limit=2000))


def silence() -> tuple[str, str]:
    """Two lines: between them GitHub takes nothing that is printed, such as a name from a record, for a command."""
    token = secrets.token_hex(16)
    return f"::stop-commands::{token}", f"::{token}::"
