"""What a page says, as plain text: built once from records, then laid out as HTML (page.py) and as Markdown (markdown.py)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aieng_bench.report.format import NOTHING, clean


@dataclass(frozen=True)
class Column:
    title: str
    number: bool = True


@dataclass(frozen=True)
class Cell:
    """``sort`` orders the column; ``part`` (0..100) draws a small bar; ``tone`` is ``good``, ``bad``, ``warn`` or empty."""

    text: str = NOTHING
    detail: str = ""
    sort: float | str | None = None
    tone: str = ""
    part: float | None = None
    href: str = ""
    number: bool = True


@dataclass(frozen=True)
class Status:
    """Why a row is not ranked."""

    label: str
    reason: str
    tone: str


@dataclass(frozen=True)
class BoardRow:
    """One record. Either ``cells`` (one per column) or ``status`` is filled: a row that is not ranked shows no speed."""

    rank: int | None
    contender: str
    kind: str
    version: str
    command: str
    cells: tuple[Cell, ...] = ()
    status: Status | None = None
    log: str = ""


@dataclass(frozen=True)
class Board:
    """The leaderboard of one case."""

    label: str
    columns: tuple[Column, ...]
    rows: tuple[BoardRow, ...]


@dataclass(frozen=True)
class Claim:
    """``word`` says what the figure means: faster, slower, mixed."""

    text: str
    word: str
    detail: str
    tone: str = ""


@dataclass(frozen=True)
class Headline:
    """One line of the summary: the best of ours in one benchmark, against the fastest correct and the named baseline."""

    anchor: str
    title: str
    who: str
    fastest: Claim
    named: Claim


@dataclass(frozen=True)
class Plot:
    """A plotly figure without colours: every trace names its role in ``meta.role``, and the page gives roles their colours."""

    title: str
    note: str
    height: int
    json: dict[str, Any]


@dataclass(frozen=True)
class Section:
    """One benchmark."""

    anchor: str
    title: str
    summary: str
    facts: str
    tables: tuple[Board, ...]
    plots: tuple[Plot, ...] = ()


MATRIX_COLUMNS = tuple(
    Column(title, number=False) for title in ("Cheat", "What it does", "Verdict", "How, or why not", "Honest twin")
)


@dataclass(frozen=True)
class RunPage:
    slug: str
    site: str
    title: str
    scope: str
    byline: str
    facts: tuple[tuple[str, str], ...]
    summary: tuple[Headline, ...]
    sections: tuple[Section, ...]
    roofline: Plot | None
    matrix: tuple[tuple[Cell, ...], ...]
    """The red team's catch matrix, empty for any other run: one cell per column of MATRIX_COLUMNS."""
    calibration: str
    """How sure a comparison of runs like this one is; see :mod:`aieng_bench.calibration`."""
    trials: tuple[tuple[str, ...], ...]
    """All that is known of that, in the order of calibration.HEADS."""
    provenance: str
    index_row: tuple[Cell, ...]


GUIDE: Sequence[tuple[str, str]] = (
    (
        "Ranked",
        "Only a cell that ran, passed the correctness gate and was measured cleanly shows a speed; every other cell says why not.",
    ),
    (
        "Speed-up",
        "The baseline's time over the contender's, round by round: above 1 is faster. 95 % intervals by Student's t over launches.",
    ),
    (
        "Fastest baseline",
        "The quickest correct baseline of the same case; the headline. The named baseline is what users run today.",
    ),
    (
        "Machine code",
        "Figures of a static benchmark are read from what the compiler made; nothing ran, so they are exact and never ranked.",
    ),
    (
        "Correctness",
        "Error against a float64 oracle over the framework's own error in the same dtype: 1× is as exact as the framework.",
    ),
    ("Hot and cold", "Hot: the inputs may still be in cache from the call before. Cold: they come from memory."),
    ("Of the limit", "The least time the declared work needs on this machine, by its ceilings, over the time measured."),
    ("Self-reported", "Measured by whoever published it, on their machine. Nobody has run it again yet."),
)


def lines(text: str) -> str:
    """A log made harmless to print, line by line."""
    return "\n".join(clean(line, limit=1000) for line in text.splitlines())


def slug(text: str) -> str:
    """Lower-case letters, digits and dashes of a text, fit for a file name or an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80]
