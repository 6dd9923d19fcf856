"""The CUDA implementations as they are, except that their launchers run on the CPU, through the shim."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sysconfig
from collections.abc import Iterator
from types import ModuleType

import cuda_build
import pytest
import torch


@pytest.fixture(scope="session")
def gxx() -> str:
    found = cuda_build.compiler()
    if found is None:
        pytest.skip("g++ is not installed")
    return found


@pytest.fixture(scope="session")
def shim(gxx: str) -> ModuleType:
    """The module ``_cuda_shim``: the bindings of ``_cuda``, for CPU tensors."""
    sources = [
        *sorted(cuda_build.CSRC.glob("*/*.cu")),
        *sorted(cuda_build.CSRC.glob("*/bind_cuda.cpp")),
        cuda_build.SHIM / "module_shim.cpp",
    ]
    path = cuda_build.build("_cuda_shim" + sysconfig.get_config_var("EXT_SUFFIX"), sources, link=("-shared",))
    loader = importlib.machinery.ExtensionFileLoader("_cuda_shim", str(path))
    spec = importlib.util.spec_from_loader("_cuda_shim", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(params=[0, 1], ids=lambda seed: f"seed{seed}")
def on_cpu(request: pytest.FixtureRequest, shim: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Launchers run on the CPU, warps in the order of a seed; memory that torch hands out uninitialised is NaN."""
    import aieng_kernels._cuda_launch
    import aieng_kernels.attention.cuda
    import aieng_kernels.diffusion.cuda

    shim.set_seed(request.param)
    monkeypatch.setattr(aieng_kernels._cuda_launch, "native", lambda name: shim)
    for module in (aieng_kernels.attention.cuda, aieng_kernels.diffusion.cuda):
        monkeypatch.setattr(module, "place", lambda x: (0, 0))
    torch.use_deterministic_algorithms(True)
    assert torch.zeros(1).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
