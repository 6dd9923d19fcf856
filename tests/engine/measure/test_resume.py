"""What of an earlier run is taken as it is: nothing whose code, machine or effort is not what it was."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from watching import plan

from aieng_bench import machine
from aieng_bench.measure.cell import Cell
from aieng_bench.measure.plan import Unit
from aieng_bench.measure.resume import RETRIED, still_good
from aieng_bench.measure.sources import own_sources, suite_hash
from aieng_bench.record import Record
from aieng_bench.record.schema import ContenderInfo, Environment, Quality

HERE = machine.environment(threads=2)


@pytest.fixture
def unit() -> Unit:
    return plan("scale", "eager", "add").units[0]


def finished(unit: Unit, change: Callable[[Record], Record] = lambda record: record) -> dict[tuple[str, str, str], Record]:
    """Records of a full run of ``unit``, the last of them changed."""
    records = [Cell(unit, contender).record("run", HERE, None, quick=False) for contender in unit.contenders]
    return {record.key: record for record in [*records[:-1], change(records[-1])]}


def test_what_did_not_change_is_taken(unit: Unit) -> None:
    known = finished(unit)
    assert still_good(unit, False, known, HERE) == list(known.values())


def test_a_commit_alone_changes_nothing(unit: Unit) -> None:
    assert still_good(unit, False, finished(unit), HERE.model_copy(update={"commit": "f" * 40, "dirty": True}))


def contender(**changes: Any) -> Callable[[Record], Record]:
    return lambda r: r.model_copy(update={"contender": ContenderInfo.model_validate({**r.contender.model_dump(), **changes})})


def definition(**changes: Any) -> Callable[[Record], Record]:
    return lambda r: r.model_copy(update={"definition": r.definition.model_copy(update=changes)})


@pytest.mark.parametrize(
    "change",
    [
        contender(source_hash="0" * 16),
        contender(version="0.0.1"),
        definition(hash="0" * 16),
        definition(source_hash="0" * 16),
        definition(flops=1.0),
        *(lambda r, o=outcome: r.model_copy(update={"outcome": o}) for outcome in RETRIED),
        lambda r: r.model_copy(update={"quality": Quality.NOISY}),
        lambda r: r.model_copy(update={"command": f"{r.command} --quick"}),
    ],
    ids=["code", "library", "definition", "suite", "work", "crashed", "timeout", "error", "noisy", "quick"],
)
def test_one_changed_cell_has_the_whole_unit_run_again(unit: Unit, change: Callable[[Record], Record]) -> None:
    assert still_good(unit, False, finished(unit, change), HERE) is None


@pytest.mark.parametrize(
    "change",
    [
        {"machine": "another"},
        {"gpu": "another"},
        {"driver": "999.1"},
        {"libraries": {"torch": "0.1"}},
        {"threads": 64},
        {"variables": {"OMP_NUM_THREADS": "1"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_machine_driver_or_setting_has_all_run_again(unit: Unit, change: dict[str, Any]) -> None:
    there = Environment.model_validate({**HERE.model_dump(), **change})
    assert still_good(unit, False, finished(unit), there) is None


def test_a_missing_cell_has_the_whole_unit_run_again(unit: Unit) -> None:
    (_, *rest) = finished(unit).items()
    assert still_good(unit, False, dict(rest), HERE) is None


def test_a_quick_cell_does_not_answer_for_a_full_one_nor_the_other_way_round(unit: Unit) -> None:
    assert still_good(unit, True, finished(unit), HERE) is None


FILES = {
    "__init__.py": "",
    "_shared.py": "from .deeper import scale\n",
    "deeper/__init__.py": "from .scale import scale\n",
    "deeper/scale.py": "def scale(x): return 2 * x\n",
    "_unused.py": "1 / 0\n",
    "bench.py": "def inputs():\n    from changing_suite import _shared\n    import json\n",
}


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / "changing_suite" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "changing_suite" / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path / "changing_suite"
    sys.modules.pop("changing_suite", None)


def test_a_suites_source_is_its_file_and_what_that_imports_of_its_own(suite: Path) -> None:
    names = [
        "changing_suite",
        "changing_suite._shared",
        "changing_suite.bench",
        "changing_suite.deeper",
        "changing_suite.deeper.scale",
    ]
    assert sorted(own_sources("changing_suite.bench")) == names
    assert "changing_suite._shared" not in sys.modules


@pytest.mark.parametrize("name", [name for name in FILES if name != "__init__.py"])
def test_a_change_in_any_of_them_is_seen_and_in_no_other(suite: Path, name: str) -> None:
    before = suite_hash("changing_suite.bench")
    assert suite_hash("changing_suite.bench:cheat") == before
    (suite / name).write_text(FILES[name] + "# x\n")
    assert (suite_hash("changing_suite.bench") == before) == (name == "_unused.py")


def test_a_file_that_is_being_edited_still_has_a_hash(suite: Path) -> None:
    (suite / "bench.py").write_text("def (")
    assert list(own_sources("changing_suite.bench")) == ["changing_suite.bench"]


def test_no_module_has_no_hash() -> None:
    assert suite_hash("") == suite_hash("no_such_package.bench") == ""
