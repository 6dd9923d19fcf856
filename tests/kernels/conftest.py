"""Marks as ``gpu`` every test of an implementation that runs on a GPU; a family's suite has them where the machine has one.

A test of an implementation in a dtype that it does not take is none; one that has no ``dtype`` is in float32. What is taken by its
name alone, because no chip has run it yet, is tested last: it may hang.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if on_cuda(item):
            item.add_marker(pytest.mark.gpu)
    if refused := [item for item in items if not takes(item)]:
        config.hook.pytest_deselected(items=refused)
    items[:] = sorted((item for item in items if takes(item)), key=lambda item: on_cuda(item) and parameter(item).priority < 0)


def parameter(item: pytest.Item, name: str = "implementation", otherwise: Any = None) -> Any:
    return item.callspec.params.get(name, otherwise) if hasattr(item, "callspec") else otherwise


def on_cuda(item: pytest.Item) -> bool:
    return getattr(parameter(item), "device", None) == "cuda"


def takes(item: pytest.Item) -> bool:
    dtypes = getattr(parameter(item), "dtypes", ())
    return not dtypes or str(parameter(item, "dtype", torch.float32)).removeprefix("torch.") in dtypes
