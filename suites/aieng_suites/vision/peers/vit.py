"""transformers' ViT with a class head."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from aieng_suites.vision.peers import Names, Scores, block

NORMS = ("layernorm_before", "layernorm_after")
NAMES = Names(
    ("class_token", "vit.embeddings.cls_token"),
    ("positions.table", "vit.embeddings.position_embeddings"),
    ("embed.{p}", "vit.embeddings.patch_embeddings.projection.{p}"),
    *block("blocks.{i}", "vit.layers.{i}", norms=NORMS),
    ("norm.{p}", "vit.layernorm.{p}"),
    ("head.{p}", "classifier.{p}"),
)


def sizes(
    *,
    size: int = 8,
    patch: int = 2,
    channels: int = 1,
    classes: int = 10,
    width: int = 64,
    depth: int = 4,
    heads: int = 2,
    expand: int = 2,
) -> dict[str, Any]:
    """The library's names of our arguments, with our defaults."""
    return {
        "image_size": size,
        "patch_size": patch,
        "num_channels": channels,
        "num_labels": classes,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": expand * width,
        "mlp_ratio": expand,
    }


def build(*, epsilon: float = 1e-5, **ours: int) -> Any:
    """``ViTForImageClassification`` of the sizes of a ``VisionTransformer`` with these arguments."""
    from transformers.models.vit.configuration_vit import ViTConfig
    from transformers.models.vit.modeling_vit import ViTForImageClassification

    return ViTForImageClassification(ViTConfig(**sizes(**ours), layer_norm_eps=epsilon))


class Enlarged(Scores):
    """The peer on images of another size than it is made for, with its own interpolation of its positions."""

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.model(pixel_values=images, interpolate_pos_encoding=True).logits
        return scores
