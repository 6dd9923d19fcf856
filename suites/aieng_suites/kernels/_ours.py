"""Our own implementations as contenders: a family's declared ones, without importing torch or any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aieng_kernels._family import declared

from aieng_bench.define import Benchmark, Case, Contender

DEFINITION = "reference"


def add_ours(benchmark: Benchmark, family: str, bind: Callable[[Case, str], Callable[..., Any]]) -> None:
    """Add every declared implementation of ``family`` as a contender of kind ``ours`` that bears its name.

    ``bind(case, backend)`` returns the callable that is timed, with the implementation ``backend`` forced; it runs in the worker.
    The family's reference is left out: it is the definition, and each benchmark shows the same code as its eager baseline.
    """
    for implementation in declared(family):
        if implementation.name == DEFINITION:
            continue
        benchmark.add(
            Contender(
                name=implementation.name,
                kind="ours",
                setup=_setup(bind, implementation.name),
                devices=(implementation.device,),
                dtypes=implementation.dtypes,
                unsupported=implementation.unsupported,
                source=implementation.source_hash,
            )
        )


def _setup(bind: Callable[[Case, str], Callable[..., Any]], backend: str) -> Callable[[Case], Callable[..., Any]]:
    return lambda case: bind(case, backend)
