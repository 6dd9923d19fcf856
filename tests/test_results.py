"""What is published is whole, unedited, and what the README shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aieng_bench.record.publish import verify

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
