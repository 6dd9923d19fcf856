"""Every declared implementation that can run here, and memory that is never zero by luck."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from aieng_kernels._family import declared
from attention_yardstick import absent

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """torch.empty is filled with NaN, so an element that is never written is found; two threads, so work is divided."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(before)


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``implementation`` and ``dtype``: each declared one that can run here, on its device, in each dtype that it takes.

    Implementations come last, so that one after another is tried at a problem and the yardstick is made once for all of them.
    """
    if "implementation" in metafunc.fixturenames:
        here = [i for i in declared("attention") if absent(i) is None]
        cases = [(i, d) for d in DTYPES for i in here if not i.dtypes or str(d).removeprefix("torch.") in i.dtypes]
        names = [f"{i.name}-{i.device}-{str(d).removeprefix('torch.')}" for i, d in cases]
        metafunc.parametrize(("implementation", "dtype"), cases, ids=names)
