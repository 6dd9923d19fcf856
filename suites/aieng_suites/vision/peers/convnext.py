"""transformers' ConvNeXt with a class head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aieng_suites.vision.models.convnext import SCALE
from aieng_suites.vision.peers import Names

LAYER = "convnext.encoder.stages.{i}.layers.{j}"
NAMES = Names(
    ("embed.0.{p}", "convnext.embeddings.patch_embeddings.{p}"),
    ("embed.1.{p}", "convnext.embeddings.layernorm.{p}"),
    # Ours counts what is between stages from 0, theirs with the stage that follows.
    *((f"downs.{n}.{{i}}.{{p}}", f"convnext.encoder.stages.{n + 1}.downsampling_layer.{{i}}.{{p}}") for n in range(3)),
    ("stages.{i}.{j}.spatial.{p}", f"{LAYER}.dwconv.{{p}}"),
    ("stages.{i}.{j}.norm.{p}", f"{LAYER}.layernorm.{{p}}"),
    ("stages.{i}.{j}.mlp.0.{p}", f"{LAYER}.pwconv1.{{p}}"),
    ("stages.{i}.{j}.mlp.2.{p}", f"{LAYER}.pwconv2.{{p}}"),
    ("stages.{i}.{j}.scale", f"{LAYER}.layer_scale_parameter"),
    ("norm.{p}", "convnext.layernorm.{p}"),
    ("head.{p}", "classifier.{p}"),
)


def build(
    *,
    channels: int = 1,
    classes: int = 10,
    patch: int = 1,
    widths: Sequence[int] = (16, 32),
    depths: Sequence[int] = (2, 2),
    scale: float = SCALE,
) -> Any:
    """``ConvNextForImageClassification`` of the sizes of a ``ConvNeXt`` with these arguments."""
    from transformers.models.convnext.configuration_convnext import ConvNextConfig
    from transformers.models.convnext.modeling_convnext import ConvNextForImageClassification

    config = ConvNextConfig(
        num_channels=channels,
        num_labels=classes,
        patch_size=patch,
        num_stages=len(widths),
        hidden_sizes=list(widths),
        depths=list(depths),
        layer_scale_init_value=scale,
    )
    return ConvNextForImageClassification(config)
