"""``doctor`` and ``calibrate``: what this machine is, what it can run and why not the rest, and what it reaches."""

from __future__ import annotations

import shutil
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from aieng_bench.cli.console import console, print_json
from aieng_bench.cli.errors import INFRASTRUCTURE, NOTHING, fail, find

if TYPE_CHECKING:
    from rich.console import Console

    from aieng_bench.define import Benchmark


def doctor() -> None:
    """Say what this machine can run, and why not the rest."""
    from aieng_bench import machine

    out = console()
    here = machine.environment(threads=machine.core_count())
    gpu = f"{here.gpu}, {here.gpu_memory_gib} GiB, driver {here.driver}" if here.gpu else "none"
    if here.gpu and not machine.torch_has_cuda():
        gpu += "; the installed torch is built without CUDA, so it is not used"
    for name, value in (
        ("machine", here.machine),
        ("cpu", f"{here.cpu}, {here.cores} cores, {here.memory_gib} GiB; {', '.join(here.isa) or 'no vector extensions known'}"),
        ("gpu", gpu),
        ("system", f"{here.os}, Python {here.python}"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in here.libraries.items())),
        ("C++", machine.compiler() or str(machine.missing("compiler"))),
        ("nvcc", shutil.which("nvcc") or "not on PATH: CUDA kernels are not built here"),
        ("commit", f"{here.commit}{' with changes' if here.dirty else ''}" if here.commit else "outside a git checkout"),
    ):
        out.print(f"{name:10} {value}", soft_wrap=True)
    for benchmark in find():
        out.print()
        out.print(benchmark.name, style="bold")
        show_contenders(benchmark, out)


def show_contenders(benchmark: Benchmark, out: Console) -> None:
    """The contenders that run here, then the others by reason."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for name in benchmark.contenders:
        reasons[reason(benchmark, name) or ""].append(name)
    for why, names in sorted(reasons.items()):
        style = "yellow" if why else "green"
        out.print(f"  {'–' if why else '✓'} {', '.join(names)}{f': {why}' if why else ''}", style=style, soft_wrap=True)


def reason(benchmark: Benchmark, name: str) -> str | None:
    """Why a contender runs no case of its benchmark here, or None; the reason on the first device that it takes."""
    from aieng_bench import machine
    from aieng_bench.measure.runner import refusal

    cases = [case for device in machine.devices() for case in benchmark.cases(device)]
    cases += [case for device in ("cpu", "cuda") for case in benchmark.cases(device)]
    contender = benchmark.contenders[name]
    refusals = [refusal(contender, case) for case in cases if case["device"] in contender.devices]
    if not refusals:
        return f"runs on {' and '.join(contender.devices)}, where this benchmark has no cases"
    return None if None in refusals else refusals[0]


def calibrate(
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default the best there is.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds instead of about a minute.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Measure what this machine reaches: bandwidth by working set, and operations per second."""
    from aieng_bench import ceilings, machine
    from aieng_bench.report.format import quantity

    device = device or machine.default_device()
    if device not in machine.devices():
        fail(f"--device {device}: here: {', '.join(machine.devices())}", NOTHING)
    out = console(stderr=as_json)
    out.print(f"measuring {device} …", style="dim")
    try:
        found = ceilings.calibrate(device, quick)
    except RuntimeError as error:
        fail(str(error), INFRASTRUCTURE)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    for size, mixes in sorted(found.bandwidth.items()):
        figures = "  ".join(f"{mix} {quantity(rate, 'B/s')}" for mix, rate in mixes.items())
        out.print(f"{quantity(float(size), 'B'):>10}  {figures}", soft_wrap=True)
    for name, rate in found.rates.items():
        out.print(f"{name:>10}  {quantity(rate, 'FLOP/s' if name != 'exp' else 'exp/s')}")
    out.print(f"{found.machine}, {device}, {found.threads} threads", style="dim")
