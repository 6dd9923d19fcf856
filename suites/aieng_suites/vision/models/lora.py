"""Low-rank adaptation: fine-tuning by a product of two thin matrices. Source: Hu et al., LoRA, arXiv:2106.09685, equation 3."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class LoRALinear(nn.Module):
    """W x + b + (alpha / r) B A x with A (r, in) random, B (out, r) zero at first; W and b of the given layer stay as they are."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        if not 1 <= rank <= min(linear.weight.shape):
            raise ValueError(f"rank={rank} must be from 1 to {min(linear.weight.shape)}, the layer's smaller side")
        self.linear = linear.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, linear.in_features).to(linear.weight))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank).to(linear.weight))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.factor = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        adapted: Tensor = self.linear(x) + self.factor * functional.linear(functional.linear(x, self.down), self.up)
        return adapted

    def merged(self) -> nn.Linear:
        """One linear layer that computes the same: inference costs what it did before."""
        linear = self.linear
        whole = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None).to(linear.weight)
        with torch.no_grad():
            whole.weight.copy_(linear.weight + self.factor * self.up @ self.down)
            if linear.bias is not None:
                whole.bias.copy_(linear.bias)
        return whole


def adapt(model: nn.Module, rank: int, alpha: float, *, where: Callable[[str], bool], trained: Callable[[str], bool]) -> nn.Module:
    """Freeze the model, except parameters whose name is ``trained``, and adapt each linear layer whose name is ``where``; in place.

    Raises ValueError if there is no such layer.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained(name))
    chosen = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and where(name)]
    if not chosen:
        raise ValueError("no linear layer was chosen to adapt")
    for name in chosen:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        model.set_submodule(name, LoRALinear(layer, rank, alpha))
    return model


def merge(model: nn.Module) -> nn.Module:
    """Replace each adapted layer by its merged one, in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRALinear):
            model.set_submodule(name, module.merged())
    return model


def trained_share(model: nn.Module) -> float:
    """Learned parameters, as a share of all."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, learned in sizes if learned) / sum(n for n, _ in sizes)
