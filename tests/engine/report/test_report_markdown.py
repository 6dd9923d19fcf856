"""The Markdown page, read back with a CommonMark parser that knows GitHub's tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import synthetic
from markdown_it import MarkdownIt
from markdown_it.token import Token

from aieng_bench.report.markdown import code, table, text

PARSER = MarkdownIt("commonmark").enable("table")


def tables(source: str) -> list[list[list[Token]]]:
    """The inline token of every cell, table by table, row by row."""
    found: list[list[list[Token]]] = []
    inside = False
    for token in PARSER.parse(source):
        inside = token.type == "table_open" or (inside and token.type != "table_close")
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and inside:
            found[-1][-1].append(token)
    return found


def plain(token: Token) -> str:
    return "".join(child.content for child in token.children or [])


def test_tables_are_whole(site: Path) -> None:
    source = (site / "index.md").read_text()
    found = tables(source)
    assert len(found) == 3 + 8, "summary, machine, one per case, how sure a comparison is"
    assert all(len(row) == len(content[0]) for content in found for row in content)
    assert sum(len(content) - 1 for content in found[2:-1]) == len(synthetic.run())


def test_names_arrive_as_written_and_as_nothing_else(site: Path) -> None:
    source = (site / "index.md").read_text()
    kinds = {child.type for token in PARSER.parse(source) for child in token.children or []}
    assert kinds == {"text", "code_inline", "strong_open", "strong_close"}
    assert not any(token.type.startswith("html") for token in PARSER.parse(source))
    outside_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", source)
    assert not re.search(r"@\w", outside_code)
    shown = [plain(row[1]).replace("\u200b", "") for content in tables(source)[2:] for row in content]
    for name in synthetic.HOSTILE[:4]:
        assert any(cell.startswith(f"{name} (") for cell in shown), name


@pytest.mark.parametrize(
    "hostile", [*synthetic.HOSTILE, "`", "``x`", "a|b", "\\|", "|", "\n# x", "&lt;", "$x$", "1. x", "http://x.y"]
)
def test_any_text_survives_a_table(hostile: str) -> None:
    (rows,) = tables(table(["a", "b"], [[text(hostile), code(hostile)]], [False, True]))
    assert len(rows[1]) == 2
    shown = plain(rows[1][0]).replace("\u200b", "")
    assert shown == " ".join(hostile.replace("\u200b", "").split())
    assert [child.type for child in rows[1][1].children or []] == ["code_inline"]
    assert plain(rows[1][1]).strip() == " ".join(hostile.split())
