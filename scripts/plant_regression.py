"""A repository with a slow-down planted in its second commit, and ``aieng-bench ci`` run on it: does it find what is there?

    python scripts/plant_regression.py [--slower 0.10] [--launches 16] [--out DIR]

Two contenders call the same operator many times over: ``steady`` as often in both commits, ``planted`` more often in the second.
Prints what ``ci`` prints; ends with 0 if ``planted`` alone is SLOWER (with ``--slower 0``: nothing is), else with 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CALLS = 100
SUITE = '''"""``out = 2 a + b`` many times over; how often is the only difference between the commits."""

from aieng_bench.define import KernelBenchmark, Work

POINTS = {"cpu": [{"N": 16384, "dtype": "float32"}]}


def inputs(case, generator):
    import torch

    return {name: torch.randn(case.N, generator=generator) for name in ("a", "b")}


def oracle(case, inputs):
    return {"out": 2 * inputs["a"].double() + inputs["b"].double()}


def framework(case, inputs):
    return {"out": 2 * inputs["a"] + inputs["b"]}


benchmark = KernelBenchmark(
    name="planted/scale",
    title="scale",
    summary="out = 2 a + b, many times over",
    baseline="eager",
    full=POINTS,
    quick=POINTS,
    inputs=inputs,
    oracle=oracle,
    framework=framework,
    work=lambda case: Work(flops=2.0 * case.N, bytes=12.0 * case.N),
)


@benchmark.contender("eager", package="torch")
def eager(case):
    return lambda a, b: 2 * a + b


def repeated(calls):
    import torch

    def call(a, b):
        for _ in range(calls):
            out = torch.add(b, a, alpha=2)
        return out

    return call


@benchmark.contender("steady", kind="ours")
def steady(case):
    return repeated({calls})


@benchmark.contender("planted", kind="ours")
def planted(case):
    return repeated({planted})
'''


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=planted", "-c", "user.email=planted@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def make(folder: Path, slower: float) -> tuple[str, str]:
    """A repository in ``folder`` whose second commit calls ``planted`` more often by ``slower``; the two commits."""
    git(folder, "init", "--quiet")
    (folder / "planted").mkdir()
    (folder / "planted/__init__.py").touch()
    metadata = folder / "planted-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[aieng_bench.suites]\nplanted = planted\n")
    commits = []
    for calls in (CALLS, round(CALLS * (1 + slower))):
        text = SUITE.replace("{calls}", str(CALLS)).replace("{planted}", str(calls))
        (folder / "planted/scale.py").write_text(text)
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--allow-empty", "--message", f"planted calls {calls} times")
        commits.append(git(folder, "rev-parse", "HEAD"))
    return commits[0], commits[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slower", type=float, default=0.10)
    parser.add_argument("--launches", type=int, default=16)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commits = make(Path(folder), chosen.slower)
        words = ["ci", *commits, "planted", "--launches", str(chosen.launches), "--device", "cpu", "--json"]
        words += ["--out", str(chosen.out.resolve())] if chosen.out else []
        command = [sys.executable, "-m", "aieng_bench", *words]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    if not done.stdout:
        return 1
    slower = {change["contender"] for change in json.loads(done.stdout)["changes"] if change["verdict"] == "SLOWER"}
    wanted = {"planted"} if chosen.slower else set()
    print(f"SLOWER: {', '.join(sorted(slower)) or 'nothing'}; planted: {chosen.slower:.0%}", file=sys.stderr)
    return 0 if slower == wanted and done.returncode == (1 if wanted else 0) else 1


if __name__ == "__main__":
    sys.exit(main())
