"""Processes for Triton's two lives: one that interprets kernels on the CPU, and some that compile them for a GPU that is not here.

Triton decides by TRITON_INTERPRET when it is imported, so neither can be the process of the tests, whose others would be affected.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from aieng_kernels._aot import Compiled, compile_variant


def pool(processes: int, interpret: bool) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_prepare, initargs=(interpret,))


def _prepare(interpret: bool) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # the tiles are small, and another test may have the other processors
    os.environ.pop("TRITON_INTERPRET", None)
    if interpret:
        os.environ["TRITON_INTERPRET"] = "1"


def call(check: str, *arguments: Any) -> None:
    """Call ``"module:function"``, imported here, in the process that runs it."""
    module, function = check.split(":")
    getattr(importlib.import_module(module), function)(*arguments)


def compile_share(part: int, parts: int) -> dict[str, list[Compiled]]:
    """The part-th of parts equal shares of each family's variants, compiled."""
    from aieng_kernels.attention import triton_configs, triton_hopper_configs
    from aieng_kernels.diffusion import triton_fused

    families = {
        "attention": triton_configs.variants(),
        "hopper attention": triton_hopper_configs.variants(),
        "diffusion": triton_fused.variants(),
    }
    return {family: [compile_variant(v) for v in list(variants)[part::parts]] for family, variants in families.items()}
