"""What is published is whole, unedited, and what the README shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aieng_bench import registry
from aieng_bench.record.publish import verify
from aieng_bench.record.reading import load
from aieng_bench.report.chapters import Grid
from aieng_bench.report.module import module_page

ROOT = Path(__file__).parent.parent
PUBLISHED = sorted((ROOT / "results").glob("*/*.jsonl"))


def test_something_is_published() -> None:
    assert PUBLISHED


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_published_records_verify(file: Path) -> None:
    assert verify(file) == []


def test_results_and_reports_stay_small() -> None:
    """They are in every clone."""
    tracked = subprocess.run(["git", "ls-files", "results", "reports"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert sum((ROOT / name).stat().st_size for name in tracked.splitlines()) < 15 * 2**20


def test_readme_shows_the_newest_results() -> None:
    subprocess.run([sys.executable, "scripts/update_readme.py", "--check"], check=True, cwd=ROOT)


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_published_records_do_not_say_where_a_machine_keeps_things(file: Path) -> None:
    for record in load(file).records:
        assert 'File "/' not in record.log, f"{record.definition.benchmark} {record.contender.name}"


REACHED = (
    "a small CNN with augmentation reads the digits",
    "so does a ViT from scratch, nearly",
    "CLIP names the kind from a prompt",
    "LoRA is within a point of full fine-tuning (arXiv:2106.09685)",
    "an encoder-decoder learns to reverse and to sort",
)


def test_the_vision_suite_reaches_what_it_set_out_to() -> None:
    """By its report, of the full runs that are published."""
    records = [record for file in PUBLISHED for record in load(file).records]
    chapter = module_page(records, registry.module("vision")).chapter("claims")
    (table,) = (block for block in chapter.blocks if isinstance(block, Grid))
    verdicts = {(row[0].text, row[-1].text) for row in table.rows}
    assert {text for text, verdict in verdicts if verdict == "holds"} >= set(REACHED)
    assert not {text for text, verdict in verdicts if verdict == "does not hold"} & set(REACHED)
