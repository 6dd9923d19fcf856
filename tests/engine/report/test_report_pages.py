"""What is on the pages: every record, a figure only where it may be shown, the same bytes every time."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import synthetic
from plotly import graph_objects

from aieng_bench import calibration
from aieng_bench.calibration import HEADS
from aieng_bench.record.schema import Record
from aieng_bench.report import format as fmt
from aieng_bench.report import write
from aieng_bench.summary import groups


class Page(HTMLParser):
    """The rows of the leaderboards as lists of cell texts, the ids and links, and every tag that was opened."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.json: list[str] = []
        self._in_json = self._in_cell = False
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.handlers += [name for name in values if name.startswith("on")]
        self._in_json = tag == "script" and values.get("type") == "application/json"
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False
        if tag == "script":
            self._in_json = False

    def handle_data(self, data: str) -> None:
        if self._in_json:
            self.json.append(data)
        elif self._in_cell:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def page(site: Path) -> Page:
    return Page(site / "index.html")


def test_every_record_is_a_row_and_a_markdown_line(site: Path, page: Page) -> None:
    records = synthetic.run()
    other = {"#", HEADS[0], *(row[0] for row in calibration.load().rows)}
    rows = [row for row in page.rows if len(row) > 3 and row[0] not in other]
    assert len(rows) == len(records)
    for record in records:
        assert any(fmt.clean(record.contender.name) in row[1] and fmt.clean(record.command) in row[-1] for row in rows)
    lines = [line for line in (site / "index.md").read_text().splitlines() if re.match(r"\| (\d+|–) \|", line)]
    assert len(lines) == len(records)


def test_ranked_rows_show_their_figures(page: Page) -> None:
    """The best attention contender: its medians, its ratios and its limit as computed by the summary."""
    best = groups(synthetic.run())[0].rows[0]
    row = next(row for row in page.rows if row[1:2] and row[1].startswith(best.record.contender.name) and row[0] == "1")
    latency = best.medians["latency_us"]
    assert row[2] == fmt.digits(latency / 1e3)
    assert best.speedup_fastest is not None
    assert best.speedup is not None
    assert row[4] == fmt.ratio(best.speedup_fastest).replace(" ", "", 1)
    assert row[5] == fmt.ratio(best.speedup).replace(" ", "", 1)
    assert row[6].startswith("PASSED")
    assert row[7] == "yes"
    assert row[9].endswith("FLOP/s")
    assert fmt.percent(best.percent_of_limit) in row[10]
    assert "compute binds" in row[10]


def test_rows_that_are_not_ranked_show_a_reason_and_no_figure(site: Path, page: Page) -> None:
    unranked = [record for record in synthetic.run() if not record.ranked]
    rows = [row for row in page.rows if row and row[0] == "–"]
    assert len(rows) == len(unranked)
    assert all(len(row) == 4 for row in rows), "rank, name, one cell for the reason, command"
    reasons = " ".join(row[2] for row in rows)
    for word in ("UNSUPPORTED", "CRASHED", "TIMEOUT", "OOM", "OOM_HOST", "ERROR", "INCORRECT", "UNCHECKED", "NOISY", "SUSPECT"):
        assert word in reasons
    noisy = next(record for record in unranked if record.contender.name == "noisy_neighbour")
    shown = next(row[2] for row in rows if row[1].startswith("noisy_neighbour"))
    assert shown == f"NOISY{noisy.quality_reason}"
    for line in (site / "index.md").read_text().splitlines():
        if line.startswith("| – |"):
            assert set(re.split(r"(?<!\\)\|", line)[4:-2]) == {" – "}


def test_no_speed_of_a_wrong_contender_reaches_a_plot(page: Page) -> None:
    names = {trace["name"] for text in page.json for trace in json.loads(text)["data"]}
    assert "cpu_avx512_bf16" in names
    assert not names & {"gives_nan", "noisy_neighbour", "faster_than_light", "old_library", "vit_flash"}


def test_hostile_names_open_no_tag_and_no_link(page: Page) -> None:
    assert page.handlers == []
    assert not page.tags & {"img", "iframe", "object", "form"}
    assert all(re.fullmatch(r"#[a-z0-9-]+|data:,|[a-z0-9.-]+", link) for link in page.links)
    assert len(page.ids) == len(set(page.ids))


def test_hostile_names_are_inert_in_plotly(tmp_path: Path) -> None:
    """plotly reads some HTML in its texts, so names reach it escaped; and no name ends the JSON's script element."""
    write(synthetic.under_hostile_names(), tmp_path, synthetic.HOSTILE[2])
    hostile = Page(tmp_path / "index.html")
    assert hostile.handlers == []
    assert not hostile.tags & {"img", "iframe", "form"}
    assert len(hostile.json) == 3
    for text in hostile.json:
        figure = json.loads(text)
        graph_objects.Figure(figure)  # which refuses what plotly does not know
        for trace in figure["data"]:
            texts = [trace["name"], *trace.get("hovertext", []), *trace.get("text", [])]
            assert not any(re.search("<(?!br>)", text) for text in texts)


def test_the_summary_gives_the_geometric_mean_and_its_range(page: Page) -> None:
    best = [next(row for row in group.rows if row.record.contender.kind == "ours") for group in groups(synthetic.attention())]
    values = [row.speedup_fastest.value for row in best if row.speedup_fastest]
    assert len(values) == 6
    line = next(row for row in page.rows if row[0].startswith("Attention, forward"))
    assert line[1].startswith(f"{fmt.digits(math.prod(values) ** (1 / 6))}× mixed")
    assert f"{fmt.digits(min(values))}× to {fmt.digits(max(values))}×" in line[1]
    assert line[1].endswith("vs torch_blocked")
    assert line[2].endswith("vs torch_sdpa")


def test_a_rebuild_gives_the_same_bytes(site: Path, results: Path, tmp_path: Path) -> None:
    for old, records, title in ((site, synthetic.run(), "A run"), (results, synthetic.two_runs(), "Results")):
        written = write(records, tmp_path / title, title)
        assert {file.name for file in written} == {file.name for file in old.iterdir()}
        assert all(file.read_bytes() == (old / file.name).read_bytes() for file in written)


def test_records_survive_their_own_json(site: Path, tmp_path: Path) -> None:
    """A page built from records read back from disk is the page built from those in memory."""
    write([Record.model_validate_json(record.model_dump_json()) for record in synthetic.run()], tmp_path, "A run")
    assert (tmp_path / "index.html").read_bytes() == (site / "index.html").read_bytes()


def test_several_runs_have_a_page_each_and_an_index(results: Path) -> None:
    index = Page(results / "index.html")
    pages = [link for link in index.links if link.startswith("2026")]
    assert len(pages) == 2
    assert pages == sorted(pages, reverse=True), "newest first"
    for link in pages:
        assert (results / link).is_file()
        assert (results / link).with_suffix(".md").is_file()
        assert "index.html" in Page(results / link).links
        assert f"({Path(link).stem}.md)" in (results / "index.md").read_text()
    assert "Example GPU" in (results / pages[0]).read_text()
    assert "no GPU" in (results / pages[1]).read_text()


def test_nothing_to_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="records"):
        write([], tmp_path, "empty")


def test_a_run_in_which_nothing_is_ranked_still_has_its_page(tmp_path: Path) -> None:
    write([record for record in synthetic.run() if not record.ranked], tmp_path, "Nothing worked")
    text = (tmp_path / "index.html").read_text()
    assert "nothing of ours is ranked" in text
    assert "data-plot" not in text


def test_one_seed_and_one_launch_are_told(tmp_path: Path) -> None:
    """A study with one seed shows no interval; a single launch's interval is marked."""
    first = [cut(record, rounds=1) for record in synthetic.study()] + [cut(record, rounds=10) for record in synthetic.attention()]
    write(first, tmp_path, "Quick")
    text = (tmp_path / "index.html").read_text()
    assert "means over 1 seed " not in text
    assert "means over 1 seed" in text
    assert "one seed" in text
    assert "†" in text


def test_who_ran_fewer_seeds_is_told(tmp_path: Path) -> None:
    hurried, *others = synthetic.study()
    write([cut(hurried, rounds=2), *others], tmp_path, "Uneven")
    seeds = len(others[0].rounds[0])
    assert f"means over {seeds} seeds (of {hurried.contender.name} 2) with 95 % intervals" in (tmp_path / "index.html").read_text()


def cut(record: Record, rounds: int) -> Record:
    samples = {name: (launches[0][:rounds],) for name, launches in record.samples.items()}
    return record.model_copy(update={"samples": samples, "rounds": tuple(r[:rounds] for r in record.rounds[:1])})
