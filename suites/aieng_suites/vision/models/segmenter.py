"""A Vision Transformer that segments. Source: Strudel et al., Segmenter, arXiv:2105.05633, section 3.2, its linear decoder.

Each patch's token gives the scores of all its pixels (sub-pixel rearrangement, Shi et al., arXiv:1609.05158), where the paper gives
one score per patch and interpolates: on images of 32 pixels a shape's edge is finer than a patch.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from aieng_suites.vision.models.vit import Attention, VisionTransformer


class Segmenter(VisionTransformer):
    """Class scores per pixel (B, classes, size, size) of square images (B, C, size, size)."""

    def __init__(self, attention: Attention, *, patch: int = 4, width: int = 64, classes: int = 5, **vit: Any) -> None:
        super().__init__(attention, patch=patch, width=width, classes=classes, **vit)
        self.patch = patch
        self.head = nn.Linear(width, classes * patch * patch)

    def forward(self, images: Tensor) -> Tensor:
        of_patches = self.head(self.tokens(images)[:, 1:])
        side = images.shape[-1] // self.patch
        return functional.pixel_shuffle(of_patches.transpose(1, 2).unflatten(2, (side, side)), self.patch)
