"""transformers' patch embeddings in the place of ours: the linear one of its ViT, the overlapping one of its SegFormer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from aieng_suites.vision.peers import Names
from aieng_suites.vision.peers.vit import sizes

LINEAR = Names(("{p}", "inner.projection.{p}"))
OVERLAPPING = Names(("project.{p}", "inner.proj.{p}"), ("norm.{p}", "inner.layer_norm.{p}"))


class Map(nn.Module):
    """The peer's embedding under our form: images (B, C, S, S) to a map (B, D, s, s)."""

    def __init__(self, inner: Any, patch: int) -> None:
        super().__init__()
        self.inner, self.patch = inner, patch

    def forward(self, images: Tensor) -> Tensor:
        found = self.inner(images)
        tokens: Tensor = found[0] if isinstance(found, tuple) else found
        side = images.shape[2] // self.patch
        return tokens.transpose(1, 2).reshape(len(images), -1, side, side)


def linear(size: int, channels: int, width: int, patch: int) -> Map:
    """``ViTPatchEmbeddings`` of images of one size."""
    from transformers.models.vit.configuration_vit import ViTConfig
    from transformers.models.vit.modeling_vit import ViTPatchEmbeddings

    return Map(ViTPatchEmbeddings(ViTConfig(**sizes(size=size, patch=patch, channels=channels, width=width))), patch)


def overlapping(channels: int, width: int, patch: int) -> Map:
    """``SegformerOverlapPatchEmbeddings`` with the kernel of ours."""
    from transformers.models.segformer.modeling_segformer import SegformerOverlapPatchEmbeddings

    return Map(SegformerOverlapPatchEmbeddings(2 * patch - 1, patch, channels, width), patch)
