"""The process that runs one contender of a study: ``python -m aieng_bench.measure.study_worker SOCKET PARENT THREADS``.

A case begins with ``prepare``, and each seed is a ``run_seed``. Nothing here imports torch: a study whose contenders do without it
starts in a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aieng_bench.define import Case, Study
from aieng_bench.measure import memory as used
from aieng_bench.measure.serve import limit_threads, serve
from aieng_bench.record.exhibits import Shown
from aieng_bench.record.schema import Value
from aieng_bench.registry import load


class Session:
    """The case in hand. Every public method is an operation; what it returns goes to the parent as JSON."""

    def prepare(self, module: str, contender: str, case: Mapping[str, Value], seed: int) -> dict[str, Any]:
        """Set the contender up."""
        study = load(module)
        assert isinstance(study, Study)
        self.study, self.device = study, str(case["device"])
        self.function = study.contenders[contender].setup(Case(case))
        limit_threads()
        return {"inputs_hash": ""}

    def run_seed(self, seed: int) -> dict[str, Any]:
        """One run of the system."""
        given: dict[str, Any] = {}
        peak = used.peak_growth(lambda: given.update(self.function(seed)), self.device)
        exhibits = {name: value.model_dump(mode="json") for name, value in given.items() if isinstance(value, Shown)}
        figures = {name: float(value) for name, value in given.items() if name not in exhibits}
        if missing := [m.name for m in self.study.metrics if m.name not in figures and not m.optional]:
            raise ValueError(f"the result has no {missing[0]}")
        return {"figures": figures, "exhibits": exhibits, "peak_bytes": peak}


def main() -> None:
    session = Session()
    serve({"prepare": session.prepare, "run_seed": session.run_seed})


if __name__ == "__main__":
    main()
