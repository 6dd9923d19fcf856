"""Marks as ``gpu`` every test of an implementation that runs on a GPU; a family's suite has them where the machine has one."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if getattr(parameters.get("implementation"), "device", None) == "cuda":
            item.add_marker(pytest.mark.gpu)
