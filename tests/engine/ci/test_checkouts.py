"""``ci`` for real, but tiny: a repository of two commits, checked out, measured, and nothing of it left behind."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from aieng_bench.ci.checkouts import NotBuilt, checkouts, listed
from aieng_bench.record.reading import load
from aieng_bench.record.schema import Correctness, Outcome

ROOT = Path(__file__).parents[3]
TINY = (
    "import aieng_bench.ci.interleaving as i; i.ROUNDS, i.UNIT_BUDGET_S, i.AGAIN = 2, 0.2, 1; "
    "from aieng_bench.cli import main; main()"
)


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plant_regression", ROOT / "scripts/plant_regression.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str, str]:
    folder = tmp_path / "repository"
    folder.mkdir()
    return (folder, *script().make(folder, slower=0.10))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", TINY, "ci", *arguments, "--device", "cpu"]


def surroundings(scratch: Path) -> dict[str, str]:
    scratch.mkdir()
    paths = (str(ROOT), str(ROOT / "kernels"), str(ROOT / "suites"))
    return {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": os.pathsep.join(paths)}


def worktrees(folder: Path) -> list[str]:
    done = subprocess.run(["git", "-C", str(folder), "worktree", "list"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_both_commits_are_measured_and_nothing_is_left(repository: tuple[Path, str, str], tmp_path: Path) -> None:
    folder, base, head = repository
    (folder / "planted/scale.py").write_text("raise SystemExit('the working tree is not what is measured')")
    out = tmp_path / "out"
    words = command(base, "HEAD", "planted", "--launches", "2", "--out", str(out))
    done = subprocess.run(words, cwd=folder, env=surroundings(tmp_path / "scratch"), capture_output=True, text=True)
    assert done.returncode in (0, 1, 3), done.stderr  # on a busy machine every sample may be SUSPECT
    for side, commit in (("base", base), ("head", head)):
        records = load(out / side).records
        assert {record.contender.name for record in records} == {"planted", "steady"}
        for record in records:
            assert (record.outcome, record.check.verdict) == (Outcome.RAN, Correctness.PASSED), record.check.reason
            assert record.environment.commit == commit
            assert len(record.samples["latency_us"]) == 2
            assert record.command.startswith(f"aieng-bench ci {base} HEAD planted")
    by_name = [{r.contender.name: r for r in load(out / side).records} for side in ("base", "head")]
    for name in ("planted", "steady"):
        assert by_name[0][name].inputs_hash == by_name[1][name].inputs_hash != ""
        assert by_name[0][name].rounds == by_name[1][name].rounds
    assert len(worktrees(folder)) == 1
    assert list((tmp_path / "scratch").iterdir()) == []


def test_ctrl_c_cleans_up(repository: tuple[Path, str, str], tmp_path: Path) -> None:
    folder, base, head = repository
    words = command(base, head, "--launches", "2", "--out", str(tmp_path / "out"))
    scratch = tmp_path / "scratch"
    process = subprocess.Popen(words, cwd=folder, env=surroundings(scratch), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(scratch.glob("*/head/checkout/planted")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert process.stderr is not None
    process.stderr.close()
    assert len(worktrees(folder)) == 1
    assert list(scratch.iterdir()) == []


def test_ctrl_c_while_git_is_at_work_cleans_up(repository: tuple[Path, str, str], tmp_path: Path) -> None:
    """What git starts, here a hook, would write into the folder after it was removed; and git had locked the worktree."""
    folder, base, head = repository
    marker, hook = tmp_path / "begun", folder / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {marker}\nsleep 3\nmkdir -p $PWD && touch $PWD/late\n")
    hook.chmod(0o755)
    code = "import sys; from aieng_bench.ci.checkouts import checkouts\nwith checkouts(*sys.argv[1:]): pass"
    scratch = tmp_path / "scratch"
    process = subprocess.Popen([sys.executable, "-c", code, base, head], cwd=folder, env=surroundings(scratch))
    deadline = time.monotonic() + 120
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    time.sleep(3.5)
    assert len(worktrees(folder)) == 1
    assert list(scratch.iterdir()) == []


def test_a_side_imports_its_own_state_and_the_engine_that_runs(
    repository: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, base, head = repository
    monkeypatch.chdir(folder)
    with checkouts(base, str(folder)) as (old, new):
        assert (old.commit, new.commit, new.dirty) == (base, head, False)
        assert "planted/scale" in listed(old)
        code = "import aieng_bench, planted.scale as s; print(aieng_bench.__file__, s.__file__, s.planted.__code__.co_consts)"
        found = [
            subprocess.run(
                [sys.executable, "-P", "-c", code], env={**os.environ, "PYTHONPATH": side.path}, capture_output=True, text=True
            ).stdout.split(maxsplit=2)
            for side in (old, new)
        ]
        assert found[0][0] == found[1][0] == str(old.engine / "aieng_bench/__init__.py")
        assert [consts.strip() for *_, consts in found] == ["(None, 100)", "(None, 110)"]
        assert found[1][1] == str(folder / "planted/scale.py")


def test_a_project_is_installed_without_touching_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "ci-toy"\nversion = "1"\n[tool.setuptools]\npy-modules = ["ci_toy"]\n'
    )
    (project / "ci_toy.py").write_text("here = 1\n")
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # pip's own reading: no isolation, so nothing is downloaded
    with checkouts(str(project), str(project)) as (old, _):
        assert (old.site / "ci_toy.py").is_file()
        assert list(old.site.glob("ci_toy-1.dist-info"))
        assert importlib.util.find_spec("ci_toy") is None
    (project / "pyproject.toml").write_text("[build-system]\nrequires = []\nbuild-backend = 'none.such'\n")
    with pytest.raises(NotBuilt, match=r"base: .*pip install"), checkouts(str(project), str(project)):
        pass


@pytest.mark.parametrize("revision", ["--upload-pack=touch x", "no-such-branch", ""])
def test_what_names_no_state_is_refused(revision: str, repository: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository[0])
    with pytest.raises(NotBuilt, match=r"base: .* is neither"), checkouts(revision, "HEAD"):
        pass
