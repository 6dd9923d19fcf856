"""The report of a suite: its chapters, its figures, what it says when it lacks records, and that the same records give the same."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import module_records as made
import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from scipy import stats
from test_report_pages import Page
from typer.testing import CliRunner

from aieng_bench import registry
from aieng_bench.cli import app
from aieng_bench.record.reading import line
from aieng_bench.record.schema import Outcome, Record
from aieng_bench.report import module as reporting
from aieng_bench.report import paired, png, shown, static, write_module
from aieng_bench.report.chapters import Bullets, Chapter, Gallery, Grid
from aieng_bench.report.declare import Claim, Module, Pair
from aieng_bench.report.module_markdown import page_markdown, written
from aieng_bench.report.notebook import frame
from aieng_bench.report.page import module_html
from aieng_bench.report.view import Plot
from aieng_bench.summary import Ratio, groups

DECLARED = registry.module("vision")
CHAPTERS = [
    "answer",
    "claims",
    "machines",
    "vision-digits",
    "vision-segmentation",
    "pairs",
    "edge",
    "decisions",
    "missing",
    "limits",
]


@pytest.fixture(scope="module")
def page() -> reporting.ModulePage:
    return reporting.module_page(made.module_records(), DECLARED)


def words(chapter: Chapter) -> str:
    return "\n".join(written(block) for block in chapter.blocks if not isinstance(block, (Plot, Gallery)))


def test_every_chapter_is_there_and_shows_what_it_is_for(page: reporting.ModulePage) -> None:
    assert [chapter.anchor for chapter in page.chapters] == CHAPTERS
    digits = page.chapter("vision-digits").blocks
    titles = [block.title for block in digits if isinstance(block, (Plot, Gallery))]
    assert titles == [
        "test accuracy against latency p50, batch 1",
        "Learning curves",
        "Confusion of vit_aieng",
        "Confusion of resnet",
        "What vit_aieng sees",
    ]
    overlays = [block.title for block in page.chapter("vision-segmentation").blocks if isinstance(block, Gallery)]
    assert overlays == ["What vit_aieng sees", "What unet sees"], "predictions of both are shown, attention of one"
    with pytest.raises(KeyError, match="none of answer, claims, machines"):
        page.chapter("edges")


def test_the_figures_of_the_text_are_the_records(page: reporting.ModulePage) -> None:
    by_name = {r.contender.name: r for r in made.module_records() if r.definition.benchmark == "vision/digits"}
    own, theirs = (np.array(by_name[name].samples["accuracy"][0]) for name in ("vit_aieng", "resnet"))
    low, high = stats.t.interval(0.95, 2, loc=(own - theirs).mean(), scale=stats.sem(own - theirs))
    said = words(page.chapter("decisions"))
    assert f"differs by −{abs((own - theirs).mean()):.4f}, 95 % \\[−{abs(low):.4f}, −{abs(high):.4f}\\] over 3 seeds: worse" in said
    assert "Digits (epochs=18 on cpu (Example CPU 9000 @ 3.00GHz), full form): keep the CNN, unless latency matters more." in said
    assert "replace by the vision transformer if its latency is affordable." in said
    assert "vit\\_aieng takes 1.50× the peak memory and 1.50× the parameters of resnet" in said
    seeds = next(block for block in page.chapter("pairs").blocks if isinstance(block, Grid))
    assert [row[4].sort for row in seeds.rows[:3]] == list(own - theirs)
    assert [(row[2].sort, row[3].sort) for row in seeds.rows[:3]] == list(zip(theirs, own))


def test_claims_are_judged_by_the_records_alone() -> None:
    """By the mean where a level is claimed; where a difference is, by its interval over seeds."""
    qualities = {"resnet": (0.98, 0.985, 0.982), "vit_aieng": (0.95, 0.957, 0.953), "level": (0.98, 0.9851, 0.9819)}
    records = made.study("digits", {name: (found, 10.0) for name, found in qualities.items()}, baseline="resnet")
    claims = {
        "holds": [("resnet", 0.98, ""), ("resnet", 0.01, "vit_aieng"), ("vit_aieng", -0.04, "resnet"), ("level", -0.001, "resnet")],
        "does not hold": [("resnet", 0.99, ""), ("vit_aieng", 0.0, "resnet")],
        "not decided": [("level", 0.0, "resnet"), ("resnet", 0.0, "level")],
    }
    every = [Claim("said", "vision/digits", own, least, than) for found in claims.values() for own, least, than in found]
    silent = [Claim("said", "vision/digits", "vit_aieng", 0.0, "nobody"), Claim("said", "vision/clip", "vit_aieng", 0.0)]
    declared = dataclasses.replace(DECLARED, claims=(*every, *silent))

    def verdicts(records: list[Record]) -> list[str]:
        (table,) = (b for b in reporting.module_page(records, declared).chapter("claims").blocks if isinstance(b, Grid))
        return [row[-1].text for row in table.rows]

    assert verdicts(records) == [verdict for verdict, found in claims.items() for _ in found]
    quick = made.study("digits", {"resnet": ((0.98,), 10.0)}, baseline="resnet", command="aieng-bench run vision --quick")
    assert verdicts(quick) == ["quick form, not decided"] * 2


def test_a_study_without_records_is_said_to_have_none(page: reporting.ModulePage) -> None:
    absent = [name for name in DECLARED.studies if name not in ("vision/digits", "vision/segmentation")]
    (items,) = (block.items for block in page.chapter("missing").blocks if isinstance(block, Bullets))
    assert items == tuple(f"{name}: aieng-bench run {name}" for name in absent)
    assert page.scope.startswith(f"2 of {len(DECLARED.studies)} studies have records; 5 of 5 cells are ranked")
    assert "vision/edge has no records: nothing is known of exported or quantised models" in words(page.chapter("edge"))
    assert "GPU: not yet measured" in words(page.chapter("limits"))


def test_a_study_that_nobody_declared_comes_last() -> None:
    unknown = made.study("zebra", {"vit_aieng": ((0.5,), 10.0)}, baseline="vit_aieng")
    page = reporting.module_page([*unknown, *made.module_records()], DECLARED)
    assert [c.anchor for c in page.chapters][3:6] == ["vision-digits", "vision-segmentation", "vision-zebra"]


def test_edge_feasibility_says_who_keeps_up() -> None:
    page = reporting.module_page(made.module_records() + made.edge_records(), DECLARED)
    (grid,) = (block for block in page.chapter("edge").blocks if isinstance(block, Grid))
    assert {row[0].text: row[6].text for row in grid.rows} == {"torch": "no", "onnxruntime": "yes", "openvino": "yes"}
    assert {row[0].text: row[7].text for row in grid.rows} == {"torch": "no", "onnxruntime": "yes", "openvino": "in some seeds"}
    assert {row[5].text for row in grid.rows} == {"2.00 KiB"}
    assert "1 of 3 are feasible: onnxruntime (vision/edge epochs=18 on cpu)." in words(page.chapter("edge"))
    assert "2 of 3 stay within 33.3 ms a frame on the machine measured; the quickest is openvino" in words(page.chapter("edge"))
    assert "vision/edge" not in words(page.chapter("missing"))


def test_one_seed_or_no_pair_decides_nothing() -> None:
    one = made.study("digits", {"resnet": ((0.9,), 400.0), "vit_aieng": ((0.99,), 100.0)}, baseline="resnet")
    page = reporting.module_page(one, DECLARED)
    assert "not decided. vit\\_aieng has" in words(page.chapter("decisions"))
    assert "on one seed, which has no interval: undecided" in words(page.chapter("decisions"))
    alone = reporting.module_page(one[:1], DECLARED)
    assert "so the records give no answer" in words(alone.chapter("answer"))
    assert "decisions" not in [chapter.anchor for chapter in alone.chapters]
    failed = [r if r.contender.name == "resnet" else r.model_copy(update={"outcome": Outcome.CRASHED}) for r in one]
    page = reporting.module_page(failed, DECLARED)
    assert "so the records give no answer" in words(page.chapter("answer"))
    assert "Not ranked: vision/digits vit\\_aieng (CRASHED)" in words(page.chapter("limits"))
    with pytest.raises(ValueError, match="none is of a study of 'vision'"):
        reporting.module_page(synthetic.attention(), DECLARED)


def test_a_full_run_goes_before_a_quick_one_and_a_newer_before_an_older() -> None:
    def run(name: str, created: str, options: str = "", contenders: int = 2) -> list[Record]:
        figures: dict[str, Any] = {"resnet": ((0.9, 0.9), 400.0), "vit_aieng": ((0.9, 0.9), 400.0)}
        records = made.study("digits", figures, baseline="resnet", run=name, created=created)
        return [r.model_copy(update={"command": f"{r.command}{options}"}) for r in records][:contenders]

    full, quick, later = (
        run("a", "2026-01-01T00:00:00Z"),
        run("b", "2026-02-01T00:00:00Z", " --quick"),
        run("c", "2026-03-01T00:00:00Z"),
    )
    partial = run("d", "2026-04-01T00:00:00Z", contenders=1)
    assert {r.run for r in reporting.newest([*full, *quick])} == {"a"}
    assert {r.run for r in reporting.newest([*full, *later, *partial])} == {"c"}
    assert {r.run for r in reporting.newest(quick)} == {"b"}
    assert "2 of other runs of the same cells are passed over" in reporting.module_page([*full, *quick], DECLARED).scope
    assert "1 of 1 cases are quick forms" in words(reporting.module_page(quick, DECLARED).chapter("limits"))


def difference(low: float, high: float) -> paired.Difference:
    return paired.Difference(((0, 0.0, 0.0), (1, 0.0, 0.0)), (low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("interval", "latency", "decision"),
    [
        ((-0.05, -0.02), (0.5, 0.6), "keep the CNN"),
        ((-0.05, -0.02), (1.5, 1.6), "keep the CNN, unless latency matters more"),
        ((-0.005, 0.005), (1.5, 1.6), "replace by the ViT"),
        ((-0.005, 0.005), (0.5, 0.6), "keep the CNN"),
        ((-0.005, 0.005), (0.99, 1.01), "either will do"),
        ((-0.005, 0.005), (0.8, 1.2), "not decided"),
        ((0.02, 0.05), (1.5, 1.6), "replace by the ViT"),
        ((0.02, 0.05), (0.5, 0.6), "replace by the ViT if its latency is affordable"),
        ((0.02, 0.05), (0.8, 1.2), "replace by the ViT for its quality; latency not decided"),
        ((-0.02, 0.03), (1.5, 1.6), "not decided"),
    ],
)
def test_the_numbers_choose_the_decision(interval: tuple[float, float], latency: tuple[float, float], decision: str) -> None:
    declared = Module("m", "t", "q", "CNN", "ViT", (), (), ())
    one = paired.comparisons(groups(made.module_records()), DECLARED)[0]
    found = paired.Comparison(
        one.group, one.incumbent, one.challenger, one.quality, one.cost, difference(*interval), Ratio(1.0, *latency, "seeds", 2), {}
    )
    assert paired.decision(found, declared)[0] == decision


def test_pairs_are_of_their_study_alone() -> None:
    (group, _) = groups(made.module_records())
    assert paired.compared(group, Pair("vision/other", "resnet", "vit_aieng")) is None
    assert paired.compared(group, Pair("vision/digits", "resnet", "absent")) is None
    assert paired.compared(group, Pair("vision/digits", "resnet", "vit_aieng")) is not None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.floats(0, 0.1))
def test_a_contender_is_equal_to_itself(values: list[float], margin: float) -> None:
    (record, *_) = made.study("digits", {"resnet": (tuple(values), 400.0)}, baseline="resnet")
    found = paired.differing(record, record, "accuracy")
    assert found is not None
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert paired.judged(found, margin) == "equal"


def test_a_matrix_sums_the_seeds_and_tells_the_commonest_mistake() -> None:
    (record, *_) = made.module_records()
    found = shown.matrix(record)
    assert found is not None
    assert found.counts == ((90, 3, 0), (0, 84, 12), (6, 0, 99))
    assert shown.worst(found) == "The commonest mistake is two taken for three: 12 of 96."
    assert shown.confusion(record.model_copy(update={"exhibits": {}})) is None


def test_curves_are_means_over_seeds() -> None:
    group = groups(made.module_records())[0]
    plot = shown.learning(group, reporting.plots.Roles())
    assert plot is not None
    trace = next(t for t in plot.json["data"] if t["name"] == "resnet")
    assert trace["x"] == [float(n) for n in range(1, 9)]
    assert trace["y"][-1] == pytest.approx(np.mean([0.98, 0.985, 0.982]) * (1 - 0.7**8))


def test_pixels_and_figures_become_readable_files(tmp_path: Path, page: reporting.ModulePage) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    (tmp_path / "small.png").write_bytes(png.png(pixels))
    assert np.array_equal(np.round(imread(tmp_path / "small.png") * 255).astype(np.uint8), pixels)
    markdown, figures = page_markdown(page)
    assert re.findall(r"\]\((vision-figures/[^)]+)\)", markdown) == list(figures)
    for path, content in figures.items():
        (tmp_path / "figure.png").write_bytes(content)
        drawn = imread(tmp_path / "figure.png")
        assert drawn.shape[1] > 300, path
        assert drawn[..., :3].std() > 0.02, f"{path} is blank"
    assert {role for role in static.colours() if role.startswith("ours")} == {f"ours-{n}" for n in range(6)}


def test_the_page_has_every_chapter_and_nothing_that_asks_a_network(tmp_path: Path) -> None:
    hostile = [
        r.model_copy(update={"contender": r.contender.model_copy(update={"name": f"{name}{r.contender.name}"})})
        for name, r in zip(
            synthetic.HOSTILE, made.study("digits", {f"c{n}_aieng": ((0.9, 0.91), 9.0) for n in range(6)}, baseline="c")
        )
    ]
    for records in (made.module_records(), hostile):
        (tmp_path / "page.html").write_text(module_html(reporting.module_page(records, DECLARED)))
        read = Page(tmp_path / "page.html")
        assert set(read.links) <= {f"#{anchor}" for anchor in read.ids} | {"report.css", "report.js", "data:,", "#main"} | {
            link for link in read.links if link.startswith("data:image/png;base64,")
        }
        assert not read.handlers
        assert not {"iframe", "object", "embed", "form", "style"} & read.tags
        assert all(json.loads(figure)["data"] for figure in read.json)
    (tmp_path / "page.html").write_text(module_html(reporting.module_page(made.module_records(), DECLARED)))
    assert [anchor for anchor in Page(tmp_path / "page.html").ids if anchor in CHAPTERS] == CHAPTERS


def test_the_notebook_runs_and_the_same_records_give_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outputs are those of the records that its first cell reads."""
    (tmp_path / "records.jsonl").write_text("".join(line(record) + "\n" for record in made.module_records()))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["report", "records.jsonl", "--module", "vision", "--out", "first"], catch_exceptions=False)
    assert done.exit_code == 0
    content = json.loads((tmp_path / "first/vision.ipynb").read_text())
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell["outputs"] and cell["outputs"][0]["output_type"] != "error" for cell in cells)
    assert "read('records.jsonl')" in cells[0]["source"][5]
    kinds = [kind for cell in cells for output in cell["outputs"] for kind in output.get("data", {})]
    _, figures = page_markdown(reporting.module_page(made.module_records(), DECLARED))
    assert kinds.count("image/png") == len(figures)
    table = "".join(cells[-1]["outputs"][0]["data"]["text/plain"])
    assert "0.9823" in table
    for file in write_module(made.module_records(), DECLARED, "records.jsonl", tmp_path / "again"):
        name = file.relative_to(tmp_path / "again")
        assert (tmp_path / "first" / name).read_bytes() == file.read_bytes(), name


def test_a_frame_has_every_sample_of_what_is_ranked() -> None:
    records = made.module_records()
    found = frame([*records[:1], records[1].model_copy(update={"outcome": Outcome.CRASHED})])
    assert len(found) == 3 * len(made.STUDY)
    assert found.query("metric == 'accuracy'")["value"].tolist() == [0.98, 0.985, 0.982]


def test_a_suite_without_a_report_or_records_is_a_line_and_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text("".join(line(record) + "\n" for record in synthetic.attention()))
    for suite, said in (
        ("kernels", "no suite with a report matches 'kernels'; nearest: vision"),
        ("vision", "holds no records of a study"),
    ):
        done = CliRunner().invoke(app, ["report", str(tmp_path / "records.jsonl"), "--module", suite, "--out", str(tmp_path)])
        assert done.exit_code == 3
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
