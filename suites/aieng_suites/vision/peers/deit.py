"""transformers' DeiT with both heads."""

from __future__ import annotations

from typing import Any

from aieng_suites.vision.peers import Names, block
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
