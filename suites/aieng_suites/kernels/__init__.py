"""Kernel benchmarks: each of our kernel families against what people use today."""
