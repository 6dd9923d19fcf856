"""A study without a system: figures from arithmetic."""

from __future__ import annotations

from collections.abc import Callable

from aieng_bench.define import Case, Metric, Study

benchmark = Study(
    name="toy/study",
    title="study",
    summary="figures from arithmetic",
    baseline="good",
    full={"cpu": [{"size": 3}]},
    quick={"cpu": [{"size": 3}]},
    metrics=(Metric("accuracy", "", "higher", floor=0.5), Metric("time_s", "s", "lower")),
    seeds=3,
    quick_seeds=2,
    suite="toys",
    module="toy_suite.study",
)


@benchmark.contender("good")
def good(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: {"accuracy": 0.9 + seed / 100, "time_s": 1.0 + seed, "_parameters": 7.0, "_peak_bytes": 100.0 + seed}


@benchmark.contender("bad")
def bad(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: {"accuracy": 0.4, "time_s": 1.0}


@benchmark.contender("diverges")
def diverges(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: {"accuracy": float("nan") if seed else 0.9, "time_s": 1.0}


@benchmark.contender("forgets")
def forgets(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: {"accuracy": 0.9}
