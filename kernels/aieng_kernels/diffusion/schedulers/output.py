"""What a scheduler's step returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class SchedulerOutput:
    """``prev_sample`` x_{t−1} and ``pred_original_sample`` x0; also read by name (``out["prev_sample"]``) or by position."""

    prev_sample: Tensor
    pred_original_sample: Tensor | None = None

    def __getitem__(self, key: Any) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def keys(self) -> tuple[str, ...]:
        return tuple(name for name in ("prev_sample", "pred_original_sample") if getattr(self, name) is not None)

    def to_tuple(self) -> tuple[Tensor, ...]:
        return tuple(self[name] for name in self.keys())
