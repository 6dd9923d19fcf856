"""What the report of a suite is made of: chapters of paragraphs, lists, tables, figures and pictures, laid out by three writers."""

from __future__ import annotations

from dataclasses import dataclass

from aieng_bench.record.exhibits import Pictures
from aieng_bench.report.view import Board, Cell, Column, Plot


@dataclass(frozen=True)
class Grid:
    """A plain table."""

    label: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Gallery:
    """A table of small pictures."""

    title: str
    note: str
    pictures: Pictures


@dataclass(frozen=True)
class Bullets:
    items: tuple[str, ...]


Block = str | Bullets | Grid | Board | Plot | Gallery
"""A string is a paragraph; a :class:`Board` comes under its label."""


@dataclass(frozen=True)
class Chapter:
    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class ModulePage:
    name: str
    title: str
    question: str
    scope: str
    chapters: tuple[Chapter, ...]
    provenance: str
    digest: str
    """SHA-256 of all records that it rests on."""

    def chapter(self, anchor: str) -> Chapter:
        """Raises KeyError with the anchors there are."""
        for chapter in self.chapters:
            if chapter.anchor == anchor:
                return chapter
        raise KeyError(f"{anchor!r} is none of {', '.join(chapter.anchor for chapter in self.chapters)}")
