"""aieng-bench: the engine that measures, checks, compares and reports. It knows no kernel and no suite.

Declare a benchmark with :class:`KernelBenchmark` or :class:`Study`; see ``docs/method.md`` for what a number must survive.
"""

from aieng_bench.define import Benchmark, Case, Contender, KernelBenchmark, Metric, Study, Unsupported, Work, grid

__version__ = "0.1.0"

__all__ = ["Benchmark", "Case", "Contender", "KernelBenchmark", "Metric", "Study", "Unsupported", "Work", "grid"]
