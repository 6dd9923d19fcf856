"""ConvNeXt: a convolutional network designed like a transformer. Source: Liu et al., A ConvNet for the 2020s, arXiv:2201.03545.

Shapes: B images, C channels; a stage after the first halves height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

EPSILON = 1e-6
SCALE = 1e-6
"""What the layer scale begins with (table 5)."""


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a map (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """x + s MLP(LN(depthwise 7 x 7 (x))), the MLP four times as wide and per pixel, s a learned scale per channel (figure 4)."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, EPSILON)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.scale * self.mlp(self.norm(self.spatial(x).permute(0, 2, 3, 1)))
        return x + inner.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """Class scores (B, classes) of images (B, C, H, W): patches, stages of blocks, the mean over pixels normalised and read out."""

    def __init__(
        self,
        *,
        channels: int = 1,
        classes: int = 10,
        patch: int = 1,
        widths: Sequence[int] = (16, 32),
        depths: Sequence[int] = (2, 2),
        scale: float = SCALE,
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Conv2d(channels, widths[0], patch, stride=patch), ChannelNorm(widths[0]))
        self.downs = nn.ModuleList(
            nn.Sequential(ChannelNorm(narrow), nn.Conv2d(narrow, wide, 2, stride=2)) for narrow, wide in pairwise(widths)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, scale) for _ in range(depth))) for width, depth in zip(widths, depths, strict=True)
        )
        self.norm = nn.LayerNorm(widths[-1], 1e-12)  # as released: the last one has another epsilon than those of the blocks
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stages[0](self.embed(images))
        for down, stage in zip(self.downs, list(self.stages)[1:], strict=True):
            x = stage(down(x))
        scores: Tensor = self.head(self.norm(x.mean(dim=(2, 3))))
        return scores
