"""The process that runs one contender of a kernel benchmark: ``python -m aieng_bench.measure.worker SOCKET PARENT THREADS``.

A case begins with ``prepare`` and ends with ``finish``. In the checking process ``memory`` and ``check`` come in between, in a
timing process ``calibrate`` and then a ``turn`` in each round, one of which ``keep`` and ``audit`` follow.
"""

from __future__ import annotations

import gc
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aieng_bench.define import LATENCY, LATENCY_COLD, Case, KernelBenchmark
from aieng_bench.measure import inputs as given
from aieng_bench.measure import memory as used
from aieng_bench.measure import outputs, timing
from aieng_bench.measure.audit import audit, novelty
from aieng_bench.measure.integrity import Guard
from aieng_bench.measure.serve import serve
from aieng_bench.measure.tuned import BEGUN
from aieng_bench.record.schema import Value
from aieng_bench.registry import load


class Session:
    """The case in hand. Every public method is an operation; what it returns goes to the parent as JSON."""

    def prepare(self, module: str, contender: str, case: Mapping[str, Value], seed: int) -> dict[str, Any]:
        """Make the inputs of ``seed`` and set the contender up."""
        print(BEGUN)
        benchmark = load(module)
        assert isinstance(benchmark, KernelBenchmark)
        self.benchmark, self.case = benchmark, Case(case)
        self.device = str(self.case["device"])
        self._renew(seed)
        self.function = self.benchmark.contenders[contender].setup(self.case)
        return {"inputs_hash": given.combined(given.digest(self.inputs, given.PUBLIC) if self.device == "cuda" else self.before)}

    def memory(self) -> dict[str, Any]:
        """Peak growth of a warm call, and what the first call took longer than a later one."""
        first_s, later_s = (self._timed_call() for _ in range(2))
        held = self._call()  # or a library that keeps what was released would need no new memory
        peak_bytes = used.peak_growth(self._call, self.device)
        del held
        return {"peak_bytes": peak_bytes, "setup_s": max(0.0, first_s - later_s)}

    def check(self, seeds: list[int], repeats: int, folder: str) -> dict[str, Any]:
        """Call with the inputs of each seed, ``repeats`` times, each time into memory poisoned otherwise.

        Outputs of all seeds are held until the last call has been made, so that one buffer handed out twice cannot be right twice.
        Of bit-equal repeats one is dumped.
        """
        held: list[tuple[int, str, Any, Mapping[str, Any]]] = []
        deterministic = True
        changed: set[str] = set()
        for seed in seeds:
            self._renew(seed)
            prints: set[str] = set()
            for _ in range(repeats):
                used.poison(self.device, self._sizes(held))
                out = self._call()
                if (print_ := outputs.fingerprint(out, self._names)) not in prints:
                    held.append((seed, print_, out, self.inputs))
                prints.add(print_)
                changed |= set(self._changed())
            deterministic &= len(prints) == 1
        reused = any(outputs.fingerprint(out, self._names) != print_ for _, print_, out, _ in held)
        dumped = [self._dumped(seed, out, inputs, folder) for seed, _, out, inputs in held]
        return {"outputs": dumped, "deterministic": deterministic, "changed": sorted(changed), "reused": reused, "late": False}

    def calibrate(self, cold: bool) -> dict[str, Any]:
        """Warm up, then estimate a call. ``cold``: also lay out inputs for the cold-cache figure, if they fit."""
        on_cuda = self.device == "cuda"
        self._timed_call()
        self._timed_call()
        self.timer: timing.Timer = timing.CudaTimer() if on_cuda else timing.CpuTimer()
        self.cold: tuple[timing.Timer, timing.Arguments] | None = None
        if cold and on_cuda:
            self.cold = timing.CudaTimer(flush=True), timing.hot(self.inputs)
        elif cold and (rotated := timing.cold(self.inputs, timing.free_memory_bytes())) is not None:
            self.cold = self.timer, rotated
        pilot = timing.pilot(self.timer, self.function, self.inputs)
        novelty_us = novelty(self.timer, self.function, self.inputs, self._never_seen, pilot.calls)
        return {"call_s": pilot.call_s, "calls": pilot.calls, "cold": self.cold is not None, "novelty_us": novelty_us}

    def turn(self, calls: int, batches: int, most_s: float) -> dict[str, Any]:
        """This contender's part of a round: a sample of each latency. Outputs of one batch stay for :meth:`keep`."""
        self.kept: list[Any] = []
        hot = timing.turn(self.timer, self.function, timing.hot(self.inputs), calls, batches, most_s)
        samples, claimed_ns = {LATENCY.name: hot.us_per_call}, hot.claimed_ns
        if self.cold is not None:
            timer, arguments = self.cold
            cold = timing.turn(timer, self.function, arguments, calls, batches, most_s)
            samples[LATENCY_COLD.name] = cold.us_per_call
            claimed_ns += cold.claimed_ns
        self.kept = [hot.kept, hot.last]
        return {"samples": samples, "claimed_ns": claimed_ns}

    def keep(self, folder: str) -> dict[str, Any]:
        """Dump the outputs that the last turn's timed calls left."""
        return {"outputs": [outputs.dump(out, self._names, self.inputs, Path(folder)) for out in self.kept]}

    def audit(self, seeds: list[int], folder: str) -> dict[str, Any]:
        """Timed calls while the inputs change where they lie, answered as :meth:`check` does. ``seeds[0]`` is the present one."""
        contents = [given.make_inputs(self.benchmark, self.case, seed) for seed in seeds]
        found = audit(self.timer, self.function, self.inputs, contents, self._names)
        dumped = [self._dumped(seeds[one.content], one.out, self.inputs, folder) for one in found.held]
        return {"outputs": dumped, "changed": found.changed, "reused": found.reused, "late": found.late}

    def finish(self) -> dict[str, Any]:
        """Let go of the case; says which inputs were changed since ``prepare``."""
        changed = self._changed()
        self.__dict__.clear()
        gc.collect()
        used.perturb(0)
        used.release()
        return {"changed": changed}

    @property
    def _names(self) -> tuple[str, ...]:
        return self.benchmark.outputs

    def _renew(self, seed: int) -> None:
        self.inputs = given.make_inputs(self.benchmark, self.case, seed)
        self.before = given.digest(self.inputs)

    def _changed(self) -> list[str]:
        return given.differing(self.inputs, self.before)

    def _never_seen(self) -> dict[str, Any]:
        """Inputs of a seed that nobody can foresee."""
        assert isinstance(self.benchmark, KernelBenchmark)
        return given.make_inputs(self.benchmark, self.case, secrets.randbits(48))

    def _dumped(self, seed: int, out: Any, inputs: Mapping[str, Any], folder: str) -> dict[str, Any]:
        return {"seed": seed, "outputs": outputs.dump(out, self._names, inputs, Path(folder))}

    def _call(self) -> Any:
        out = self.function(**self.inputs)
        if self.device == "cuda":
            torch.cuda.synchronize()
        return out

    def _timed_call(self) -> float:
        began = time.perf_counter()
        self._call()
        return time.perf_counter() - began

    def _sizes(self, held: list[tuple[int, str, Any, Mapping[str, Any]]]) -> tuple[int, ...]:
        return tuple(outputs.sizes(held[-1][2], self._names)) if held else ()


def main() -> None:
    session = Session()
    names = ("prepare", "memory", "check", "calibrate", "turn", "keep", "audit", "finish")
    serve({name: getattr(session, name) for name in names}, Guard)


if __name__ == "__main__":
    main()
