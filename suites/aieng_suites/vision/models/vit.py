"""Vision Transformer. Source: Dosovitskiy et al., An Image is Worth 16x16 Words, arXiv:2010.11929, equations 1 to 4.

Shapes: B images, C channels, N tokens (patches and the class token), D width, H heads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from aieng_suites.vision.models.patches import LinearPatches
from aieng_suites.vision.models.positions import Learned, Positions

Attention = Callable[..., Tensor]
"""``attention(q, k, v, attn_mask=None, is_causal=False)`` over (B, H, N, D / H), as torch's ``scaled_dot_product_attention``."""


class SelfAttention(nn.Module):
    """Multi-head self-attention (appendix A) whose inner product and softmax are the given function."""

    def __init__(
        self, width: int, heads: int, attention: Attention, *, bias: bool = True, rotate: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width={width} must be a multiple of heads={heads}")
        self.heads, self.attention, self.rotate = heads, attention, rotate
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """``options`` are the attention's own: ``attn_mask``, ``is_causal``."""
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if self.rotate is not None:
            q, k = self.rotate(q), self.rotate(k)
        mixed = self.attention(q, k, v, **options).transpose(1, 2).reshape(batch, tokens, width)
        out: Tensor = self.out(mixed)
        return out


class Block(nn.Module):
    """Pre-norm encoder block: x + MSA(LN(x)), then x + MLP(LN(x)) (equations 2 and 3); the MLP is ``expand`` times as wide."""

    def __init__(
        self,
        width: int,
        heads: int,
        attention: Attention,
        *,
        expand: int = 2,
        epsilon: float = 1e-5,
        qkv_bias: bool = True,
        activation: Callable[[], nn.Module] = nn.GELU,
        rotate: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, epsilon)
        self.attention = SelfAttention(width, heads, attention, bias=qkv_bias, rotate=rotate)
        self.norm_mlp = nn.LayerNorm(width, epsilon)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), activation(), nn.Linear(expand * width, width))

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        x = x + self.attention(self.norm_attention(x), **options)
        x = x + self.mlp(self.norm_mlp(x))
        return x


class VisionTransformer(nn.Module):
    """Class scores (B, classes) of square images (B, C, size, size).

    Patches of ``patch`` x ``patch`` pixels become tokens, a class token goes before them, learned positions are added (equation 1),
    ``depth`` blocks follow, and the class token is read out (equation 4). ``attention`` is what every block attends with; ``embed``
    takes images to another map of patches, ``positions`` are others than learned ones; ``block`` goes to every :class:`Block`.
    """

    block: type[Block] = Block

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
        epsilon: float = 1e-5,
        embed: nn.Module | None = None,
        positions: Positions | None = None,
        **block: Any,
    ) -> None:
        super().__init__()
        if size % patch:
            raise ValueError(f"size={size} must be a multiple of patch={patch}")
        self.embed = embed or LinearPatches(channels, width, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = positions or Learned((size // patch) ** 2 + 1, width)
        block |= {"epsilon": epsilon, "rotate": self.positions.rotate}
        self.blocks = nn.ModuleList(self.block(width, heads, attention, **block) for _ in range(depth))
        self.norm = nn.LayerNorm(width, epsilon)
        self.head: nn.Module = nn.Linear(width, classes)

    def first_tokens(self) -> Tensor:
        """What goes before the patches (1, 1, D)."""
        return self.class_token

    def patches(self, images: Tensor) -> Tensor:
        """Embedded patches (B, N - 1, D)."""
        embedded: Tensor = self.embed(images).flatten(2).transpose(1, 2)
        return embedded

    def tokens(self, images: Tensor, *options: Any) -> Tensor:
        """All tokens (B, N, D) after the last block, normalised, the class token first; ``options`` go to :meth:`patches`."""
        patches = self.patches(images, *options)
        x = self.positions.add(torch.cat([self.first_tokens().expand(len(patches), -1, -1), patches], dim=1))
        bias = self.positions.bias()
        masked = {} if bias is None else {"attn_mask": bias}
        for block in self.blocks:
            x = block(x, **masked)
        normalised: Tensor = self.norm(x)
        return normalised

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.tokens(images)[:, 0])
        return scores

    def placed(self, positions: Positions) -> VisionTransformer:
        """A copy with other positions: the same network for images of another size."""
        found: Any = copy.deepcopy(self)
        found.positions = positions
        for block in found.blocks:
            block.attention.rotate = positions.rotate
        made: VisionTransformer = found
        return made
