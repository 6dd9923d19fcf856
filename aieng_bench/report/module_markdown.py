"""The report of a suite as Markdown: the chapters' text and tables, and figures as PNG files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aieng_bench.report import static
from aieng_bench.report.chapters import Block, Bullets, Chapter, Gallery, Grid, ModulePage
from aieng_bench.report.markdown import board, entry, table, text
from aieng_bench.report.view import Board, Plot


def page_markdown(page: ModulePage) -> tuple[str, dict[str, bytes]]:
    """The Markdown, and the figures it shows by their path beside it."""
    parts = [f"# {text(page.title)}", text(page.question), text(page.scope)]
    figures: dict[str, bytes] = {}
    for chapter in page.chapters:
        parts.append(f"## {text(chapter.title)}")
        for number, piece in enumerate(pieces(chapter)):
            if isinstance(piece, str):
                parts.append(piece)
            else:
                path = f"{page.name}-figures/{chapter.anchor}-{number}.png"
                figures[path] = image(piece)
                parts += [f"![{text(piece.title)}]({path})", f"*{text(piece.note)}*" if piece.note else ""]
    return "\n\n".join([part for part in parts if part] + [text(page.provenance)]) + "\n", figures


def pieces(chapter: Chapter) -> Iterator[str | Plot | Gallery]:
    """The chapter's blocks in order: what is text as Markdown, what is to be drawn as it is."""
    for block in chapter.blocks:
        if isinstance(block, (Plot, Gallery)):
            yield block
        else:
            yield written(block)


def written(block: Block) -> str:
    """A paragraph, a list or a table as Markdown. Raises TypeError for what is drawn."""
    if isinstance(block, str):
        return text(block)
    if isinstance(block, Bullets):
        return "\n".join(f"- {text(item)}" for item in block.items)
    if isinstance(block, Board):
        return f"**{text(block.label)}**\n\n{board(block)}"
    if isinstance(block, Grid):
        return grid(block)
    raise TypeError(f"a {type(block).__name__} is drawn, not written")


def grid(block: Grid) -> str:
    columns = block.columns
    rows: Sequence[Sequence[str]] = [[entry(one) for one in row] for row in block.rows]
    return table([text(column.title) for column in columns], rows, [column.number for column in columns])


def image(block: Plot | Gallery) -> bytes:
    """The PNG file of what is drawn."""
    return static.draw(block) if isinstance(block, Plot) else static.table_of(block.pictures)
