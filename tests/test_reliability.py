"""docs/reliability.md: every fault has its row, and every test that a row names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = {row.split("|")[1].strip(): row for row in (ROOT / "docs/reliability.md").read_text().splitlines() if row.startswith("| F")}
MADE_ELSEWHERE = {"F22", "F23"}


def test_every_fault_has_its_row() -> None:
    assert list(ROWS) == [f"F{n}" for n in range(1, 28)]


@pytest.mark.parametrize("fault", ROWS)
def test_what_a_row_names_exists(fault: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", ROWS[fault])
    assert named or fault in MADE_ELSEWHERE
    assert ROWS[fault].count("::") == len(named)
    for file, test in named:
        defined = [node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
        assert test in defined, f"{file} has no {test}"
