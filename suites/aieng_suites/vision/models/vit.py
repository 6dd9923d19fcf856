"""Vision Transformer. Source: Dosovitskiy et al., An Image is Worth 16x16 Words, arXiv:2010.11929, equations 1 to 4.

Shapes: B images, C channels, N tokens (patches and the class token), D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention over (B, H, N, D / H) queries, keys and values, as ``torch.nn.functional.scaled_dot_product_attention``."""


class SelfAttention(nn.Module):
    """Multi-head self-attention (appendix A) whose inner product and softmax are the given function."""

    def __init__(self, width: int, heads: int, attention: Attention) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width={width} must be a multiple of heads={heads}")
        self.heads, self.attention = heads, attention
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = self.attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        out: Tensor = self.out(mixed)
        return out


class Block(nn.Module):
    """Pre-norm encoder block: x + MSA(LN(x)), then x + MLP(LN(x)) (equations 2 and 3)."""

    def __init__(self, width: int, heads: int, attention: Attention) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, attention)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        x = x + self.mlp(self.norm_mlp(x))
        return x


class VisionTransformer(nn.Module):
    """Class scores (B, classes) of square images (B, C, size, size).

    Patches of ``patch`` x ``patch`` pixels become tokens, a class token goes before them, learned positions are added (equation 1),
    ``depth`` blocks follow, and the class token is read out (equation 4). ``attention`` is what every block attends with.
    """

    def __init__(
        self,
        attention: Attention,
        *,
        size: int = 8,
        patch: int = 2,
        channels: int = 1,
        classes: int = 10,
        width: int = 64,
        depth: int = 4,
        heads: int = 2,
    ) -> None:
        super().__init__()
        if size % patch:
            raise ValueError(f"size={size} must be a multiple of patch={patch}")
        self.embed = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        # Unit variance where the paper draws from 0.02: a few hundred steps on small images go on learning where a token is.
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads, attention) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1) + self.positions
        scores: Tensor = self.head(self.norm(self.blocks(tokens)[:, 0]))
        return scores
