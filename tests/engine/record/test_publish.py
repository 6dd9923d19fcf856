"""Publishing: the same bytes for the same run, never over another file, and every edit found by its line."""

from __future__ import annotations

import pytest

from aieng_bench.record.publish import publish, verify
from aieng_bench.record.reading import Broken, Loaded, load
from aieng_bench.record.store import RunStore
from tests.engine.made import ENVIRONMENT, record


def run_of(tmp_path, *made):
    store = RunStore.create(tmp_path / "run", command="", asked={}, environment=ENVIRONMENT)
    for one in made:
        store.write(one.model_copy(update={"run": store.run}))
    return store.load()


CASES = [record(name, case={"S": s, "device": "cpu"}) for s in (1024, 512, 64) for name in ("b", "a")]


def test_one_file_in_natural_order_that_verifies(tmp_path):
    loaded = run_of(tmp_path, *CASES)
    path = publish(loaded, tmp_path / "results")
    assert path == tmp_path / "results" / "test-cpu-2c-8gib" / "2025-01-01-0123456789.jsonl"
    again = load(path)
    assert again == loaded
    assert [(r.case["S"], r.contender.name) for r in again.records] == [(s, n) for s in (64, 512, 1024) for n in ("a", "b")]
    assert verify(path) == []
    before = path.read_bytes()
    assert publish(loaded, tmp_path / "results") == path
    assert path.read_bytes() == before


def test_an_edited_number_and_a_torn_end_are_named_by_line(tmp_path):
    path = publish(run_of(tmp_path, *CASES), tmp_path)
    lines = path.read_text().splitlines()
    lines[2] = lines[2].replace("101.0", "100.5", 1)
    lines[4] = lines[4].replace('"RAN"', '"CRASHED"')
    lines[5] = lines[5][:-40]
    path.write_text("\n".join(lines))
    assert [problem.where for problem in verify(path)] == [f"{path}:3", f"{path}:5", f"{path}:6"]
    assert [problem.where for problem in verify(tmp_path)] == [f"{path}:3", f"{path}:5", f"{path}:6"]


def test_an_empty_file_and_a_repeated_line_are_problems(tmp_path):
    path = publish(run_of(tmp_path, *CASES), tmp_path)
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[0])
    assert "2 records of the same cell attention/forward S=64,device=cpu a" in str(verify(path)[0])
    path.write_text("")
    assert "holds no records" in str(verify(path)[0])
    assert "holds no published file" in str(verify(path.parent.parent / "run")[0])


def test_other_content_under_the_same_name_is_refused(tmp_path):
    path = publish(run_of(tmp_path, *CASES), tmp_path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="never changed"):
        publish(Loaded([record("other")], []), tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("loaded", "reason"),
    [
        (Loaded([], []), "no records"),
        (Loaded([record()], [Broken("$: torn", "a.json")]), r"broken records is not published: a\.json: \$: torn"),
        (Loaded([record(), record(run="another")], []), "2 runs"),
        (Loaded([record(environment=ENVIRONMENT.model_copy(update={"machine": "../../up"}))], []), "no file name"),
        (Loaded([record(created="../../../../x")], []), "no file name"),
        (Loaded([record(environment=ENVIRONMENT.model_copy(update={"commit": "a/../b"}))], []), "no file name"),
    ],
)
def test_what_cannot_be_published_is_refused(tmp_path, loaded, reason):
    with pytest.raises(ValueError, match=reason):
        publish(loaded, tmp_path / "results")
    assert not (tmp_path / "results").exists()
