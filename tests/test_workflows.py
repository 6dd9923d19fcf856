"""A pull request from a fork gets no secret, no write token and no say in what is executed with one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aieng_bench.record.reading import line
from tests.engine.made import ENVIRONMENT, record

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / ".github").rglob("*.yml"))
WORKFLOWS = {file.name: file for file in FILES if file.parent.name == "workflows"}


def content(file: Path) -> dict[Any, Any]:
    """YAML 1.1 reads the key ``on`` as true."""
    loaded = yaml.safe_load(file.read_text())
    return loaded | {"on": loaded.get(True, loaded.get("on"))}


def steps(loaded: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    for job in loaded.get("jobs", {"": loaded.get("runs", {})}).values():
        yield from job.get("steps", [])


def triggers(loaded: dict[Any, Any]) -> set[str]:
    return set(loaded["on"]) if isinstance(loaded["on"], (dict, list)) else {loaded["on"]}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_action_is_pinned_and_no_event_text_reaches_a_shell(file: Path) -> None:
    for step in steps(content(file)):
        uses = step.get("uses", "./")
        assert uses.startswith("./") or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", uses), uses
        assert "${{" not in step.get("run", "")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_runs_a_stranger_s_code_has_no_secret_and_writes_nothing(name: str) -> None:
    text, loaded = WORKFLOWS[name].read_text(), content(WORKFLOWS[name])
    assert "pull_request_target" not in text
    if "pull_request" in triggers(loaded):
        assert loaded["permissions"] == {"contents": "read"}
        assert not [job for job in loaded["jobs"].values() if "permissions" in job or "secrets" in job or "environment" in job]
        assert not re.search(r"secrets\b|github\.token|GITHUB_TOKEN", text)
        assert all("self-hosted" not in str(job["runs-on"]) for job in loaded["jobs"].values())


def test_the_perf_action_needs_no_secret_either() -> None:
    text = (ROOT / ".github/actions/perf/action.yml").read_text()
    assert not re.search(r"secrets\b|github\.token|GITHUB_TOKEN", text)


def test_what_may_write_runs_the_default_branch_alone() -> None:
    loaded = content(WORKFLOWS["perf-comment.yml"])
    assert triggers(loaded) == {"workflow_run"}
    assert loaded["on"]["workflow_run"]["workflows"] == [content(WORKFLOWS["perf.yml"])["name"]]
    assert loaded["permissions"] == {}
    (job,) = loaded["jobs"].values()
    assert job["permissions"] == {"actions": "read", "contents": "read", "pull-requests": "write"}
    (checkout,) = (step for step in steps(loaded) if "checkout" in step.get("uses", ""))
    assert checkout["with"] == {"ref": "${{ github.event.repository.default_branch }}", "persist-credentials": False}
    assert not [step for step in steps(loaded) if "artifact" in step.get("uses", "") or "cache" in step.get("uses", "")]
    assert [step["run"] for step in steps(loaded) if "GH_TOKEN" in step.get("env", {})] == ["bash scripts/post_comment.sh"]


GH = """#!{python}
import json, os, re, shutil, sys
words = sys.argv[1:]
path = next(w for w in words if w.startswith("repos/"))
with open("calls", "a") as calls:
    calls.write(" ".join(words) + "\\n")
if path.endswith("/pulls"):
    print(os.environ["PULL"])
elif path.endswith("/artifacts"):
    print(os.environ["ARTIFACT"])
elif path.endswith("/zip"):
    shutil.copyfileobj(open("perf.zip", "rb"), sys.stdout.buffer)
elif "--method" not in words:
    print(os.environ["OLD"])
else:
    shutil.copy(next(w for w in words if w.startswith("body=@"))[6:], "body")
"""


def post(
    folder: Path, *, commit: str = str(ENVIRONMENT.commit), **answers: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the script beside a ``gh`` that answers as told and remembers what it was asked."""
    (folder / "gh").write_text(GH.replace("{python}", sys.executable))
    (folder / "gh").chmod(0o755)
    (folder / "python").unlink(missing_ok=True)
    (folder / "python").symlink_to(sys.executable)
    with zipfile.ZipFile(folder / "perf.zip", "w") as made:
        for side, latency in (("base", [[100.0, 101.0]] * 5), ("head", [[150.0, 151.0]] * 5)):
            made.writestr(f"{side}/records/a.json", line(record(latency=latency)))
    environment = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "REPOSITORY": "us/bench",
        "RUN": "5",
        "HEAD_SHA": commit,
        "HEAD_OWNER": "stranger",
        "HEAD_BRANCH": "$(touch owned)",
        **{"PULL": "7", "ARTIFACT": "11 1000", "OLD": "", **answers},
    }
    words = ["bash", str(ROOT / "scripts/post_comment.sh")]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert not (folder / "owned").exists()
    calls = (folder / "calls").read_text().splitlines()
    return done, [call for call in calls if "POST" in call or "PATCH" in call]


def test_one_comment_is_posted_and_then_updated(tmp_path: Path) -> None:
    done, (posted,) = post(tmp_path)
    assert done.returncode == 0, done.stderr
    assert posted.startswith("api --method POST repos/us/bench/issues/7/comments -F body=@")
    assert "**1 SLOWER**" in (tmp_path / "body").read_text()
    done, (_, patched) = post(tmp_path, OLD="99")
    assert done.returncode == 0
    assert patched.startswith("api --method PATCH repos/us/bench/issues/comments/99 -F body=@")


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"PULL": ""}, 0),
        ({"PULL": "7; rm -rf /"}, 0),
        ({"ARTIFACT": ""}, 0),
        ({"ARTIFACT": f"11 {2**40}"}, 1),
        ({"commit": "f" * 40}, 4),
    ],
    ids=json.dumps,
)
def test_nothing_is_posted_of_what_cannot_be_trusted(answers: dict[str, str], code: int, tmp_path: Path) -> None:
    done, posted = post(tmp_path, **answers)
    assert (done.returncode, posted) == (code, [])
