"""Reads records from outside with distrust: a broken file or line is named with its reason and left out, the rest loads."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aieng_bench.record.schema import SCHEMA_VERSION, Part, Record, canonical, content_hash

LARGEST_FILE = 256 * 2**20
"""Bytes; a thousand cells that all failed, each with as much log as is kept, take a quarter of it."""


_BEYOND_A_FLOAT = re.compile(r"[eE]\+?[0-9]{3,}(?:[\s,\]}]|\Z)"), re.compile(r"(?:[\s\[:,.-]|\A)[0-9]{300}")
"""Any number too large for a float has one of the two. Hardly a text does, and a look at each number costs more than parsing."""


class Broken(ValueError):
    """A text that is no whole, valid record; ``reason`` starts with the JSON path where one is known."""

    def __init__(self, reason: str, where: str = "") -> None:
        self.reason, self.where = reason, where
        super().__init__(f"{where}: {reason}" if where else reason)


class Newer(Broken):
    """What a newer version of aieng-bench wrote: nothing is wrong with it, and it is neither read nor touched."""


@dataclass(frozen=True)
class Loaded:
    """What a source held: its whole records (see :func:`order`), and what was left out."""

    records: list[Record]
    broken: list[Broken]


class _Line(Part):
    sha256: str
    record: Record


class _Object(dict[str, Any]):
    """A JSON object that remembers a key written twice."""

    twice: str | None = None


def line(record: Record) -> str:
    """The one text of a record, in a run's file and in a published line alike: its canonical JSON beside the hash of that."""
    return canonical({"sha256": content_hash(record), "record": record.model_dump(mode="json")})


def parse(text: str) -> Record:
    """The record of a text that :func:`line` made; raises Broken if anything about it is not as it was written."""
    parsed = strict_json(text)
    if not isinstance(parsed, dict) or not isinstance(parsed.get("record"), dict):
        raise Broken("$: not an object with 'record' and 'sha256'")
    refuse_newer(parsed["record"], "$.record")
    try:
        read = _Line.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise Broken(first_error(error)) from None
    # The hash is of the text's own values, not of what this version's schema makes of them: an older record stays verifiable.
    # They stand in the text as they were hashed, unless someone laid it out anew.
    as_written = text.removeprefix(f'{{"sha256":"{read.sha256}","record":').removesuffix("}")
    if _sha256(as_written) != read.sha256 != _sha256(canonical(parsed["record"])):
        raise Broken("$.sha256: the content does not match its hash: it was changed after it was written")
    return read.record


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def refuse_newer(content: dict[str, Any], path: str, newest: int = SCHEMA_VERSION) -> None:
    """Raise Newer for a ``schema_version`` from the future."""
    version = content.get("schema_version")
    if isinstance(version, int) and version > newest:
        raise Newer(f"{path}.schema_version: {version} is newer than this aieng-bench reads ({newest}); update it")


def strict_json(text: str) -> Any:
    """JSON without NaN, infinities, numbers beyond a float, keys written twice or absurd nesting; raises Broken with the path."""
    wrong = False

    def remember(pairs: list[tuple[str, Any]]) -> _Object:
        nonlocal wrong
        made = _Object(pairs)
        if len(made) < len(pairs):
            wrong = True
            seen: set[str] = set()
            made.twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return made

    def number(digits: str) -> float:
        nonlocal wrong
        value = float(digits)
        wrong = wrong or not math.isfinite(value)
        return value

    checked = number if any(pattern.search(text) for pattern in _BEYOND_A_FLOAT) else None
    try:
        parsed = json.loads(text, object_pairs_hook=remember, parse_float=checked, parse_constant=number)
    except RecursionError:
        raise Broken("$: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Broken(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except ValueError as error:
        raise Broken(f"not JSON: {error}") from None
    for path, value in _walk(parsed) if wrong else ():  # which costs more than all else here
        if isinstance(value, _Object) and value.twice is not None:
            raise Broken(f"{path}: the key {value.twice!r} is written twice")
        if isinstance(value, float) and not math.isfinite(value):
            raise Broken(f"{path}: not a finite number")
    return parsed


def _walk(root: Any) -> Iterator[tuple[str, Any]]:
    stack = [("$", root)]
    while stack:
        path, value = stack.pop()
        yield path, value
        if isinstance(value, dict):
            stack.extend((f"{path}.{key}", child) for key, child in value.items())
        elif isinstance(value, list):
            stack.extend((f"{path}[{i}]", child) for i, child in enumerate(value))


def first_error(error: ValidationError) -> str:
    """The first thing a schema objects to, as ``$.path[0]: what``."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    return f"${path}: {first['msg']}"


def load(path: Path) -> Loaded:
    """Records of a run folder, a published ``.jsonl``, or a folder that holds any of those. Raises FileNotFoundError."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    records: list[Record] = []
    broken: list[Broken] = []
    for file in [path] if path.is_file() else _files(path):
        for where, text in _texts(file, broken):
            try:
                records.append(parse(text))
            except Broken as error:
                broken.append(type(error)(error.reason, where))
    return Loaded(sorted(records, key=order), broken)


def order(record: Record) -> tuple[Any, ...]:
    """Sort key by run, benchmark, case and contender, where ``S=512`` comes before ``S=1024``."""
    axes = [(0, value, "") if isinstance(value, (int, float)) else (1, 0, value) for value in record.case.values()]
    return record.run, record.definition.benchmark, axes, record.contender.name


def _files(folder: Path) -> list[Path]:
    """Record files of every run at or below the folder, and every published file."""
    found = {file for file in folder.rglob("*.jsonl") if file.is_file()}
    for records in [folder / "records", *folder.rglob("*/records")]:
        found |= set(records.glob("*.json"))
    return sorted(found)


def text_of(file: Path) -> str:
    """The text of a file from outside. Raises OSError, also for a pipe or device (never opened) and beyond LARGEST_FILE."""
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(file))
    if status.st_size > LARGEST_FILE:
        raise OSError(errno.EFBIG, f"{status.st_size} bytes; the most that is read is {LARGEST_FILE}", str(file))
    return file.read_bytes().decode()


def _texts(file: Path, broken: list[Broken]) -> Iterator[tuple[str, str]]:
    try:
        content = text_of(file)
    except (OSError, UnicodeDecodeError) as error:
        broken.append(Broken(f"cannot be read: {error}", str(file)))
        return
    if file.suffix != ".jsonl":
        yield str(file), content
        return
    # Split at newlines alone: U+2028 and the like may stand within a JSON string.
    for number, text in enumerate(content.split("\n"), start=1):
        if text.strip():
            yield f"{file}:{number}", text
