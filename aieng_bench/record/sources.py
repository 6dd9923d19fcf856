"""From what a user types to records: a run by name or path, published files, or pytest-benchmark's JSON."""

from __future__ import annotations

import difflib
from pathlib import Path

from aieng_bench.record.reading import Loaded, load
from aieng_bench.record.store import RUNS


def resolve(name: str, runs: Path = RUNS) -> Path:
    """The path a user means: a path, the name of a run under ``runs``, or ``latest``. Raises LookupError with the nearest names."""
    if name != "latest" and Path(name).exists():
        return Path(name)
    known = sorted(manifest.parent.name for manifest in runs.glob("*/run.json"))
    if name == "latest":
        if known:
            return runs / known[-1]
        raise LookupError(f"there is no run under {runs}/ yet")
    if name in known:
        return runs / name
    near = difflib.get_close_matches(name, [*known, "latest"], n=3, cutoff=0.3)
    raise LookupError(f"no run or file {name!r}" + (f"; nearest: {', '.join(near)}" if near else ""))


def read(name: str) -> Loaded:
    """Records of whatever ``name`` means. Raises LookupError if it means nothing, Broken for a foreign ``.json``."""
    path = resolve(name)
    if files := pytest_benchmark_files(path):
        from aieng_bench.record.pytest_benchmark import convert

        return Loaded(convert(files), [])
    return load(path)


def pytest_benchmark_files(path: Path) -> list[Path]:
    """A ``.json`` file, or the files of a folder that directly holds such files and no run: one launch each."""
    if path.is_file():
        return [path] if path.suffix == ".json" else []
    return [] if (path / "run.json").exists() or path.name == "records" else sorted(path.glob("*.json"))
