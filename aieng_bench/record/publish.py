"""Published results: one canonical JSONL file per run under ``results/<machine>/``, each line with the hash of its record."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from aieng_bench.record.reading import Broken, Loaded, line, load
from aieng_bench.record.store import write_whole

RESULTS = Path("results")
# Records may come from outside: none may write elsewhere.
SAFE = re.compile(r"[a-z0-9-]+/\d{4}-\d\d-\d\d-[a-z0-9]+\.jsonl")


def publish(loaded: Loaded, results: Path = RESULTS) -> Path:
    """Pack the records of one run into ``<results>/<machine>/<date>-<commit>.jsonl``; the same records give the same bytes.

    Raises ValueError for a run with broken records or none, or of several runs or machines; FileExistsError rather than change a
    file that is there.
    """
    if loaded.broken:
        raise ValueError(f"a run with broken records is not published: {loaded.broken[0]}")
    if not loaded.records:
        raise ValueError("there are no records to publish")
    for what, found in (
        ("runs", {record.run for record in loaded.records}),
        ("machines", {record.environment.machine for record in loaded.records}),
        ("commits", {record.environment.commit for record in loaded.records}),
    ):
        if len(found) > 1:
            raise ValueError(f"one file holds one run; these records are of {len(found)} {what}")
    first = min(loaded.records, key=lambda record: record.created)
    commit = (first.environment.commit or "uncommitted")[:10]
    name = f"{first.environment.machine}/{first.created[:10]}-{commit}.jsonl"
    if not SAFE.fullmatch(name):
        raise ValueError(f"machine, date or commit of the records make no file name: {name!r}")
    path = results / name
    text = "".join(line(record) + "\n" for record in loaded.records)
    if path.exists():
        if path.read_bytes() == text.encode():
            return path
        raise FileExistsError(f"{path} is published already with other content; a published file is never changed")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text, new=True)
    return path


def verify(path: Path) -> list[Broken]:
    """What is wrong with a published file, or with those in a folder, by file and line; empty if all is well."""
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    return [problem for file in files for problem in _verify(file)] if files else [Broken("holds no published file", str(path))]


def _verify(file: Path) -> list[Broken]:
    if file.is_symlink():
        return [Broken("is a link; what is published is a file of its own", str(file))]
    loaded = load(file)
    if not loaded.records and not loaded.broken:
        return [Broken("holds no records", str(file))]
    counted = Counter((record.run, *record.key) for record in loaded.records)
    twice = [Broken(f"{n} records of the same cell {' '.join(key[1:])}", str(file)) for key, n in counted.items() if n > 1]
    return [*loaded.broken, *twice]
