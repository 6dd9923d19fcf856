"""What several workers of a run need and the first of them makes: files, and networks trained before others begin.

A file lies in the temporary folder, which the workers of a run share and which ends with it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from torch import nn

    from aieng_suites.vision._training import Fit


def file(name: str, make: Callable[[Path], None]) -> Path:
    """The file of that name, which ``make`` writes if it is not there; the name tells what it depends on, its code too."""
    path = Path(tempfile.gettempdir(), f"aieng-{name}")
    if not path.exists():
        half = path.with_name(f"{os.getpid()}-{path.name}")
        make(half)
        half.replace(path)
    return path


def trained(name: str, network: nn.Module, train: Callable[[], Fit], device: str) -> dict[str, float]:
    """Give ``network`` the weights that ``train`` finds. Returns its seconds and its last validation quality."""

    def make(path: Path) -> None:
        fit = train()
        found = {"seconds": fit.seconds, "validation": fit.validation[-1]}
        save_file(fit.model.state_dict(), path, metadata={fact: repr(value) for fact, value in found.items()})

    path = file(f"{name}-{torch.__version__}-{device}", make)
    network.load_state_dict(load_file(path))
    network.to(device)
    with safe_open(path, "pt") as opened:
        return {fact: float(value) for fact, value in opened.metadata().items()}
