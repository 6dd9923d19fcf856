"""A harness as many are: allclose on the first call, then the median of a loop over the same inputs, all in one process.

``python naive.py`` prints, as JSON on its last line, whether each cheat that runs on a CPU is accepted, and its time beside its
twin's. Each contender has a fork of its own, as some end their process and some leave it in a state.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

import torch

from aieng_bench import registry
from aieng_bench.measure.inputs import make_inputs
from aieng_bench.redteam import CHEAT

CALLS = 30


def check(function, inputs, expected):
    return torch.allclose(function(**inputs), expected, atol=1e-2, rtol=1e-2)


def measure(function, inputs):
    times = []
    for _ in range(CALLS):
        began = time.perf_counter_ns()
        function(**inputs)
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times)


def judge(benchmark, contender):
    (case,) = benchmark.cases("cpu")
    inputs = make_inputs(benchmark, case, 0)
    expected = benchmark.framework(case, inputs)["out"]
    function = contender.setup(case)
    return check(function, inputs, expected), measure(function, inputs)


def apart(benchmark, contender):
    """The verdict from a fork; what dies or raises is not accepted."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(writing, json.dumps(judge(benchmark, contender)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else (False, None)


def main():
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    torch.set_num_threads(1)
    found = {}
    for name, benchmark in registry.cheats().items():
        if benchmark.cases("cpu"):
            accepted, time_ns = apart(benchmark, benchmark.contenders[CHEAT])
            _, twin_ns = apart(benchmark, benchmark.contenders[benchmark.baseline])
            found[name.split("/")[1]] = {"accepted": accepted, "time_ns": time_ns, "twin_ns": twin_ns}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
