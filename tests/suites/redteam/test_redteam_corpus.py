"""The corpus through the real engine: every cheat caught or waived by name, no honest twin refused; and through a naive harness."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from quiet import Quiet, Records

from aieng_bench import registry
from aieng_bench.cli.redteam import corpus
from aieng_bench.redteam import CHEAT, Row, challenge

CAUGHT = {
    "aliased_output": "shares memory with the input b",
    "all_zeros": "relative RMSE 1 ",
    "batch_detection": "INCORRECT",
    "cheap_approximation": "relative RMSE",
    "deferred_to_a_thread": "INCORRECT",
    "exit_after_an_answer": "CRASHED: exited with code 0",
    "expanded_output": "share memory",
    "forged_answer": "no answer to",
    "half_precision_accumulation": "relative RMSE",
    "half_precision_product": "relative RMSE",
    "lazy_output": "Promise, not a plain dense",
    "malformed_answer": "the answer to 'turn' has not the form of one",
    "more_threads": "Tampered: left torch with",
    "mutated_input": "INCORRECT",
    "one_output_buffer": "INCORRECT",
    "one_zeroed_row": "INCORRECT",
    "patched_clock": "Tampered: replaced time.perf_counter_ns",
    "patched_digest": "Tampered: replaced hashlib.sha256",
    "patched_randomness": "Tampered: replaced Random.randrange",
    "patched_statistics": "Tampered: replaced statistics.median",
    "precomputed_from_seed": "relative RMSE",
    "previous_output": "relative RMSE",
    "replay_by_content": "SUSPECT: a call on new values takes",
    "replay_by_pointer": "relative RMSE",
    "rewritten_clock": "SUSPECT",
    "right_where_sampled": "relative RMSE",
    "ring_of_buffers": "INCORRECT",
    "skip_every_tenth_call": "relative RMSE",
    "stale_memory": "relative RMSE",
    "stored_in_bfloat16": "relative RMSE",
    "tampered_file": "INCORRECT",
    "thief_outside_its_group": "left a process running",
    "untransposed_output": "relative RMSE",
    "warm_up_detection": "relative RMSE",
    "wrong_device": "Tensor without memory",
    "wrong_dtype": "dtype float16",
    "wrong_shape": "shape (1, 256)",
}
"""What catches each: a cheat that crashed by mistake would look caught as well. A buffer that was written over is told from wrong
values only if no wrong values were seen first, which on a busy machine they may be."""
WAIVED = {"reference_in_disguise", "rewritten_clock_slightly", "rewritten_referee", "slowed_rivals", "spinning_threads"}
ON_CUDA = {"deferred_to_a_stream", "left_on_the_host", "patched_event"}

NAIVELY_REFUSED = {
    "exit_after_an_answer": "writes to a channel that a naive harness has not",
    "expanded_output": "wrong values too",
    "forged_answer": "as above",
    "malformed_answer": "as above",
    "tampered_file": "edits a file that a naive harness has not",
    "untransposed_output": "wrong values too",
    "wrong_device": "allclose raises",
    "wrong_dtype": "allclose raises",
}
RACES = {"deferred_to_a_thread"}
"""Accepted by a naive harness if the thread is done before it compares, which only the machine's load decides."""


def test_every_cheat_has_a_twin_a_line_and_an_expectation() -> None:
    known = {name.split("/")[1]: benchmark for name, benchmark in registry.cheats().items()}
    assert set(known) == {*CAUGHT, *WAIVED, *ON_CUDA}
    assert len(known) >= 25
    for name, benchmark in known.items():
        assert set(benchmark.contenders) == {CHEAT, benchmark.baseline}, name
        assert benchmark.title
        assert bool(benchmark.summary) == (name in WAIVED), name
    twins = [benchmark.baseline for benchmark in known.values()]
    assert len(set(twins)) > 0.9 * len(twins)


def test_no_run_finds_them_by_a_pattern() -> None:
    assert not any(name.startswith("redteam/") for name in registry.benchmarks())
    assert not registry.cheats_left_out()


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    return {row.name: row for row in challenge(corpus(["*"]), Records(), Quiet())}


@pytest.mark.timeout(1800)
def test_every_cheat_is_caught_for_its_fault_or_waived(rows: dict[str, Row]) -> None:
    assert set(rows) == {*CAUGHT, *WAIVED, *ON_CUDA}
    assert not {name: row for name, row in rows.items() if row.verdict == "MISSED"}
    wrong = {name: rows[name].how for name, word in CAUGHT.items() if rows[name].verdict != "caught" or word not in rows[name].how}
    assert not wrong


def test_no_honest_twin_is_refused(rows: dict[str, Row]) -> None:
    refused = "; ".join(f"{row.name}: {row.twin} {row.twin_reason}" for row in rows.values() if row.twin_verdict == "REFUSED")
    assert not refused, refused


@pytest.fixture(scope="module")
def naive() -> dict[str, dict[str, float]]:
    script = Path(__file__).with_name("naive.py")
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True, env=dict(os.environ))
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_a_naive_harness_accepts_most_of_them(naive: dict[str, dict[str, float]]) -> None:
    assert {name for name, verdict in naive.items() if not verdict["accepted"]} - RACES == set(NAIVELY_REFUSED)
