"""Measuring: worker processes, interleaved rounds, the correctness gate, time and memory."""

from aieng_bench.measure.runner import run

__all__ = ["run"]
