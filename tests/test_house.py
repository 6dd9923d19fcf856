"""What holds of the repository as a whole: layout, versions, what importing costs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from aieng_bench.registry import benchmarks, find

ROOT = Path(__file__).parent.parent


def pinned(name: str) -> str:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{name}=="))


def test_torch_is_the_pinned_version() -> None:
    """A dependency that replaces torch in silence fails here."""
    assert version("torch").split("+")[0] == pinned("torch")


def test_source_roots_are_not_packages() -> None:
    """A top-level module named ``kernels`` would shadow another project's."""
    assert not (ROOT / "kernels/__init__.py").exists()
    assert not (ROOT / "suites/__init__.py").exists()


def test_every_package_is_distributed() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    roots = {"aieng_bench": ROOT, "aieng_kernels": ROOT / "kernels", "aieng_suites": ROOT / "suites"}
    present = {
        ".".join(init.parent.relative_to(root).parts) for name, root in roots.items() for init in (root / name).rglob("__init__.py")
    }
    assert listed == present


def test_benchmarks_are_found_in_the_order_asked_for() -> None:
    """What is named first is measured first, and once."""
    names = [benchmark.name for benchmark in find("vision/digits", "attention/forward", "*")]
    assert names[:2] == ["vision/digits", "attention/forward"]
    assert len(names) == len(set(names)) == len(benchmarks())


def test_listing_imports_no_torch() -> None:
    """Names, axes and requirements of everything are readable without the second that torch takes."""
    code = (
        "import sys; from aieng_bench.registry import benchmarks; "
        "found = benchmarks(); [c.unsupported() for b in found.values() for c in b.contenders.values()]; "
        "heavy = {'torch', 'triton', 'sklearn', 'skimage', 'diffusers', 'transformers', 'scipy', 'pandas', 'plotly'}; "
        "heavy &= set(sys.modules); "
        "assert found and not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_import_path_of_measuring_is_light() -> None:
    """Measuring runs on a bare GPU machine: standard library, numpy, torch and pydantic."""
    code = (
        "import sys, aieng_bench.measure; "
        "heavy = {'typer', 'rich', 'scipy', 'pandas', 'plotly', 'jinja2'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
