"""docs/adding-a-suite.md, followed to the letter: its files are written, its commands run, and it has no other block."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from aieng_bench.record.reading import load

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs/adding-a-suite.md"
FENCED = re.compile(r"(?:`([\w/-]+\.\w+)`:\n\n)?```(\w*)\n(.*?)```\n", re.DOTALL)
"""A file has its name before it; commands have no language; what is left is the entry point of a suite in this repository."""
BLOCKS = [(match[1] or "", match[2], match[3]) for match in FENCED.finditer(DOCUMENT.read_text())]
FILES = {name: text for name, _, text in BLOCKS if name}
COMMANDS = [text.splitlines() for name, language, text in BLOCKS if not name and not language]
(OWN,) = (text for name, language, text in BLOCKS if not name and language)
PROGRAMS = {"pip": ["-m", "pip"], "aieng-bench": ["-m", "aieng_bench"], "python": []}


def follow(line: str, folder: Path, path: list[Path], code: int = 0) -> str:
    """Run a command of the document with our Python, importing from ``path`` first; pip installs there and downloads nothing."""
    program, *words = line.split()
    pip = {"PIP_TARGET": str(path[0]), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_QUIET": "1"}
    imports = os.pathsep.join(map(str, [*path, os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, *PROGRAMS[program], *words],
        cwd=folder,
        env={**os.environ, **pip, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": imports},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_every_block_is_followed() -> None:
    assert DOCUMENT.read_text().count("```") == 2 * len(BLOCKS)
    assert sorted(FILES) == [
        "my-sums/my_sums/__init__.py",
        "my-sums/my_sums/digits.py",
        "my-sums/pyproject.toml",
        "my-sums/test_digits.py",
    ]
    assert [line.split()[0] for lines in COMMANDS for line in lines] == ["pip", *["aieng-bench"] * 4, "python"]


def test_a_package_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    folder, installed = tmp_path / "my-sums", tmp_path / "installed"
    install, ls, run, show, report = COMMANDS[0]
    follow(install, folder, [installed])
    shutil.rmtree(folder / "my_sums")  # what is measured is what was installed
    listed = follow(ls, folder, [installed])
    assert "sums/digits  study of suite sums" in listed
    assert "2 (1 quick) on cpu" in listed
    follow(run, folder, [installed], code=2)
    records = {record.contender.name: record for record in load(folder / "runs/sums").records}
    assert {name: str(record.check.verdict) for name, record in records.items()} == {
        "fsum": "PASSED",
        "numpy": "PASSED",
        "halves": "PASSED",
        "rounded": "INCORRECT",
    }
    assert "worse than the floor 12" in records["rounded"].check.reason
    assert [len(launch) for launch in records["fsum"].samples["digits"]] == [2], "a quick run has two seeds"
    shown = follow(show, folder, [installed])
    assert "● fsum" in shown
    assert "INCORRECT" in shown
    follow(report, folder, [installed])
    assert "sums/digits" in (folder / "page/index.html").read_text()
    (test,) = COMMANDS[1]
    assert "2 passed" in follow(test, folder, [installed])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the suites with the new one, and what installing it would say of its entry points."""
    shutil.copytree(ROOT / "suites", tmp_path / "suites", ignore=shutil.ignore_patterns("__pycache__"))
    suite = {"__init__.py": FILES["my-sums/my_sums/__init__.py"], "digits.py": FILES["my-sums/my_sums/digits.py"]}
    write(tmp_path / "suites/aieng_suites/sums", suite)
    ((group, points),) = tomllib.loads(OWN)["project"]["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    metadata = {"METADATA": "Metadata-Version: 2.1\nName: sums\nVersion: 1\n", "entry_points.txt": "\n".join(lines)}
    write(tmp_path / "suites/sums-1.dist-info", metadata)
    return tmp_path


def test_a_suite_of_this_repository(repository: Path) -> None:
    ls = COMMANDS[0][1]
    (listed,) = json.loads(follow(f"{ls} --json", repository, [repository / "suites"]))
    assert (listed["name"], listed["suite"]) == ("sums/digits", "sums")


def test_the_files_that_the_document_names_exist() -> None:
    named = re.findall(r"`((?:suites|tests)/[\w/.]+\.py)`", DOCUMENT.read_text())
    assert len(named) >= 3
    assert all((ROOT / name).is_file() for name in named)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert "aieng_suites.vision" in packages, "the list that a new suite is named in"
