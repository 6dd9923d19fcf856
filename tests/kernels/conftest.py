"""Marks as ``gpu`` every test of an implementation that runs on a GPU; a family's suite has them where the machine has one.

A test of an implementation in a dtype that it does not take is none; one that has no ``dtype`` is in float32.
"""

from __future__ import annotations

import pytest
import torch


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    none = []
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        implementation, dtype = parameters.get("implementation"), parameters.get("dtype", torch.float32)
        if getattr(implementation, "device", None) == "cuda":
            item.add_marker(pytest.mark.gpu)
        if (dtypes := getattr(implementation, "dtypes", ())) and str(dtype).removeprefix("torch.") not in dtypes:
            none.append(item)
    if none:
        config.hook.pytest_deselected(items=none)
        items[:] = [item for item in items if item not in none]
