"""The process that judges outputs: ``python -m aieng_bench.measure.checker SOCKET PARENT THREADS``. It runs no contender.

The oracle and the framework's error are computed here from the seed, once per case and seed, and kept while memory allows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch

from aieng_bench.define import Case, Definition, KernelBenchmark
from aieng_bench.measure import gate, outputs
from aieng_bench.measure.inputs import make_inputs
from aieng_bench.measure.serve import serve
from aieng_bench.record.schema import Value
from aieng_bench.registry import load

KEPT_BYTES = 2 * 2**30
"""References beyond this are forgotten, the oldest first, and computed again when they are needed."""

References = dict[str, gate.Reference]


class Judge:
    """Its public methods are the operations."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Definition, str, str, int], References] = OrderedDict()

    def judge(
        self, module: str, contender: str, case: Mapping[str, Value], seed: int, described: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Verdict on one call's outputs: errors of those that have the right form, and the first reason not to pass, or ''."""
        references = self._references(module, contender, Case(case), seed)
        errors, reasons = [], []
        with torch.inference_mode():
            for (name, by), fields in zip(references.items(), described, strict=True):
                output = outputs.Described(**{**fields, "shape": tuple(fields["shape"]), "strides": tuple(fields["strides"])})
                reason = outputs.broken_contract(name, output, by.framework)
                if not reason:
                    try:
                        error, reason = gate.judge(name, outputs.load(output), by)
                        errors.append(error.model_dump())
                    except outputs.Changed as changed:
                        reason = f"the file of {name} was changed after it was written: {changed}"
                reasons.append(reason)
        return {"errors": errors, "reason": next((r for r in reasons if r), "")}

    def probe(self, device: str) -> dict[str, Any]:
        """Have the device do next to nothing."""
        return {"sum": int(torch.ones(8, device=device, dtype=torch.int64).sum())}

    def _references(self, module: str, contender: str, case: Case, seed: int) -> References:
        benchmark = load(module)
        assert isinstance(benchmark, KernelBenchmark)
        definition = benchmark.definition_of(contender)
        key = (definition, benchmark.name, case.id, seed)
        if key not in self._known:
            self._known[key] = compute(benchmark, definition, case, seed)
        self._known.move_to_end(key)
        while len(self._known) > 1 and sum(map(size_of, self._known.values())) > KEPT_BYTES:
            self._known.popitem(last=False)
        return self._known[key]


def compute(benchmark: KernelBenchmark, definition: Definition, case: Case, seed: int) -> References:
    """Oracle and framework's result, from inputs made anew for each so that neither sees what the other did to them."""
    oracle = definition.oracle(case, make_inputs(benchmark, case, seed))
    framework = definition.framework(case, make_inputs(benchmark, case, seed))
    for what, result in (("oracle", oracle), ("framework", framework)):
        if tuple(result) != benchmark.outputs:
            raise ValueError(f"{benchmark.name}: {what} gives {tuple(result)}; declared outputs are {benchmark.outputs}")
    return {name: gate.reference(oracle[name].detach(), framework[name].detach()) for name in benchmark.outputs}


def size_of(references: References) -> int:
    return sum(t.untyped_storage().nbytes() for r in references.values() for t in (r.oracle, r.framework))


def main() -> None:
    judge = Judge()
    serve({"judge": judge.judge, "probe": judge.probe})


if __name__ == "__main__":
    main()
