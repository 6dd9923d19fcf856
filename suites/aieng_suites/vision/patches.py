"""``vision/patches``: one ViT whose patches come from a linear map, a convolutional stem or overlapping windows, on digits.

Only what turns pixels into tokens differs. transformers' linear and overlapping embeddings stand in the place of ours in the same
network, begun with the same weights; it has no stem of this kind. torch is imported inside the functions, so that listing costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from aieng_bench.define import Case, Metric, Study, grid
from aieng_suites.vision._study import PRELOAD, Run, figures_of, network, our_attention, source, torch_attention

if TYPE_CHECKING:
    from torch import nn

    from aieng_suites.vision.models.vit import Attention

Embedding = Literal["linear", "stem", "overlapping"]

QUICK_EPOCHS, FULL_EPOCHS = 8, 20
ACCURACY_FLOOR, QUICK_FLOOR, TARGET = 0.90, 0.85, 0.90
LEARNING_RATE, BATCH = 4e-3, 64
SIZE, PATCH, WIDTH, DEPTH = 8, 2, 64, 2
FILES = ("patches.py", "data/digits.py", *(f"models/{name}.py" for name in ("vit", "positions", "patches")))
PEER = ("peers/__init__.py", "peers/vit.py", "peers/patches.py")

benchmark = Study(
    name="vision/patches",
    title="Patches: from pixels to a transformer's tokens",
    summary="Linear patches, a convolutional stem and overlapping patches under one ViT on 8 x 8 scans, beside transformers'.",
    baseline="linear_transformers",
    full={device: grid(epochs=FULL_EPOCHS) for device in ("cpu", "cuda")},
    quick={device: grid(epochs=QUICK_EPOCHS) for device in ("cpu", "cuda")},
    metrics=figures_of(Metric("accuracy", "", "higher", "test accuracy", floor=ACCURACY_FLOOR, quick_floor=QUICK_FLOOR), TARGET),
    seeds=3,
    quick_seeds=1,
    minutes=3,
    quick_minutes=0.25,
    preload=PRELOAD,
)

ours: dict[str, Any] = {"kind": "ours", "requires": ("scikit-learn",), "source": source(*FILES, attention=True)}
peer: dict[str, Any] = {
    "requires": ("scikit-learn", "transformers"),
    "package": "transformers",
    "source": source(*FILES, *PEER),
}
slow: dict[str, Any] = {"left_out": lambda case: "a quick run has our linear patches and transformers'"}


@benchmark.contender("linear_aieng", **ours)
def linear_aieng(case: Case) -> Run:
    """One linear map of every patch, under our attention."""
    return trained(case, our_attention(case), "linear")


@benchmark.contender("stem_aieng", **ours, **slow)
def stem_aieng(case: Case) -> Run:
    """Small convolutions, under our attention."""
    return trained(case, our_attention(case), "stem")


@benchmark.contender("overlapping_aieng", **ours, **slow)
def overlapping_aieng(case: Case) -> Run:
    """Patches that share pixels with their neighbours, under our attention."""
    return trained(case, our_attention(case), "overlapping")


@benchmark.contender("linear_torch", requires=("scikit-learn",), package="torch", source=source(*FILES), **slow)
def linear_torch(case: Case) -> Run:
    """One linear map of every patch, under torch's attention."""
    return trained(case, torch_attention(), "linear")


@benchmark.contender("linear_transformers", **peer)
def linear_transformers(case: Case) -> Run:
    """The embedding of transformers' ViT, under torch's attention."""
    from aieng_suites.vision.peers import begun, patches

    return trained(
        case, torch_attention(), "linear", lambda ours: begun(ours, patches.linear(SIZE, 1, WIDTH, PATCH), patches.LINEAR)
    )


@benchmark.contender("overlapping_transformers", **peer, **slow)
def overlapping_transformers(case: Case) -> Run:
    """The first embedding of transformers' SegFormer, under torch's attention."""
    from aieng_suites.vision.peers import begun, patches

    return trained(
        case,
        torch_attention(),
        "overlapping",
        lambda ours: begun(ours, patches.overlapping(1, WIDTH, PATCH), patches.OVERLAPPING),
    )


def trained(
    case: Case, attention: Attention, kind: Embedding, replaced: Callable[[nn.Module], nn.Module] = lambda ours: ours
) -> Run:
    """The run of the network on patches of a kind, its embedding ``replaced`` before the training begins."""
    from aieng_suites.vision._training import Recipe, Task
    from aieng_suites.vision.data.digits import load
    from aieng_suites.vision.models import patches
    from aieng_suites.vision.models.vit import VisionTransformer

    made = {"linear": patches.LinearPatches, "stem": patches.ConvStem, "overlapping": patches.OverlappingPatches}

    def build() -> VisionTransformer:
        embed = made[kind](1, WIDTH, PATCH)
        model = VisionTransformer(attention, size=SIZE, patch=PATCH, width=WIDTH, depth=DEPTH, embed=embed)
        model.embed = replaced(model.embed)
        return model

    return network(case, build, Recipe(LEARNING_RATE, batch=BATCH), Task(load(), TARGET))
