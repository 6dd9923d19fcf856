"""transformers' Swin with a class head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aieng_suites.vision.models.swin import EPSILON
from aieng_suites.vision.peers import Names, block
from aieng_suites.vision.peers.vit import NORMS

STAGE = "swin.encoder.layers.{i}"
NAMES = Names(
    ("embed.{p}", "swin.embeddings.patch_embeddings.projection.{p}"),
    ("norm_embed.{p}", "swin.embeddings.norm.{p}"),
    *block("stages.{i}.{j}", f"{STAGE}.blocks.{{j}}", norms=NORMS),
    (
        "stages.{i}.{j}.attention.relative.table",
        f"{STAGE}.blocks.{{j}}.attention.relative_position_bias.relative_position_bias_table",
    ),
    ("merges.{i}.norm.{p}", f"{STAGE}.downsample.norm.{{p}}"),
    ("merges.{i}.reduce.{p}", f"{STAGE}.downsample.reduction.{{p}}"),
    ("norm.{p}", "swin.layernorm.{p}"),
    ("head.{p}", "classifier.{p}"),
)


def build(
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
) -> Any:
    """``SwinForImageClassification`` of the sizes of a ``Swin`` with these arguments, without stochastic depth."""
    from transformers.models.swin.configuration_swin import SwinConfig
    from transformers.models.swin.modeling_swin import SwinForImageClassification

    config = SwinConfig(
        image_size=size,
        patch_size=patch,
        num_channels=channels,
        num_labels=classes,
        embed_dim=width,
        depths=list(depths),
        num_heads=list(heads),
        window_size=window,
        mlp_ratio=expand,
        drop_path_rate=0.0,
        layer_norm_eps=EPSILON,
    )
    return SwinForImageClassification(config)
