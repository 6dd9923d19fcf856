"""transformers' ResNet of basic layers, with a class head.

Its stem is for large images: a 7 x 7 convolution and a pooling, each halving the size, where ours is one 3 x 3 convolution that
does not. From there on the two are the same, and the rules name that alone; images must be four times as large as ours are.
"""

from __future__ import annotations

from typing import Any

from aieng_suites.vision.peers import Names

LAYER = "resnet.encoder.stages.{i}.layers.{j}"
STEM = 4
"""How many times the stem makes an image smaller than ours does."""
FIRST = 2
"""Place of the first residual block in our ``features``, after the stem's convolution and relu."""


def names(blocks: int) -> Names:
    """The rules for stages of so many blocks: ours are numbered through."""
    places = [(FIRST + blocks * stage + n, stage, n) for stage in range(4) for n in range(blocks)]
    rules = [
        (f"{place}.{ours}.{index}.{{p}}", f"stages.{stage}.layers.{n}.{theirs}.{name}.{{p}}")
        for place, stage, n in places
        for ours, theirs in (("first", "layer.0"), ("second", "layer.1"), ("shortcut", "shortcut"))
        for index, name in ((0, "convolution"), (1, "normalization"))
    ]
    return Names(*rules)


def build(*, channels: int = 1, classes: int = 10, width: int = 16, stages: int = 2, blocks: int = 2) -> Any:
    """``ResNetForImageClassification`` whose stages are of the sizes of a ``ResNet`` with these arguments."""
    from transformers.models.resnet.configuration_resnet import ResNetConfig
    from transformers.models.resnet.modeling_resnet import ResNetForImageClassification

    config = ResNetConfig(
        num_channels=channels,
        num_labels=classes,
        embedding_size=width,
        hidden_sizes=[width << stage for stage in range(stages)],
        depths=[blocks] * stages,
        layer_type="basic",
    )
    return ResNetForImageClassification(config)
