"""A run on disk: whole or not at all, whoever writes, whatever happens."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aieng_bench.record.reading import Broken
from aieng_bench.record.schema import ContenderInfo
from aieng_bench.record.sources import resolve
from aieng_bench.record.store import RunStore, file_name, load, write_whole
from tests.engine.made import ENVIRONMENT, record
from tests.engine.writers import begin_a_run

ASKED = {"patterns": ("attention",), "quick": True}


def new_store(folder: Path) -> RunStore:
    return RunStore.create(folder, command="aieng-bench run attention", asked=ASKED, environment=ENVIRONMENT)


def test_a_run_is_found_again_with_all_it_was_given(tmp_path):
    store = new_store(tmp_path / "run")
    written = record(run=store.run)
    path = store.write(written)
    again = RunStore.open(tmp_path / "run")
    assert again.manifest == store.manifest
    assert again.finished() == {written.key: written}
    assert path.parent == tmp_path / "run" / "records"


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    new_store(tmp_path)
    with pytest.raises(FileExistsError, match="--resume"):
        new_store(tmp_path)


def test_of_those_that_begin_a_run_in_one_folder_at_once_one_wins(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.engine.writers"])
    for attempt in range(3):
        won = context.SimpleQueue()
        processes = [context.Process(target=begin_a_run, args=(tmp_path / str(attempt), won)) for _ in range(8)]
        for process in processes:
            process.start()
        runs = [won.get() for _ in processes]
        for process in processes:
            process.join()
        assert [run for run in runs if run] == [RunStore.open(tmp_path / str(attempt)).run]
        assert {file.name for file in (tmp_path / str(attempt)).iterdir()} == {"run.json", "records"}


def test_a_folder_without_a_run_and_a_broken_manifest_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run\.json"):
        RunStore.open(tmp_path)
    (tmp_path / "run.json").write_text('{"run": NaN}')
    with pytest.raises(Broken, match=r"\$\.run: not a finite number"):
        RunStore.open(tmp_path)


def test_a_record_of_another_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="belongs to the run"):
        new_store(tmp_path).write(record(run="another"))


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "CON", ".", "", "ünï", "x" * 500, "<img onerror=1>", "a\x00b"])
def test_file_names_are_safe_and_distinct(name):
    made = file_name(record(contender=ContenderInfo(name=name, kind="ours")))
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
    assert len(made) < 130
    assert made != file_name(record(contender=ContenderInfo(name=name + "!", kind="ours")))


def test_a_cell_run_again_replaces_its_record(tmp_path):
    store = new_store(tmp_path)
    store.write(record(run=store.run, outcome="CRASHED"))
    store.write(record(run=store.run))
    assert [r.outcome for r in store.load().records] == ["RAN"]


def test_a_failed_write_leaves_the_old_record_and_no_litter(tmp_path, monkeypatch):
    store = new_store(tmp_path)
    path = store.write(record(run=store.run))
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.write(record(run=store.run, outcome="CRASHED"))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def write_many(folder: Path, writer: int) -> None:
    store = RunStore.open(folder)
    for i in range(25):
        store.write(record(f"contender-{writer}-{i}", run=store.run))


def test_eight_writers_leave_two_hundred_records(tmp_path):
    new_store(tmp_path)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(tmp_path, writer)) for writer in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    loaded = load(tmp_path)
    assert len(loaded.records) == 200
    assert not loaded.broken
    assert len({r.key for r in loaded.records}) == 200


WRITER = """
import sys
from pathlib import Path
from aieng_bench.record.store import RunStore
from tests.engine.made import record
store = RunStore.open(Path(sys.argv[1]))
i = 0
while True:
    store.write(record(f"contender-{sys.argv[2]}-{i}", run=store.run))
    print(i, flush=True)
    i += 1
"""


def test_kill_in_the_middle_of_writing_leaves_no_half_record(tmp_path):
    new_store(tmp_path)
    acknowledged = 0
    for attempt in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(attempt)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        time.sleep(0.01 * attempt)
        process.send_signal(signal.SIGKILL)
        acknowledged += 1 + len(process.stdout.read().splitlines())
        process.wait()
        process.stdout.close()
        loaded = load(tmp_path)
        assert not loaded.broken
        assert len(loaded.records) >= acknowledged


def test_whole_or_as_before_even_if_the_text_cannot_be_encoded(tmp_path):
    write_whole(tmp_path / "file", "before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "file", "\ud800")
    assert (tmp_path / "file").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_latest_and_names_are_resolved(tmp_path):
    for name in ("20250101T000000Z-aaaaaa", "20250102T000000Z-bbbbbb"):
        new_store(tmp_path / name)
    assert resolve("latest", tmp_path).name == "20250102T000000Z-bbbbbb"
    assert resolve("20250101T000000Z-aaaaaa", tmp_path) == tmp_path / "20250101T000000Z-aaaaaa"
    assert resolve(str(tmp_path), tmp_path) == tmp_path
    with pytest.raises(LookupError, match="nearest: 20250101T000000Z-aaaaaa"):
        resolve("20250101T000000Z-aaaaab", tmp_path)
    with pytest.raises(LookupError, match="no run under"):
        resolve("latest", tmp_path / "none")


def test_manifest_is_plain_json(tmp_path):
    store = new_store(tmp_path)
    manifest = json.loads((tmp_path / "run.json").read_text())
    assert manifest["run"] == store.run
    assert manifest["asked"] == {"patterns": ["attention"], "quick": True}
