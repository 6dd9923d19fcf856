"""Which benchmarks exist: found by the entry-point group ``aieng_bench.suites``, one package per suite, one file per benchmark.

A suite is a package; every module in it (not sub-package) whose name does not start with an underscore and that has a module-level
``benchmark`` (or ``static``, see machine_code.py) is one. Another distribution adds its suite the same way, with nothing registered
here; one that cannot be imported is left out, and said to be so, and the others are still there.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import TypeVar

from aieng_bench.define import REDTEAM, Benchmark, Case
from aieng_bench.machine_code import StaticBenchmark
from aieng_bench.report.declare import Module

GROUP = "aieng_bench.suites"
REDTEAM_GROUP = "aieng_bench.redteam"
"""Group of packages whose modules hold benchmarks that cheat (see aieng_bench.redteam), several to a module and under any name."""
B = TypeVar("B", Benchmark, StaticBenchmark)


class NoMatch(LookupError):
    """No benchmark matches; ``nearest`` holds the most similar names."""

    def __init__(self, pattern: str, nearest: list[str], what: str = "benchmark") -> None:
        self.pattern, self.nearest = pattern, nearest
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
        super().__init__(f"no {what} matches {pattern!r}{hint}")


def benchmarks() -> dict[str, Benchmark]:
    """All benchmarks by name, sorted."""
    return _discovered(GROUP)[0]


def left_out() -> dict[str, str]:
    """Modules of suites that bring no benchmark although they should, and why."""
    return _discovered(GROUP)[1]


def cheats() -> dict[str, Benchmark]:
    """All cheats of the red team by name, sorted; no run finds them by a pattern."""
    return _discovered(REDTEAM_GROUP)[0]


def cheats_left_out() -> dict[str, str]:
    """Modules of the red team that cannot be imported, and why."""
    return _discovered(REDTEAM_GROUP)[1]


def statics() -> dict[str, StaticBenchmark]:
    """All static benchmarks by name, sorted."""
    return _discovered(GROUP)[2]


@cache
def _discovered(group: str) -> tuple[dict[str, Benchmark], dict[str, str], dict[str, StaticBenchmark]]:
    found: dict[str, Benchmark] = {}
    static: dict[str, StaticBenchmark] = {}
    broken: dict[str, str] = {}
    for suite in sorted(entry_points(group=group), key=lambda e: e.name):
        try:
            modules = [f"{suite.value}.{m}" for m in _modules(suite.value)]
        except Exception as error:  # whatever a stranger's package raises
            broken[suite.value] = f"{type(error).__name__}: {error}"
            continue
        for name in modules:
            try:
                module = importlib.import_module(name)
                if isinstance(code := getattr(module, "static", None), StaticBenchmark):
                    if code.name in static:
                        raise ValueError(f"static benchmark {code.name!r} is declared twice")
                    code.suite = suite.name
                    static[code.name] = code
                for attribute in ("benchmark",) if group == GROUP else vars(module):
                    benchmark = getattr(module, attribute, None)
                    if isinstance(benchmark, Benchmark):
                        _check(benchmark, found)
                        benchmark.suite, benchmark.module = suite.name, name
                        if group == REDTEAM_GROUP:
                            benchmark.suite, benchmark.module = REDTEAM, f"{name}:{attribute}"
                        found[benchmark.name] = benchmark
            except Exception as error:
                broken[name] = f"{type(error).__name__}: {error}"
    return dict(sorted(found.items())), broken, dict(sorted(static.items()))


def _modules(package: str) -> list[str]:
    path = importlib.import_module(package).__path__
    return [m.name for m in pkgutil.iter_modules(path) if not m.ispkg and not m.name.startswith("_")]


def _check(benchmark: Benchmark, found: dict[str, Benchmark]) -> None:
    if benchmark.name in found:
        raise ValueError(f"benchmark {benchmark.name!r} is declared in {found[benchmark.name].module} already")
    if benchmark.baseline not in benchmark.contenders:
        raise ValueError(f"{benchmark.name}: its baseline {benchmark.baseline!r} is not one of its contenders")


def load(module: str) -> Benchmark:
    """The benchmark that ``module`` names: ``package.module``, which calls it ``benchmark``, or ``package.module:name``.

    Worker processes find theirs by it, without looking for all others.
    """
    path, _, name = module.partition(":")
    found = getattr(importlib.import_module(path), name or "benchmark")
    if not isinstance(found, Benchmark):
        raise TypeError(f"{module} is a {type(found).__name__}, not a Benchmark")
    return found


def find(*patterns: str) -> list[Benchmark]:
    """Benchmarks whose name, or suite, matches any shell-style pattern (a bare group such as ``attention`` means ``attention*``).

    In the order of the patterns, then of names; what a pattern asks of cases (:func:`asks`) is not looked at. Raises NoMatch for
    the first pattern that matches nothing.
    """
    known = benchmarks()
    chosen: dict[str, Benchmark] = {}
    for pattern in patterns or ("*",):
        chosen |= _hits(pattern, known)
    return list(chosen.values())


def find_static(*patterns: str) -> list[tuple[StaticBenchmark, str]]:
    """Static benchmarks, each with the pattern of its kernels: ``attention:*dq*`` means kernels like ``*dq*`` of ``attention*``."""
    known = statics()
    chosen: list[tuple[StaticBenchmark, str]] = []
    for pattern in patterns or ("*",):
        name, _, kernels = pattern.partition(":")
        chosen += [(benchmark, kernels or "*") for benchmark in _hits(name, known).values()]
    return chosen


def _hits(pattern: str, known: Mapping[str, B]) -> dict[str, B]:
    hits = {n: b for n, b in known.items() if matches(asks(pattern)[0], b)}
    if not hits:
        groups: set[str] = {n.split("/")[0] for n in known} | {b.suite for b in known.values()}
        raise NoMatch(pattern, nearest(pattern, sorted({*known, *groups})))
    return hits


def module(suite: str) -> Module:
    """The report that a suite declares, in its package's ``_report.py``, as ``module``; raises NoMatch with the nearest names."""
    found = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    if suite not in found or importlib.util.find_spec(f"{found[suite]}._report") is None:
        declared = [name for name, package in sorted(found.items()) if importlib.util.find_spec(f"{package}._report")]
        raise NoMatch(suite, declared, "suite with a report")
    declared_here = importlib.import_module(f"{found[suite]}._report").module
    if not isinstance(declared_here, Module):
        raise TypeError(f"{found[suite]}._report.module is a {type(declared_here).__name__}, not a Module")
    return declared_here


def nearest(name: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name, known, n=3, cutoff=0.3)


def asks(pattern: str) -> tuple[str, dict[str, str]]:
    """What a pattern asks of a benchmark's name, and of its cases: ``attention/forward[S=1024,causal=True]``."""
    found = re.fullmatch(r"(.*)\[([^\[\]]*=[^\[\]]*)\]", pattern)
    if found is None:
        return pattern, {}
    return found[1], dict(part.partition("=")[::2] for part in found[2].split(","))


def asked(pattern: str, benchmark: Benchmark, case: Case) -> bool:
    """Whether a pattern asks for this case of this benchmark."""
    name, axes = asks(pattern)
    return matches(name, benchmark) and all(str(case.get(axis)) == value for axis, value in axes.items())


def matches(pattern: str, benchmark: Benchmark | StaticBenchmark) -> bool:
    names = (benchmark.name, benchmark.name.split("/")[0], benchmark.suite)
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def get(name: str) -> Benchmark:
    """The benchmark of exactly this name; raises NoMatch with the nearest names."""
    known = benchmarks()
    if name not in known:
        raise NoMatch(name, nearest(name, list(known)))
    return known[name]
