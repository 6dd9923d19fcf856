"""``out = 2 a + b``, with honest contenders, and ones that lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aieng_bench.define import Case, Definition, KernelBenchmark, Unsupported, Work, grid

POINTS = {"cpu": grid(N=[4096, 65536], dtype="float32")}


def inputs(case: Case, generator: Any) -> dict[str, Any]:
    import torch

    a, b = (torch.randn(case.N // 64, 64, generator=generator, dtype=getattr(torch, case.dtype)) for _ in range(2))
    return {"a": a, "b": b}


def oracle(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"out": 2 * inputs["a"].double() + inputs["b"].double()}


def framework(case: Case, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"out": 2 * inputs["a"] + inputs["b"]}


def declare(name: str, device: str = "cpu") -> KernelBenchmark:
    points = {device: POINTS["cpu"]}
    return KernelBenchmark(
        name=f"toy/{name}",
        title="scale",
        summary="out = 2 a + b",
        baseline="eager",
        full=points,
        quick=points,
        inputs=inputs,
        oracle=oracle,
        framework=framework,
        work=lambda case: Work(flops=2.0 * case.N, bytes=12.0 * case.N),
        suite="toys",
        module=f"toy_suite.{name}",
    )


benchmark = declare("scale")


@benchmark.contender("eager", package="torch")
def eager(case: Case) -> Callable[..., Any]:
    return lambda a, b: 2 * a + b


@benchmark.contender("add", kind="ours")
def add(case: Case) -> Callable[..., Any]:
    import torch

    return lambda a, b: torch.add(b, a, alpha=2)


def shifted(result: Callable[[Case, Mapping[str, Any]], dict[str, Any]]) -> Callable[[Case, Mapping[str, Any]], dict[str, Any]]:
    return lambda case, inputs: {"out": result(case, inputs)["out"] + 1}


SHIFTED = Definition(shifted(oracle), shifted(framework))


@benchmark.contender("defined_apart", definition=SHIFTED)
def defined_apart(case: Case) -> Callable[..., Any]:
    return lambda a, b: 2 * a + b + 1


@benchmark.contender("apart_from_its_definition", definition=SHIFTED)
def apart_from_its_definition(case: Case) -> Callable[..., Any]:
    return lambda a, b: 2 * a + b


@benchmark.contender("gpu_only", devices=("cuda",))
def gpu_only(case: Case) -> Callable[..., Any]:
    raise AssertionError("never reached")


@benchmark.contender("needs_peer", requires=("no-such-distribution",))
def needs_peer(case: Case) -> Callable[..., Any]:
    raise AssertionError("never reached")


@benchmark.contender("refuses")
def refuses(case: Case) -> Callable[..., Any]:
    raise Unsupported("only multiples of seven")


@benchmark.contender("zeros")
def zeros(case: Case) -> Callable[..., Any]:
    return lambda a, b: a.new_zeros(a.shape)


@benchmark.contender("mutates")
def mutates(case: Case) -> Callable[..., Any]:
    def call(a: Any, b: Any) -> Any:
        out = 2 * a + b
        a[-1, -1] += 1e-3
        return out

    return call


@benchmark.contender("in_place")
def in_place(case: Case) -> Callable[..., Any]:
    return lambda a, b: b.add_(a, alpha=2)


@benchmark.contender("unwritten")
def unwritten(case: Case) -> Callable[..., Any]:
    """Leaves the last row as malloc gave it."""
    import torch

    def call(a: Any, b: Any) -> Any:
        out = torch.empty_like(a)
        torch.add(b[:-1], a[:-1], alpha=2, out=out[:-1])
        return out

    return call


@benchmark.contender("one_buffer")
def one_buffer(case: Case) -> Callable[..., Any]:
    import torch

    out = torch.empty(case.N // 64, 64)
    return lambda a, b: torch.add(b, a, alpha=2, out=out)


@benchmark.contender("keeps_memory")
def keeps_memory(case: Case) -> Callable[..., Any]:
    """Each result lies in 64 MiB of its own, in which another lay that was released."""
    import weakref

    import torch

    memories: list[Any] = []
    results: dict[int, Any] = {}  # by the id of the memory they lie in

    def call(a: Any, b: Any) -> Any:
        memory = next((m for m in memories if results[id(m)]() is None), None)
        if memory is None:
            memory = torch.ones(1 << 24)
            memories.append(memory)
        out = torch.add(b, a, alpha=2, out=memory[: a.numel()].view(a.shape))
        results[id(memory)] = weakref.ref(out)
        return out

    return call


@benchmark.contender("tires")
def tires(case: Case) -> Callable[..., Any]:
    """Right in the checked calls at the start, wrong in the many that follow."""
    calls = 0

    def call(a: Any, b: Any) -> Any:
        nonlocal calls
        calls += 1
        return 2 * a + (b if calls < 20 else 0 * b)

    return call


@benchmark.contender("half")
def half(case: Case) -> Callable[..., Any]:
    return lambda a, b: (2 * a + b).half()


@benchmark.contender("flat")
def flat(case: Case) -> Callable[..., Any]:
    return lambda a, b: (2 * a + b).flatten()


@benchmark.contender("lazy")
def lazy(case: Case) -> Callable[..., Any]:
    import torch

    class Later(torch.Tensor):
        pass

    return lambda a, b: (2 * a + b).as_subclass(Later)


@benchmark.contender("raises")
def raises(case: Case) -> Callable[..., Any]:
    def call(a: Any, b: Any) -> Any:
        raise ValueError(f"N={case.N} is no good")

    return call
