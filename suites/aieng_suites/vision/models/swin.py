"""Swin Transformer: attention within windows that shift from block to block, and patches that merge from stage to stage.

Source: Liu et al., arXiv:2103.14030. Shapes: B images, h x w map of patches, C channels, M side of a window, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aieng_suites.vision.models.patches import LinearPatches
from aieng_suites.vision.models.positions import RelativeBias
from aieng_suites.vision.models.vit import Attention

EPSILON = 1e-5
BLOCKED = -100.0
"""Added to the product of patches that the shift brought side by side; after the softmax nothing is left of it."""


def windows(x: Tensor, side: int) -> Tensor:
    """A map (B, h, w, C) as windows (B, h w / M^2, M^2, C), both in reading order."""
    batch, height, width, channels = x.shape
    split = x.view(batch, height // side, side, width // side, side, channels).transpose(2, 3)
    return split.reshape(batch, -1, side * side, channels)


def unwindowed(x: Tensor, side: int, height: int, width: int) -> Tensor:
    """The map (B, h, w, C) whose :func:`windows` are ``x``."""
    split = x.view(len(x), height // side, width // side, side, side, -1).transpose(2, 3)
    return split.reshape(len(x), height, width, -1)


def shift_mask(height: int, width: int, side: int, shift: int) -> Tensor:
    """What is added to the products in each window (windows, M^2, M^2) of a shifted map: 0 or ``BLOCKED`` (figure 4)."""
    region = torch.zeros(1, height, width, 1)
    cuts = (slice(0, -side), slice(-side, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((r, c) for r in cuts for c in cuts):
        region[:, rows, columns] = number
    of_patch = windows(region, side).view(-1, side * side)
    return (of_patch[:, None, :] != of_patch[:, :, None]) * BLOCKED


class WindowAttention(nn.Module):
    """Multi-head attention within each window, with a bias by relative place (equation 4) and a mask where windows are shifted.

    Windows and heads are one axis to the attention function, so that bias and mask are of one image and broadcast over the batch.
    """

    def __init__(self, width: int, heads: int, side: int, attention: Attention, mask: Tensor | None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width={width} must be a multiple of heads={heads}")
        self.heads, self.attention = heads, attention
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.relative = RelativeBias(side, heads, class_token=False)
        self.mask: Tensor | None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, patches, width = x.shape
        qkv = self.qkv(x).view(batch, count, patches, 3, self.heads, width // self.heads).permute(3, 0, 1, 4, 2, 5)
        q, k, v = qkv.reshape(3, batch, count * self.heads, patches, width // self.heads)
        bias = self.relative.bias().expand(count, -1, -1, -1)
        if self.mask is not None:
            bias = bias + self.mask[:, None]
        mixed = self.attention(q, k, v, attn_mask=bias.reshape(1, count * self.heads, patches, patches))
        merged = mixed.view(batch, count, self.heads, patches, -1).transpose(2, 3).reshape(x.shape)
        out: Tensor = self.out(merged)
        return out


class Block(nn.Module):
    """x + (S)W-MSA(LN(x)), then x + MLP(LN(x)) (equation 3), on a map (B, h, w, C). A window as large as the map is not shifted."""

    def __init__(self, width: int, heads: int, size: int, window: int, shift: int, attention: Attention, expand: int) -> None:
        super().__init__()
        self.window, self.shift = (window, shift) if window < size else (size, 0)
        if size % self.window:
            raise ValueError(f"a map of size={size} must be a multiple of window={window}")
        mask = shift_mask(size, size, self.window, self.shift) if self.shift else None
        self.norm_attention = nn.LayerNorm(width, EPSILON)
        self.attention = WindowAttention(width, heads, self.window, attention, mask)
        self.norm_mlp = nn.LayerNorm(width, EPSILON)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU(), nn.Linear(expand * width, width))

    def forward(self, x: Tensor) -> Tensor:
        moved = torch.roll(self.norm_attention(x), (-self.shift, -self.shift), (1, 2))
        attended = unwindowed(self.attention(windows(moved, self.window)), self.window, *x.shape[1:3])
        x = x + torch.roll(attended, (self.shift, self.shift), (1, 2))
        x = x + self.mlp(self.norm_mlp(x))
        return x


class PatchMerging(nn.Module):
    """Each 2 x 2 patches concatenated, normalised and projected to twice the channels: (B, h, w, C) to (B, h/2, w/2, 2C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, EPSILON)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        out: Tensor = self.reduce(self.norm(torch.cat(corners, dim=-1)))
        return out


class Swin(nn.Module):
    """Class scores (B, classes) of square images (B, C, size, size): stages of blocks, patches merged between, the mean read out.

    Every second block shifts its windows by half of one. ``heads`` and ``depths`` are per stage, and the width doubles from each to
    the next. Raises ValueError where a stage's map is not a multiple of the window.
    """

    def __init__(
        self,
        attention: Attention,
        *,
        size: int = 8,
        patch: int = 2,
        channels: int = 1,
        classes: int = 10,
        width: int = 48,
        depths: Sequence[int] = (2, 2),
        heads: Sequence[int] = (2, 4),
        window: int = 2,
        expand: int = 2,
    ) -> None:
        super().__init__()
        self.embed = LinearPatches(channels, width, patch)
        self.norm_embed = nn.LayerNorm(width, EPSILON)
        now = size // patch
        layers: list[nn.Module] = []
        for stage, (depth, number) in enumerate(zip(depths, heads, strict=True)):
            if stage:
                layers.append(PatchMerging(width))
                width, now = 2 * width, now // 2
            shifts = [0 if block % 2 == 0 else window // 2 for block in range(depth)]
            layers.append(nn.Sequential(*(Block(width, number, now, window, shift, attention, expand) for shift in shifts)))
        self.stages = nn.ModuleList(layers[::2])
        self.merges = nn.ModuleList(layers[1::2])
        self.norm = nn.LayerNorm(width, EPSILON)
        self.head = nn.Linear(width, classes)

    def features(self, images: Tensor) -> Tensor:
        """The last stage's map (B, h, w, C), normalised."""
        x = self.stages[0](self.norm_embed(self.embed(images).permute(0, 2, 3, 1)))
        for merge, stage in zip(self.merges, list(self.stages)[1:], strict=True):
            x = stage(merge(x))
        normalised: Tensor = self.norm(x)
        return normalised

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(images).mean(dim=(1, 2)))
        return scores
