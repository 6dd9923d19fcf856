"""Markdown pages in GitHub's dialect: the same figures as tables. No text from a record can mention, link or mark up."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aieng_bench.calibration import HEADS
from aieng_bench.report.build import INDEX_COLUMNS
from aieng_bench.report.format import clean
from aieng_bench.report.view import GUIDE, MATRIX_COLUMNS, Board, BoardRow, Cell, Claim, RunPage

_PLAIN = re.compile(r"(?! )(?:[A-Za-z0-9,%×–()+=-]|[ .](?=[A-Za-z0-9(]))*")
"""Text that nothing below changes, but for "www."; nearly all is, and figures are."""
_MARKUP = re.compile(r"([\\`*_{}\[\]#~|!$])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def text(value: str) -> str:
    """Plain text in Markdown. A zero-width space breaks what GitHub would turn into a mention or a link by itself."""
    if _PLAIN.fullmatch(value) and "www" not in value.lower():
        return value
    escaped = _MARKUP.sub(r"\\\1", value.translate(_ENTITIES))
    broken = re.sub(r"@(?=\w)|(?<=:)//|(?i:www)(?=\.)", lambda match: f"{match[0]}\u200b", escaped)
    return " ".join(broken.split())


def code(value: str) -> str:
    """A code span for a table cell: its fence is longer than any run of backticks inside, and pipes are escaped."""
    inside = " ".join(value.split()).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", inside)), default=0) + 1)
    pad = " " if inside.startswith("`") or inside.endswith("`") else ""
    return f"{fence}{pad}{inside}{pad}{fence}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool]) -> str:
    """A pipe table of cells that are escaped already."""
    rule = ["--:" if number else ":--" for number in numbers]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def board(content: Board) -> str:
    """The leaderboard of one case."""
    heads = ["#", "Contender", *(text(column.title) for column in content.columns), "Measure again"]
    numbers = [True, False, *(column.number for column in content.columns), False]
    return table(heads, [_row(row, len(content.columns)) for row in content.rows], numbers)


def _row(row: BoardRow, columns: int) -> list[str]:
    rank = "–" if row.rank is None else str(row.rank)
    name = f"{text(row.contender)} ({row.kind}{f', {text(row.version)}' if row.version else ''})"
    if row.status is not None:
        middle = [f"**{row.status.label}** {text(row.status.reason)}", *["–"] * (columns - 1)]
    else:
        middle = [entry(cell) for cell in row.cells]
    return [rank, f"**{name}**" if row.kind == "ours" else name, *middle, code(row.command)]


def entry(cell: Cell) -> str:
    """A cell's figure and what stands beside it."""
    return f"{text(cell.text)} {text(cell.detail)}".strip()


def _claim(claim: Claim) -> str:
    return f"**{text(f'{claim.text} {claim.word}'.strip())}** {text(claim.detail)}"


def _matrix(lines: Sequence[Sequence[Cell]]) -> str:
    """The red team's catch matrix."""
    return table([c.title for c in MATRIX_COLUMNS], [[entry(c) for c in line] for line in lines], [False] * len(MATRIX_COLUMNS))


def run_markdown(page: RunPage) -> str:
    """The page of one run."""
    summary = table(
        ["Benchmark", "Best of ours", "Against the fastest correct baseline", "Against the named baseline"],
        [
            [
                text(line.title),
                text(line.who),
                _claim(line.fastest),
                _claim(line.named),
            ]
            for line in page.summary
        ],
        [False] * 4,
    )
    facts = table(["Machine", ""], [[text(name), text(value)] for name, value in page.facts], [False, False])
    parts = [
        f"# {text(page.site)}: {text(page.title)}",
        text(page.scope),
        text(page.byline),
        *(["## Red team", _matrix(page.matrix)] if page.matrix else []),
        *(["## In short", summary] if page.summary else []),
        "## Machine",
        facts,
    ]
    for section in page.sections:
        parts += [f"## {text(section.title)}", text(section.summary), text(section.facts), text(page.calibration)]
        for content in section.tables:
            parts += [f"### {text(content.label)}", board(content)]
    trials = table([text(head) for head in HEADS], [[text(value) for value in row] for row in page.trials], [False] * len(HEADS))
    parts += ["## How sure a comparison is", trials] if page.sections else []
    parts += ["## How to read this", "\n".join(f"- **{name}**: {text(meaning)}" for name, meaning in GUIDE), text(page.provenance)]
    return "\n\n".join(part for part in parts if part) + "\n"


def index_markdown(pages: Sequence[RunPage], title: str, scope: str) -> str:
    """The list of runs, each linked to its page."""
    rows = [[f"[{text(cell.text)}]({cell.href}.md)" if cell.href else entry(cell) for cell in page.index_row] for page in pages]
    runs = table([text(column.title) for column in INDEX_COLUMNS], rows, [column.number for column in INDEX_COLUMNS])
    return f"# {text(clean(title))}\n\n{text(scope)}\n\n{runs}\n"
