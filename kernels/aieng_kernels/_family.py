"""A kernel family and its implementations: each is one file that registers itself; nothing central is edited to add one.

An implementation is a class of static functions (which ones, the family's ``__init__`` says) under this decorator::

    @implementation("attention", "cpu_avx512_bf16", device="cpu", requires=("avx512_bf16",), dtypes=("bfloat16",), priority=30)
    class Avx512Bf16: ...

All arguments are literals, so that :func:`declared` reads them from the source without importing torch (1.2-1.9 s) or Triton.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from aieng_kernels._requirements import missing

T = TypeVar("T", bound=type)
_loaded: dict[tuple[str, str], type] = {}
_parsing = threading.Lock()
"""Python 3.11's ``ast.parse`` fails with SystemError where two threads meet in it (python/cpython#106905)."""


@dataclass(frozen=True)
class Implementation:
    """What an implementation says of itself. ``priority``: the largest available is tried first."""

    family: str
    name: str
    device: str
    module: str
    requires: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    priority: int = 0

    def unsupported(self) -> str | None:
        """Why this machine cannot run it (a missing CPU feature, GPU, or compiled half), or None."""
        reasons = [reason for requirement in self.requires if (reason := missing(requirement))]
        return "; ".join(reasons) or None

    def source_hash(self) -> str:
        """Hash of the family's Python files and of the native sources it may be built from."""
        package = Path(__file__).parent
        native = package.parent.parent / "csrc"
        files = [*sorted((package / self.family).rglob("*.py"))]
        files += sorted(p for folder in ("common", self.family) for p in (native / folder).glob("*.*"))
        digest = hashlib.sha256()
        for path in files:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:16]

    def load(self) -> Any:
        """The implementation's class, importing its file (and so torch) if need be."""
        key = self.family, self.name
        if key not in _loaded:
            importlib.import_module(self.module)
        return _loaded[key]


def implementation(family: str, name: str, **declared: Any) -> Callable[[T], T]:
    """Register the decorated class as ``family``'s implementation ``name``; see the module's text for the fields."""

    def register(cls: T) -> T:
        _loaded[family, name] = cls
        return cls

    return register


@cache
def declared(family: str) -> tuple[Implementation, ...]:
    """Every implementation of a family, best first, read from the decorators in its files without importing them."""
    found = []
    with _parsing:
        for path in sorted((Path(__file__).parent / family).glob("*.py")):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    found += [_read(d, f"aieng_kernels.{family}.{path.stem}") for d in node.decorator_list if _registers(d)]
    return tuple(sorted(found, key=lambda i: (-i.priority, i.name)))


def _registers(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == implementation.__name__


def _read(node: ast.expr, module: str) -> Implementation:
    assert isinstance(node, ast.Call)
    positional = [ast.literal_eval(a) for a in node.args]
    keywords = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg}
    return Implementation(*positional, **{**keywords, "module": module})


def named(family: str, name: str) -> Implementation:
    """The implementation of exactly this name; raises ValueError that lists the family's names."""
    for candidate in declared(family):
        if candidate.name == name:
            return candidate
    names = dict.fromkeys(i.name for i in declared(family))
    raise ValueError(f"backend={name!r} is not an implementation of {family}; it has {', '.join(names)}")


@cache
def candidates(family: str, device: str, dtype: str) -> tuple[Implementation, ...]:
    """Implementations that this machine can run for a device type and dtype (``bfloat16``), best first."""
    return tuple(
        i for i in declared(family) if i.device == device and (not i.dtypes or dtype in i.dtypes) and i.unsupported() is None
    )


@cache
def choose(family: str, device: str, dtype: str, backend: str | None = None) -> tuple[Implementation, ...]:
    """Implementations to try for a call, best first: every candidate, or the forced ``backend`` alone.

    Raises ValueError, naming ``backend``, if the forced one does not exist, is for another device or dtype, or cannot run here.
    """
    if backend is None:
        return candidates(family, device, dtype)
    named(family, backend)
    entries = [i for i in declared(family) if i.name == backend]
    here = [i for i in entries if i.device == device]
    if not here:
        raise ValueError(f"backend={backend!r} runs on {' and '.join(i.device for i in entries)}; the inputs are on {device}")
    if here[0].dtypes and dtype not in here[0].dtypes:
        raise ValueError(f"backend={backend!r} takes {', '.join(here[0].dtypes)}; the inputs are {dtype}")
    if reason := here[0].unsupported():
        raise ValueError(f"backend={backend!r} cannot run here: {reason}")
    return (here[0],)
