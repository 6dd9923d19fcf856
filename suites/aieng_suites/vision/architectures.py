"""``vision/architectures``: ViT, Swin, ResNet, ConvNeXt of ours and transformers' of the same sizes, trained alike on digits.

One recipe, one stream of random numbers and one augmentation for all. A peer has the sizes of ours and begins with the same
weights, so that what differs is the code, not the model or the luck; but for ResNet, whose stem is another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aieng_bench.define import Case, Metric, Study, grid
from aieng_suites.vision._study import PRELOAD, Run, figures_of, network, our_attention, source, torch_attention

QUICK_EPOCHS, FULL_EPOCHS = 8, 20
ACCURACY_FLOOR, QUICK_FLOOR, TARGET = 0.95, 0.90, 0.95
LEARNING_RATE, BATCH = 4e-3, 64
MODELS = ("vit", "positions", "patches", "swin", "resnet", "convnext")
FILES = ("architectures.py", "data/digits.py", *(f"models/{name}.py" for name in MODELS))
PEERS = ("peers/__init__.py", *(f"peers/{name}.py" for name in ("vit", "swin", "resnet", "convnext")))
SCALE = 1.0
"""Of ConvNeXt's branches at first: 1e-6 is for networks of many blocks; four that train for minutes learn nothing behind it."""

benchmark = Study(
    name="vision/architectures",
    title="Architectures: transformers and convolutional networks on digits",
    summary="ViT, Swin, ResNet and ConvNeXt on 8 x 8 scans with one recipe, ours beside transformers' of the same sizes.",
    baseline="vit_transformers",
    full={device: grid(epochs=FULL_EPOCHS) for device in ("cpu", "cuda")},
    quick={device: grid(epochs=QUICK_EPOCHS) for device in ("cpu", "cuda")},
    metrics=figures_of(Metric("accuracy", "", "higher", "test accuracy", floor=ACCURACY_FLOOR, quick_floor=QUICK_FLOOR), TARGET),
    seeds=3,
    quick_seeds=1,
    minutes=7,
    quick_minutes=0.25,
    preload=PRELOAD,
)

ours: dict[str, Any] = {"requires": ("scikit-learn",), "source": source(*FILES, attention=True)}
peer: dict[str, Any] = {
    "requires": ("scikit-learn", "transformers"),
    "package": "transformers",
    "source": source(*FILES, *PEERS),
    "left_out": lambda case: "a quick run has one peer, transformers' ViT",
}
further: dict[str, Any] = {"left_out": lambda case: "a quick run has our ViT and transformers'; the CNN is in vision/digits"}


@benchmark.contender("vit_aieng", kind="ours", **ours)
def vit_aieng(case: Case) -> Run:
    """Vision Transformer on our attention."""
    from aieng_suites.vision.models.vit import VisionTransformer

    attention = our_attention(case)
    return trained(case, lambda: VisionTransformer(attention))


@benchmark.contender("swin_aieng", kind="ours", **ours, **further)
def swin_aieng(case: Case) -> Run:
    """Swin on our attention where nothing learns; in training its bias wants a gradient, which only torch's attention gives."""
    from aieng_suites.vision.models.swin import Swin

    attention = our_attention(case)
    return trained(case, lambda: Swin(attention))


@benchmark.contender("resnet_aieng", kind="ours", **ours, **further)
def resnet_aieng(case: Case) -> Run:
    """Residual network."""
    from aieng_suites.vision.models.resnet import ResNet

    return trained(case, ResNet)


@benchmark.contender("convnext_aieng", kind="ours", **ours, **further)
def convnext_aieng(case: Case) -> Run:
    """ConvNeXt."""
    from aieng_suites.vision.models.convnext import ConvNeXt

    return trained(case, lambda: ConvNeXt(scale=SCALE))


@benchmark.contender("vit_torch", requires=("scikit-learn",), package="torch", source=source(*FILES), **further)
def vit_torch(case: Case) -> Run:
    """Our Vision Transformer on torch's attention."""
    from aieng_suites.vision.models.vit import VisionTransformer

    return trained(case, lambda: VisionTransformer(torch_attention()))


@benchmark.contender("vit_transformers", **{**peer, "left_out": lambda case: None})
def vit_transformers(case: Case) -> Run:
    """transformers' ViT."""
    from aieng_suites.vision.models.vit import VisionTransformer
    from aieng_suites.vision.peers import Scores, begun, vit

    return trained(case, lambda: Scores(begun(VisionTransformer(torch_attention()), vit.build(), vit.NAMES)))


@benchmark.contender("swin_transformers", **peer)
def swin_transformers(case: Case) -> Run:
    """transformers' Swin."""
    from aieng_suites.vision.models.swin import Swin
    from aieng_suites.vision.peers import Scores, begun, swin

    return trained(case, lambda: Scores(begun(Swin(torch_attention()), swin.build(), swin.NAMES)))


@benchmark.contender("resnet_transformers", **peer)
def resnet_transformers(case: Case) -> Run:
    """transformers' ResNet of basic layers, on images enlarged as its stem is made for."""
    from torch import nn

    from aieng_suites.vision.peers import Scores, resnet

    return trained(case, lambda: nn.Sequential(nn.Upsample(scale_factor=resnet.STEM, mode="bilinear"), Scores(resnet.build())))


@benchmark.contender("convnext_transformers", **peer)
def convnext_transformers(case: Case) -> Run:
    """transformers' ConvNeXt."""
    from aieng_suites.vision.models.convnext import ConvNeXt
    from aieng_suites.vision.peers import Scores, begun, convnext

    return trained(case, lambda: Scores(begun(ConvNeXt(scale=SCALE), convnext.build(scale=SCALE), convnext.NAMES)))


def trained(case: Case, build: Callable[[], Any]) -> Run:
    from aieng_suites.vision._training import Recipe, Task
    from aieng_suites.vision.data.digits import load

    return network(case, build, Recipe(LEARNING_RATE, batch=BATCH), Task(load(), TARGET))
