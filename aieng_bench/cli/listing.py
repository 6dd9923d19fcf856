"""``ls``: what there is to measure."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aieng_bench.cli.console import console, print_json
from aieng_bench.cli.errors import find
from aieng_bench.define import Benchmark

DEVICES = ("cpu", "cuda")


def ls(
    pattern: Annotated[str, typer.Argument(help="Shell-style pattern of names, groups or suites.")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List benchmarks, their cases and contenders."""
    found = find(pattern)
    if as_json:
        print_json([describe(benchmark) for benchmark in found])
        return
    out = console()
    for benchmark in found:
        ours = [c.name for c in benchmark.contenders.values() if c.kind == "ours"]
        others = [c.name for c in benchmark.contenders.values() if c.kind == "baseline" and c.name != benchmark.baseline]
        cases = ", ".join(f"{len(benchmark.cases(d))} ({len(benchmark.cases(d, quick=True))} quick) on {d}" for d in DEVICES)
        out.print(benchmark.name, style="bold", end="")
        out.print(f"  {benchmark.kind} of suite {benchmark.suite}: {benchmark.title}")
        for name, text in (
            ("cases", cases),
            ("ours", ", ".join(ours) or "–"),
            ("against", ", ".join([f"{benchmark.baseline} (named)", *others])),
        ):
            out.print(f"  {name:8} {text}", soft_wrap=True)
    out.print(f"\n{len(found)} benchmarks. Measure with: aieng-bench run '{found[0].name}' --quick", style="dim")


def describe(benchmark: Benchmark) -> dict[str, Any]:
    return {
        "name": benchmark.name,
        "suite": benchmark.suite,
        "kind": benchmark.kind,
        "title": benchmark.title,
        "summary": benchmark.summary,
        "baseline": benchmark.baseline,
        "metrics": [{"name": m.name, "unit": m.unit, "better": m.better, "title": m.title} for m in benchmark.metrics],
        "contenders": [
            {"name": c.name, "kind": c.kind, "devices": c.devices, "dtypes": c.dtypes, "requires": c.requires, "package": c.package}
            for c in benchmark.contenders.values()
        ],
        "cases": {
            device: {"full": [c.id for c in benchmark.cases(device)], "quick": [c.id for c in benchmark.cases(device, quick=True)]}
            for device in DEVICES
        },
    }
