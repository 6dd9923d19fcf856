"""Tables in a terminal of 80 columns."""

from __future__ import annotations

import io

import pytest
from made import record
from rich.console import Console

from aieng_bench.cli import tables
from aieng_bench.record.schema import Definition, MetricInfo, Record
from aieng_bench.summary import groups

METRICS = (
    MetricInfo(name="accuracy", unit="", better="higher", title="accuracy on the held-out test set"),
    MetricInfo(name="training_s", unit="s", better="lower", title="training time"),
    MetricInfo(name="latency_us", unit="µs", better="lower", title="latency of a single image"),
)
STUDY = Definition(
    suite="vision", benchmark="vision/digits", kind="study", title="", summary="", baseline="resnet", metrics=METRICS, hash="1"
)


def study(names: list[str]) -> list[Record]:
    """The first is the baseline."""
    definition = STUDY.model_copy(update={"baseline": names[0]})
    figures = {
        name: {"accuracy": [[0.98765 - i / 100]], "training_s": [[12.345 + i]], "latency_us": [[1234567.0 + i]]}
        for i, name in enumerate(names)
    }
    return [record(name, definition=definition, case={"device": "cpu"}, samples=f, rounds=[[0]]) for name, f in figures.items()]


def shown(records: list[Record], width: int) -> str:
    out = Console(file=io.StringIO(), width=width, color_system=None)
    out.print(tables.unit(groups(records)[0]))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@pytest.mark.parametrize("contenders", [2, 4, 6, 12])
def test_no_figure_of_a_study_is_cut_at_80_columns(contenders: int) -> None:
    records = study(["resnet", *(f"vit_with_a_name_{i}" for i in range(1, contenders))])
    narrow = shown(records, 80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow
    wide = shown(records, 1000)
    figures = [word for line in wide.splitlines()[2:] for word in line.split() if any(c.isdigit() for c in word)]
    assert len(figures) > 4 * contenders
    for figure in figures:
        assert narrow.split().count(figure) >= wide.split().count(figure), figure


def test_the_name_of_a_baseline_is_not_cut_for_its_mark() -> None:
    records = study(["a_baseline_of_a_long_name", *(f"vit_with_a_name_{i}" for i in range(1, 6))])
    assert "● a_baseline_of_a_long_name" in shown(records, 80)
    assert "…" not in shown(records, 80)


def test_a_study_that_fits_is_one_table() -> None:
    records = study(["resnet", "vit_aieng", "vit_torch", "svc"])
    assert shown(records, 80).count("training time") == 1


def test_a_title_is_not_cut_into_letters_beside_many_contenders() -> None:
    records = study(["resnet", *(f"vit_name_{i}" for i in range(1, 4)), "vit_with_a_name"])
    words = shown(records, 80).split()
    assert {"held-out", "training", "latency"} <= set(words)
