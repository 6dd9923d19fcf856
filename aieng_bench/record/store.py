"""A run on disk: a folder with ``run.json`` and one file per record, each written whole or not at all.

A record that ``write`` returned from survives a kill at any moment and a loss of power: its bytes and its name are both flushed. A
file is replaced only when its cell is run again (``--resume``), and then in one step.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from aieng_bench.record.reading import Broken, Loaded, Newer, first_error, line, load, refuse_newer, strict_json, text_of
from aieng_bench.record.schema import Environment, Part, Record, Value, canonical

__all__ = ["Broken", "Loaded", "Manifest", "RunStore", "load", "write_whole"]

RUNS = Path("runs")
MANIFEST_VERSION = 1


class Manifest(Part):
    """What a run was asked to do, and where."""

    schema_version: Literal[1] = 1
    run: str
    created: str
    """UTC, ISO 8601, seconds."""
    command: str
    asked: dict[str, Value | tuple[str, ...]]
    environment: Environment


class RunStore:
    """One run's folder; made by :meth:`create` or :meth:`open`. Several processes may write to it at once."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    @property
    def run(self) -> str:
        """The run's id, which its records carry."""
        return self.manifest.run

    @classmethod
    def create(
        cls, folder: Path | None, *, command: str, asked: dict[str, Value | tuple[str, ...]], environment: Environment
    ) -> RunStore:
        """A new run in ``folder``, by default ``runs/<id>``. Raises FileExistsError if a run is there already."""
        now = datetime.now(UTC)
        run = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        folder = folder if folder is not None else RUNS / run
        manifest = Manifest(run=run, created=timestamp(now), command=command, asked=asked, environment=environment)
        (folder / "records").mkdir(parents=True, exist_ok=True)
        try:
            write_whole(folder / "run.json", canonical(manifest.model_dump(mode="json")) + "\n", new=True)
        except FileExistsError:
            raise FileExistsError(f"{folder} holds a run already; continue it with --resume or choose another folder") from None
        return cls(folder, manifest)

    @classmethod
    def open(cls, folder: Path) -> RunStore:
        """The run in ``folder``. Raises FileNotFoundError without one, Broken if its manifest cannot be trusted."""
        file = folder / "run.json"
        if not file.is_file():
            raise FileNotFoundError(f"{folder} holds no run (no run.json)")
        try:
            text = text_of(file)
            if isinstance(content := strict_json(text), dict):
                refuse_newer(content, "$", MANIFEST_VERSION)
            manifest = Manifest.model_validate_json(text, strict=True)
        except Broken as error:
            raise type(error)(error.reason, str(file)) from None
        except UnicodeDecodeError as error:
            raise Broken(str(error), str(file)) from None
        except ValidationError as error:
            raise Broken(first_error(error), str(file)) from None
        return cls(folder, manifest)

    def write(self, record: Record) -> Path:
        """Keep a record for good; returns once it is on the disk. Raises OSError if it cannot be, with older records intact."""
        if record.run != self.run:
            raise ValueError(f"record: it belongs to the run {record.run!r}, this is {self.run!r}")
        path = self.folder / "records" / file_name(record)
        write_whole(path, line(record) + "\n")
        return path

    def load(self) -> Loaded:
        return load(self.folder)

    def quarantine(self) -> list[Broken]:
        """Rename broken record files to ``*.broken``, so that the cells run again do not overwrite them; returns what was wrong.

        Raises Newer, before anything is renamed, if a newer aieng-bench has written to this run.
        """
        broken = [problem for problem in self.load().broken if Path(problem.where).parent == self.folder / "records"]
        for problem in broken:
            if isinstance(problem, Newer):
                raise problem
        for problem in broken:
            Path(problem.where).replace(f"{problem.where}.broken")
        return broken

    def finished(self) -> dict[tuple[str, str, str], Record]:
        """The whole records so far, by key; a broken file is as if its cell had not been run."""
        return {record.key: record for record in self.load().records}


def file_name(record: Record) -> str:
    """A name safe on every file system, readable, and unique to the record's key."""
    slugs = [
        re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-")[:40] for part in (record.definition.benchmark, record.contender.name)
    ]
    digest = hashlib.sha256(canonical(list(record.key)).encode(errors="surrogatepass")).hexdigest()[:16]
    return "_".join([*slugs, digest]) + ".json"


def write_whole(path: Path, text: str | bytes, new: bool = False) -> None:
    """Write a file that at any moment is there whole or as it was: temp file, flush, fsync, rename, fsync of the folder.

    ``new``: raise FileExistsError rather than replace one; of several that write it at once one wins.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
            file.flush()
            os.fsync(file.fileno())
        if new:
            os.link(temporary, path)
            temporary.unlink()
        else:
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def timestamp(moment: datetime | None = None) -> str:
    """UTC, ISO 8601, to the second; now by default."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
