"""Our own implementations as contenders: a family's declared ones, without importing torch or any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aieng_kernels._family import candidates, declared

from aieng_bench.define import Benchmark, Case, Contender, Definition

DEFINITION = "reference"


def add_ours(
    benchmark: Benchmark,
    family: str,
    bind: Callable[[Case, str], Callable[..., Any]],
    suffix: str = "",
    definition: Definition | None = None,
) -> None:
    """Add every declared implementation of ``family`` as a contender of kind ``ours`` that bears its name, and ``suffix``.

    ``bind(case, backend)`` returns the callable that is timed, with the implementation ``backend`` forced; it runs in the worker.
    ``definition`` is what they are held to, if it is not the benchmark's.
    The family's reference is left out: it is the definition, and each benchmark shows the same code as its eager baseline.
    """
    for implementation in declared(family):
        if implementation.name == DEFINITION:
            continue
        benchmark.add(
            Contender(
                name=implementation.name + suffix,
                kind="ours",
                setup=_setup(bind, implementation.name),
                devices=(implementation.device,),
                dtypes=implementation.dtypes,
                unsupported=implementation.unsupported,
                left_out=_unless_best(family, implementation.name),
                source=implementation.source_hash,
                definition=definition,
            )
        )


def _setup(bind: Callable[[Case, str], Callable[..., Any]], backend: str) -> Callable[[Case], Callable[..., Any]]:
    return lambda case: bind(case, backend)


def _unless_best(family: str, name: str) -> Callable[[Case], str | None]:
    """A quick run on the CPU measures the implementation that the public function takes here, and leaves out those for processors
    that can less. Those for CUDA are few, and which is best depends on the device: it measures all of them."""

    def left_out(case: Case) -> str | None:
        if case["device"] == "cuda":
            return None
        best = candidates(family, str(case["device"]), str(case["dtype"]))[0].name
        return None if name == best else f"{best} is our best here"

    return left_out


def compiles_long(case: Case) -> str:
    """Why a quick run leaves out a contender that is compiled at each launch."""
    return "compiling takes longer than measuring"
