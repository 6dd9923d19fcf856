"""The source of a suite: what gives its figures their meaning and no contender's hash covers, its inputs and its oracle."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path


def suite_hash(module: str) -> str:
    """Hash of :func:`own_sources`, '' if there are none. It changes with a comment: ``--resume`` heeds it, ``compare`` does not."""
    digest = hashlib.sha256()
    module = module.partition(":")[0]
    files = own_sources(module) if module else {}
    for name, source in sorted(files.items()):
        digest.update(f"{name} {len(source)}\n".encode() + source)
    return digest.hexdigest()[:16] if files else ""


def own_sources(module: str) -> dict[str, bytes]:
    """Source of a module, and of every module of the same top-level package that it imports, at any depth; nothing is imported."""
    top = find_spec(module.split(".")[0])
    roots = [Path(root) for root in (top.submodule_search_locations if top else None) or ()]
    found: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        parts = name.split(".")[1:]
        names = ["/".join([*parts, "__init__.py"]), *([f"{'/'.join(parts)}.py"] if parts else [])]
        file = next((root / n for root in roots for n in names if (root / n).is_file()), None)
        if file is None or name in found:
            continue
        found[name] = file.read_bytes()
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        waiting += [i for i in _imported(found[name], package) if i.split(".")[0] == module.split(".")[0]]
    return found


def _imported(source: bytes, package: str) -> Iterator[str]:
    """Names that may be modules, of all import statements, those within functions too."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # being edited while it is measured
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
