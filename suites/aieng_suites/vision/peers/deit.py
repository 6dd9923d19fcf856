"""transformers' DeiT with both heads."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from aieng_suites.vision.peers import Names, Scores, block
from aieng_suites.vision.peers.vit import NORMS, sizes

NAMES = Names(
    ("class_token", "deit.embeddings.cls_token"),
    ("distillation_token", "deit.embeddings.distillation_token"),
    ("positions.table", "deit.embeddings.position_embeddings"),
    ("embed.{p}", "deit.embeddings.patch_embeddings.projection.{p}"),
    *block("blocks.{i}", "deit.layers.{i}", norms=NORMS),
    ("norm.{p}", "deit.layernorm.{p}"),
    ("head.{p}", "cls_classifier.{p}"),
    ("distillation_head.{p}", "distillation_classifier.{p}"),
)


def build(**ours: int) -> Any:
    """``DeiTForImageClassificationWithTeacher`` of the sizes of a ``DistilledVisionTransformer`` with these arguments."""
    from transformers.models.deit.configuration_deit import DeiTConfig
    from transformers.models.deit.modeling_deit import DeiTForImageClassificationWithTeacher

    return DeiTForImageClassificationWithTeacher(DeiTConfig(**sizes(**ours), layer_norm_eps=1e-5))


class Both(Scores):
    """The peer under the form of ours: the mean of its heads, or both apart."""

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the class token, and of the distillation token."""
        out = self.model(pixel_values=images)
        return out.cls_logits, out.distillation_logits
