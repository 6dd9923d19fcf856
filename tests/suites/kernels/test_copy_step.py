"""The step that copies returns copies, and so does what it is timed beside."""

from __future__ import annotations

import pytest
import torch
from aieng_suites.kernels.copy_step import benchmark

from aieng_bench.define import Case


@pytest.mark.parametrize("name", [c.name for c in benchmark.contenders.values() if "cpu" in c.devices])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_results_are_copies(name: str, dtype: str) -> None:
    contender = benchmark.contenders[name]
    case = Case({"shape": "3x5x37x11", "dtype": dtype, "malloc": "tuned", "device": "cpu"})
    if reason := contender.refuses(case) or contender.unsupported():
        pytest.skip(reason)
    inputs = benchmark.inputs(case, torch.Generator().manual_seed(0))
    results = dict(zip(benchmark.outputs, contender.setup(case)(**inputs), strict=True))
    due = benchmark.oracle(case, inputs)
    assert all(torch.equal(results[x].double(), due[x]) for x in due)
    assert not {x.data_ptr() for x in results.values()} & {x.data_ptr() for x in inputs.values()}
