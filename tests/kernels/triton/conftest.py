"""Fixtures of the Triton tests: a process that interprets kernels, and everything compiled ahead of time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from aieng_kernels._aot import Compiled
from triton_processes import call, compile_share, pool


@pytest.fixture(scope="session")
def interpreted() -> Iterator[Callable[..., None]]:
    """Run the check ``"module:function"`` with its arguments where kernels are interpreted; its failure is raised here."""
    pytest.importorskip("triton")
    with pool(1, interpret=True) as process:
        yield lambda check, *arguments: process.submit(call, check, *arguments).result()


@pytest.fixture(scope="session")
def compiled() -> dict[str, list[Compiled]]:
    """Every kernel in every configuration and dtype compiled for sm_90, by family."""
    pytest.importorskip("triton")
    processes = os.cpu_count() or 1
    with pool(processes, interpret=False) as workers:
        shares = list(workers.map(compile_share, range(processes), [processes] * processes))
    return {family: [found for share in shares for found in share[family]] for family in shares[0]}
