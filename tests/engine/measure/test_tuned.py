"""What an autotuner chose, from what Triton prints."""

from __future__ import annotations

import inspect

import pytest

from aieng_bench.measure.tuned import BEGUN, choices, figures

PRINTED = """
Triton autotuning for function forward_kernel,
with key as (64, True, 1, 13, 'torch.bfloat16'),
finished after 0.48s,
best config selected: CHUNK: 64, BLOCK_M: 128, BLOCK_N: 64, num_warps: 4, num_ctas: 1, num_stages: 3, maxnreg: None;
"""
CHOICE = (("CHUNK", 64), ("BLOCK_M", 128), ("BLOCK_N", 64), ("num_warps", 4), ("num_ctas", 1), ("num_stages", 3))


def test_the_last_choice_for_the_present_case_counts() -> None:
    other = PRINTED.replace("BLOCK_M: 128", "BLOCK_M: 32")
    assert choices(f"{PRINTED}{BEGUN}\nnoise\n") == {}
    assert choices(f"{other}{BEGUN}\n{other}noise{PRINTED}") == {"forward_kernel": CHOICE}


def test_what_most_launches_chose_is_recorded_and_how_many_choices_there_were() -> None:
    other = (("BLOCK_M", 32),)
    found = figures([{"forward_kernel": CHOICE}, {}, {"forward_kernel": other}, {"forward_kernel": CHOICE}])
    assert found == {"forward_kernel choices": 2, **{f"forward_kernel {name}": value for name, value in CHOICE}}
    assert figures([]) == figures([{}]) == {}


def test_triton_still_prints_it_so() -> None:
    autotuner = pytest.importorskip("triton.runtime.autotuner")
    source = inspect.getsource(autotuner.Autotuner)
    assert "Triton autotuning for function {self.base_fn.__name__},\\nwith key as" in source
    assert "best config selected: {self.best_config};" in source
    config = autotuner.Config({"BLOCK_M": 128}, num_warps=4, num_stages=3)
    line = PRINTED.replace(PRINTED[PRINTED.index("CHUNK") : PRINTED.index(";")], str(config))
    assert {("BLOCK_M", 128), ("num_warps", 4), ("num_stages", 3)} <= set(choices(line)["forward_kernel"])
