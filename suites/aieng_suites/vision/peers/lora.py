"""peft's LoRA on any model."""

from __future__ import annotations

from typing import Any

from torch import nn

from aieng_suites.vision.peers import Names

INSIDE = "base_model.model.{m}"
NAMES = Names(
    ("{m}.linear.{p}", f"{INSIDE}.base_layer.{{p}}"),
    ("{m}.down", f"{INSIDE}.lora_A.default.weight"),
    ("{m}.up", f"{INSIDE}.lora_B.default.weight"),
    ("{m}", INSIDE),
)


def build(model: nn.Module, rank: int, alpha: float, *, targets: list[str], kept: tuple[str, ...] = ()) -> Any:
    """The model with peft's adapters at linear layers whose names end in a target; modules ``kept`` are trained whole."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, modules_to_save=list(kept)))  # type: ignore[arg-type]
