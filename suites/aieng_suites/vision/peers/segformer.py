"""transformers' SegFormer for small images, of two stages. We have none of our own: it is a peer in quality and speed alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (32, 64)


class Segformer(nn.Module):
    """Scores per pixel (B, classes, H, W): the library's come at half the size, as the paper has them, and are interpolated."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        scores = self.model(pixel_values=images).logits
        return functional.interpolate(scores, images.shape[-2:], mode="bilinear")


def build(*, channels: int = 3, classes: int = 5) -> Segformer:
    """``SegformerForSemanticSegmentation`` with patches every 2 pixels, then every 4."""
    from transformers.models.segformer.configuration_segformer import SegformerConfig
    from transformers.models.segformer.modeling_segformer import SegformerForSemanticSegmentation

    config = SegformerConfig(
        num_channels=channels,
        num_labels=classes,
        num_encoder_blocks=len(WIDTHS),
        depths=[2, 2],
        sr_ratios=[2, 1],
        hidden_sizes=list(WIDTHS),
        patch_sizes=[3, 3],
        strides=[2, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=WIDTHS[-1],
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
    )
    return Segformer(SegformerForSemanticSegmentation(config))
