"""Options of the whole test run, its order, and the one line that says why tests in a browser are skipped."""

from __future__ import annotations

import importlib.util
import shutil

import pytest

LONGEST = ("attention_sanitized", "cuda_attention", "runner", "triton_compiled", "checkouts", "fuzz")
"""Files of tests that take minutes: they begin, so that where several run at once none of them is left for the end."""


def missing_browser() -> str | None:
    """What the tests in a browser lack on this machine, or None."""
    lacks = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    lacks += [] if importlib.util.find_spec("selenium") else ["selenium"]
    return f"needs {', '.join(lacks)}" if lacks else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-browser", action="store_true", help="fail, rather than skip, where tests in a browser cannot run")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--require-browser") and (reason := missing_browser()):
        raise pytest.UsageError(f"--require-browser: {reason}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONGEST)
    if reason := missing_browser():
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.skip(reason=reason))
