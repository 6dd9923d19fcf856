"""A study without a system: figures from arithmetic."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from aieng_bench.define import Case, Metric, Study
from aieng_bench.record.exhibits import Curve

benchmark = Study(
    name="toy/study",
    title="study",
    summary="figures from arithmetic",
    baseline="good",
    full={"cpu": [{"size": 3}, {"size": 4}, {"size": 5}]},
    quick={"cpu": [{"size": 3}]},
    metrics=(
        Metric("accuracy", "", "higher", floor=0.5, quick_floor=0.3),
        Metric("time_s", "s", "lower"),
        Metric("time_to_91_s", "s", "lower", optional=True),
    ),
    seeds=3,
    quick_seeds=2,
    preload=("wave",),
    suite="toys",
    module="toy_suite.study",
)


@benchmark.contender("good")
def good(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: {"accuracy": 0.9 + seed / 100, "time_s": 1.0 + seed, "_parameters": 7.0, "_peak_bytes": 100.0 + seed}


def told() -> dict[str, float]:
    modules = {f"_{name}": float(name in sys.modules) for name in ("torch", "wave")}
    return {"accuracy": 0.9, "time_s": 1.0, "_pid": os.getpid(), **modules}


@benchmark.contender("tells")
def tells(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: told()


@benchmark.contender("grows")
def grows(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: told() if bytearray(b"x" * (32 << 20)) else {}


@benchmark.contender("shows")
def shows(case: Case) -> Callable[[int], dict[str, float | Curve]]:
    return lambda seed: {"accuracy": 0.9, "time_s": 1.0, "learning": Curve(x="epoch", y="accuracy", points=((1, 0.5), (2, 0.9)))}


@benchmark.contender("shows_too_much")
def shows_too_much(case: Case) -> Callable[[int], dict[str, float | Curve]]:
    long = Curve(x="epoch", y="accuracy", points=tuple((n / 7, n / 3) for n in range(1000)))
    return lambda seed: {"accuracy": 0.9, "time_s": 1.0, **{f"learning {n}": long for n in range(9)}}


@benchmark.contender("bad")
def bad(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: {"accuracy": 0.4, "time_s": 1.0}


@benchmark.contender("diverges")
def diverges(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: {"accuracy": float("nan") if seed else 0.9, "time_s": 1.0}


@benchmark.contender("arrives")
def arrives(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: {"accuracy": 0.92, "time_s": 1.0, "time_to_91_s": 0.5 + seed}


@benchmark.contender("arrives_at_times")
def arrives_at_times(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: {"accuracy": 0.9, "time_s": 1.0, **({"time_to_91_s": 0.5} if seed != 1 else {})}


@benchmark.contender("breaks_off")
def breaks_off(case: Case) -> Callable[[int], dict[str, float]]:
    def run(seed: int) -> dict[str, float]:
        if seed == 2:
            raise RuntimeError("broke off")
        return {"accuracy": 0.9, "time_s": 1.0, **({"time_to_91_s": 0.5} if seed else {})}

    return run


@benchmark.contender("hurries", seeds=1)
def hurries(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: {"accuracy": 0.9, "time_s": 1.0}


@benchmark.contender("forgets")
def forgets(case: Case) -> Callable[[int], dict[str, float]]:
    return lambda seed: {"accuracy": 0.9}
