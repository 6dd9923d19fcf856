"""SimCLR: a network learns without labels to find, among all views in a batch, the other view of the same image.

Source: Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, arXiv:2002.05709.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def nt_xent(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """NT-Xent, the InfoNCE loss of views (N, D) and (N, D) of the same N images (equation 1, algorithm 1).

    With the 2 N vectors made unit, s = z z^T / temperature and j(i) the other view of i's image it is the mean over i of
    -s_(i, j(i)) + log sum_(k != i) exp s_(i, k).
    """
    unit = functional.normalize(torch.cat([one, other]), dim=1)
    similarities = unit @ unit.T / temperature
    similarities = similarities.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), -torch.inf)
    partners = torch.arange(len(unit), device=unit.device).roll(len(one))
    return functional.cross_entropy(similarities, partners)


class SimCLR(nn.Module):
    """A backbone, and the projection before the loss (section 2.1): two layers, thrown away after training (section 4.2)."""

    def __init__(
        self, backbone: nn.Module, width: int, *, hidden: int = 128, projected: int = 32, temperature: float = 0.2
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.project = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, projected))
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        """The backbone's features (B, D), which probes are trained on."""
        features: Tensor = self.backbone(images)
        return features

    def loss(self, one: Tensor, other: Tensor) -> Tensor:
        """Loss of two views (B, C, S, S) of the same images, seen as one batch."""
        first, second = self.project(self(torch.cat([one, other]))).chunk(2)
        return nt_xent(first, second, self.temperature)
