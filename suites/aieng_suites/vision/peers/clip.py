"""transformers' CLIP."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from aieng_suites.vision.models.clip import CLIP
from aieng_suites.vision.peers import Names, block

LAYER: dict[str, Any] = {"norms": ("layer_norm1", "layer_norm2"), "attention": "self_attn", "out": "out_proj"}
IMAGE, TEXT = "vision_model.embeddings", "text_model.embeddings"
NAMES = Names(
    ("image.class_token", f"{IMAGE}.class_embedding"),
    ("image.positions", f"{IMAGE}.position_embedding.weight"),
    ("image.embed.{p}", f"{IMAGE}.patch_embedding.{{p}}"),
    ("image.norm_before.{p}", "vision_model.pre_layrnorm.{p}"),
    ("image.norm.{p}", "vision_model.post_layernorm.{p}"),
    ("text.embed.{p}", f"{TEXT}.token_embedding.{{p}}"),
    ("text.positions", f"{TEXT}.position_embedding.weight"),
    ("text.norm.{p}", "text_model.final_layer_norm.{p}"),
    *block("image.blocks.{i}", "vision_model.encoder.layers.{i}", **LAYER),
    *block("text.blocks.{i}", "text_model.encoder.layers.{i}", **LAYER),
    ("project_image.{p}", "visual_projection.{p}"),
    ("project_text.{p}", "text_projection.{p}"),
    ("log_scale", "logit_scale"),
)


def build(ours: CLIP, *, size: int) -> Any:
    """``CLIPModel`` of the sizes of ours, for images of ``size`` pixels. Its words beside the last mean nothing special."""
    from transformers.models.clip.configuration_clip import CLIPConfig
    from transformers.models.clip.modeling_clip import CLIPModel

    def tower(of: Any) -> dict[str, int]:
        first = of.blocks[0]
        return {
            "hidden_size": first.norm_mlp.normalized_shape[0],
            "intermediate_size": first.mlp[0].out_features,
            "num_hidden_layers": len(of.blocks),
            "num_attention_heads": first.attention.heads,
        }

    text = {
        "vocab_size": ours.text.embed.num_embeddings,
        "max_position_embeddings": ours.text.positions.shape[1],
        "eos_token_id": ours.text.end,
        "bos_token_id": None,
        "pad_token_id": None,
    }
    image = {"image_size": size, "patch_size": ours.image.embed.kernel_size[0], "num_channels": ours.image.embed.in_channels}
    config = CLIPConfig(
        text_config=tower(ours.text) | text,
        vision_config=tower(ours.image) | image,
        projection_dim=ours.project_text.out_features,
    )
    return CLIPModel(config)


class Towers(nn.Module):
    """The peer under the form of ours."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def encode_images(self, images: Tensor) -> Tensor:
        """Unit vectors (B, E)."""
        pooled = self.model.vision_model(pixel_values=images).pooler_output
        return functional.normalize(self.model.visual_projection(pooled), dim=-1)

    def encode_texts(self, captions: Tensor) -> Tensor:
        """Unit vectors (B, E)."""
        pooled = self.model.text_model(input_ids=captions).pooler_output
        return functional.normalize(self.model.text_projection(pooled), dim=-1)

    def scale(self) -> Tensor:
        """The factor of the cosines."""
        factor: Tensor = self.model.logit_scale.exp()
        return factor

    def forward(self, images: Tensor, captions: Tensor) -> Tensor:
        return self.scale() * self.encode_images(images) @ self.encode_texts(captions).T
