"""The static benchmarks see every kernel of the CUDA half as it is built here, each once."""

from __future__ import annotations

import importlib.util
from collections import Counter

import pytest
from aieng_suites.kernels import attention_static, diffusion_static

from aieng_bench.define import Unsupported

built = pytest.mark.skipif(importlib.util.find_spec("aieng_kernels._cuda") is None, reason="the CUDA kernels are not built")
FAMILIES = {
    "attention": (attention_static.static, "cuda forward_sm80<64"),
    "diffusion": (diffusion_static.static, "cuda step_kernel"),
}


@built
@pytest.mark.parametrize("family", FAMILIES)
def test_every_cuda_kernel_is_read_once(family: str) -> None:
    static, example = FAMILIES[family]
    cells = [cell for cell in static.cells() if cell.kernel.startswith("cuda")]
    assert max(Counter((cell.kernel, cell.arch) for cell in cells).values()) == 1
    try:
        found = {(cell.kernel, cell.arch): cell.read() for cell in cells if cell.arch == "sm_90a"}
    except Unsupported as reason:
        pytest.skip(str(reason))
    assert any(kernel.startswith(example) for kernel, _ in found)
    assert not [kernel for kernel, _ in found if kernel.endswith(")") or "::" in kernel]
    assert all(code.stack_bytes == 0 and code.registers > 0 and code.instructions for code in found.values())
