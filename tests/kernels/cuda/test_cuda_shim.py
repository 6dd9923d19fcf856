"""The shim sees the faults that it is there to see, and the kernels run clean under AddressSanitizer and UBSan."""

from __future__ import annotations

import os
import subprocess

import cuda_build
import pytest

# Fibers have stacks of their own, which the check for use after return would replace.
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_stack_use_after_return=0", "UBSAN_OPTIONS": "print_stacktrace=1"}


NONE, NO_BARRIER, READ_PAST_GLOBAL, WRITE_PAST_SHARED, NO_WAIT, LANE_LEAVES = range(6)  # as in shim/faults.cu


def run_faults(fault: int, seed: int) -> subprocess.CompletedProcess[str]:
    program = cuda_build.build("faults", [cuda_build.SHIM / "faults.cu"], cuda_build.SANITIZERS)
    return subprocess.run([str(program), str(fault), str(seed)], capture_output=True, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize("seed", range(4))
def test_a_right_kernel_passes(gxx: str, seed: int) -> None:
    assert run_faults(NONE, seed).returncode == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_missing_barrier_gives_a_wrong_result(gxx: str, seed: int) -> None:
    assert run_faults(NO_BARRIER, seed).returncode == 1


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("fault", [READ_PAST_GLOBAL, WRITE_PAST_SHARED], ids=["global", "shared"])
def test_an_access_out_of_bounds_is_named(gxx: str, fault: int, seed: int) -> None:
    report = run_faults(fault, seed).stderr
    assert "AddressSanitizer: heap-buffer-overflow" in report
    assert "reverse" in report


def test_a_missing_wait_gives_a_wrong_result(gxx: str) -> None:
    assert run_faults(NO_WAIT, seed=0).returncode == 1


def test_lanes_that_never_meet_are_a_deadlock(gxx: str) -> None:
    done = run_faults(LANE_LEAVES, seed=0)
    assert done.returncode == 2
    assert "deadlock" in done.stderr
    assert "shfl.xor (31 of 32 lanes)" in done.stderr


def test_kernels_are_clean_under_sanitizers(gxx: str) -> None:
    sources = [
        cuda_build.SHIM / "sanitized.cpp",
        cuda_build.CSRC / "attention/cuda_simt_forward.cu",
        cuda_build.CSRC / "attention/cuda_simt_backward.cu",
        cuda_build.CSRC / "diffusion/cuda_step.cu",
        cuda_build.CSRC / "diffusion/cuda_scales.cu",
    ]
    program = cuda_build.build("sanitized", sources, cuda_build.SANITIZERS)
    done = subprocess.run([str(program)], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
