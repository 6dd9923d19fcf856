"""transformers' DINOv2 without a head."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from aieng_suites.vision.models.dinov2 import EPSILON
from aieng_suites.vision.peers import Names, block
from aieng_suites.vision.peers.vit import sizes

LAYER = "encoder.layer.{i}"
NAMES = Names(
    ("class_token", "embeddings.cls_token"),
    ("mask_token", "embeddings.mask_token"),
    ("positions.table", "embeddings.position_embeddings"),
    ("embed.{p}", "embeddings.patch_embeddings.projection.{p}"),
    *block("blocks.{i}", LAYER, norms=("norm1", "norm2")),
    ("blocks.{i}.scale_attention", f"{LAYER}.layer_scale1.lambda1"),
    ("blocks.{i}.scale_mlp", f"{LAYER}.layer_scale2.lambda1"),
    ("norm.{p}", "layernorm.{p}"),
)


def build(**ours: int) -> Any:
    """``Dinov2Model`` of the sizes of a ``DinoTransformer`` with these arguments."""
    from transformers.models.dinov2.configuration_dinov2 import Dinov2Config
    from transformers.models.dinov2.modeling_dinov2 import Dinov2Model

    return Dinov2Model(Dinov2Config(**sizes(**ours), layer_norm_eps=EPSILON))


class Backbone(nn.Module):
    """The peer under the form of a ``DinoTransformer``: all tokens, or the class token alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def tokens(self, images: Tensor, hidden: Tensor | None = None) -> Tensor:
        tokens: Tensor = self.model(pixel_values=images, bool_masked_pos=hidden).last_hidden_state
        return tokens

    def forward(self, images: Tensor) -> Tensor:
        return self.tokens(images)[:, 0]
