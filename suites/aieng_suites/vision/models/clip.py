"""CLIP: an image tower and a text tower that meet in one space. Source: Radford et al., arXiv:2103.00020, section 2.3 and figure 3.

Shapes: B pairs, L words of a caption, D width of both towers, E width of the common space.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aieng_suites.vision.models.vit import Attention, Block

INITIAL_TEMPERATURE = 0.07
LARGEST_SCALE = 100.0
"""Largest factor of a similarity; beyond it training becomes unstable (section 2.5)."""


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), the approximation of GELU (arXiv:1606.08415, section 2) that CLIP was trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class ImageTower(nn.Module):
    """Vectors (B, D) of images (B, C, size, size): a ViT with a normalisation before its blocks, whose class token is read out."""

    def __init__(
        self, attention: Attention, *, size: int, patch: int, channels: int, width: int, depth: int, heads: int, **block: Any
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, stride=patch, bias=False)
        self.class_token = nn.Parameter(torch.randn(1, 1, width) / math.sqrt(width))
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width) / math.sqrt(width))
        self.norm_before = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, attention, activation=QuickGELU, **block) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        x = self.norm_before(torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1) + self.positions)
        for block in self.blocks:
            x = block(x)
        read: Tensor = self.norm(x[:, 0])
        return read


class TextTower(nn.Module):
    """Vectors (B, D) of captions (B, L) of word numbers: causal blocks, read out at the first ``end``, which has seen all else."""

    def __init__(
        self, attention: Attention, *, vocabulary: int, length: int, end: int, width: int, depth: int, heads: int, **block: Any
    ) -> None:
        super().__init__()
        self.end = end
        self.embed = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.01 * torch.randn(1, length, width))
        nn.init.normal_(self.embed.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(width, heads, attention, activation=QuickGELU, **block) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, captions: Tensor) -> Tensor:
        x = self.embed(captions) + self.positions[:, : captions.shape[1]]
        for block in self.blocks:
            x = block(x, is_causal=True)
        read: Tensor = self.norm(x)[torch.arange(len(captions), device=x.device), (captions == self.end).int().argmax(1)]
        return read


class CLIP(nn.Module):
    """Similarities (B, B) of every image with every caption: cosines times a learned scale."""

    def __init__(self, image: ImageTower, text: TextTower, *, width: int, common: int) -> None:
        super().__init__()
        self.image, self.text = image, text
        self.project_image = nn.Linear(width, common, bias=False)
        self.project_text = nn.Linear(width, common, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / INITIAL_TEMPERATURE)))

    def encode_images(self, images: Tensor) -> Tensor:
        """Unit vectors (B, E)."""
        return functional.normalize(self.project_image(self.image(images)), dim=-1)

    def encode_texts(self, captions: Tensor) -> Tensor:
        """Unit vectors (B, E)."""
        return functional.normalize(self.project_text(self.text(captions)), dim=-1)

    def scale(self) -> Tensor:
        """The factor of the cosines, the inverse temperature."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)

    def forward(self, images: Tensor, captions: Tensor) -> Tensor:
        return self.scale() * self.encode_images(images) @ self.encode_texts(captions).T


def contrastive_loss(similarities: Tensor, same: Tensor | None = None) -> Tensor:
    """Mean over images and over captions of -log softmax at the partner (figure 3).

    ``same`` (B, B) says which captions are equal, as many are in a batch of few words: they share the target evenly, and
    are no wrong answers. Without it each pair is its own alone.
    """
    if same is None:
        same = torch.eye(len(similarities), device=similarities.device)
    target = same.to(similarities) / same.sum(1, keepdim=True)
    return (functional.cross_entropy(similarities, target) + functional.cross_entropy(similarities.T, target)) / 2
