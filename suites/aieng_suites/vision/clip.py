"""``vision/clip``: CLIP trained on captioned scenes and asked for kinds by prompt, beside transformers' CLIP and a supervised ViT.

A scene shows one shape and its caption says what and, at times, how large and where. 4 of the 24 kinds never occur in training,
though their colours and shapes do in others. Zero-shot accuracy is over the 20 kinds that do, the prompt of one of all 24 to be
chosen; what the other 4 reach is a figure of its own. The supervised ViT, of the image tower's size, learns the kind itself and
cannot know them.
torch is imported inside the functions, so that listing costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aieng_bench.define import Case, Metric, Study, grid
from aieng_suites.vision._study import PRELOAD, Run, figures_of, network, our_attention, source, torch_attention

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from aieng_suites.vision._training import Task
    from aieng_suites.vision.data import Dataset
    from aieng_suites.vision.models.clip import CLIP
    from aieng_suites.vision.models.vit import Attention

VALIDATION, TEST, UNSEEN_TEST = 200, 500, 200
ACCURACY_FLOOR, QUICK_FLOOR, TARGET = 0.90, 0.20, 0.90
"""Chance is 1 in 24."""
LEARNING_RATE = 2e-3
LENGTH = 12
"""Words of the longest caption, with its two ends, and some."""
SIZES: dict[str, Any] = {"width": 64, "depth": 3, "heads": 2}
PATCH, COMMON = 8, 32
FILES = ("clip.py", "data/scenes.py", *(f"models/{name}.py" for name in ("clip", "vit", "positions", "patches")))
PEER = ("peers/__init__.py", "peers/clip.py")

benchmark = Study(
    name="vision/clip",
    title="CLIP: images and captions in one space",
    summary="Captioned scenes of 24 kinds, 4 of them kept from training: zero-shot accuracy by prompt beside a supervised ViT's.",
    baseline="clip_transformers",
    full={device: grid(scenes=20000, batch=64, epochs=5) for device in ("cpu", "cuda")},
    quick={device: grid(scenes=4000, batch=32, epochs=2) for device in ("cpu", "cuda")},
    metrics=(
        *figures_of(
            Metric("accuracy", "", "higher", "zero-shot test accuracy", floor=ACCURACY_FLOOR, quick_floor=QUICK_FLOOR), TARGET
        ),
        Metric("unseen_accuracy", "", "higher", "zero-shot accuracy of kinds never seen"),
    ),
    seeds=5,
    quick_seeds=1,
    minutes=16,
    quick_minutes=0.25,
    preload=PRELOAD,
)

plain: dict[str, Any] = {"requires": ("scikit-image",), "package": "torch", "source": source(*FILES)}


@benchmark.contender("clip_aieng", kind="ours", requires=("scikit-image",), source=source(*FILES, attention=True))
def clip_aieng(case: Case) -> Run:
    """CLIP on our attention, both towers."""
    attention = our_attention(case)
    return trained(case, lambda: model(attention), by_caption=True)


@benchmark.contender(
    "clip_torch", **plain, seeds=3, left_out=lambda case: "it is clip_aieng on another attention, as a quick vision/digits shows"
)
def clip_torch(case: Case) -> Run:
    """The same on torch's attention."""
    return trained(case, lambda: model(torch_attention()), by_caption=True)


@benchmark.contender(
    "clip_transformers", seeds=3, requires=("scikit-image", "transformers"), package="transformers", source=source(*FILES, *PEER)
)
def clip_transformers(case: Case) -> Run:
    """transformers' CLIP of the same sizes, begun with the same weights."""
    from aieng_suites.vision.data.scenes import SIZE
    from aieng_suites.vision.peers import begun, clip

    def build() -> Any:
        ours = model(torch_attention())
        return clip.Towers(begun(ours, clip.build(ours, size=SIZE), clip.NAMES))

    return trained(case, build, by_caption=True)


@benchmark.contender("supervised_torch", **plain, left_out=lambda case: "a quick run has our CLIP and transformers'")
def supervised_torch(case: Case) -> Run:
    """A ViT of the image tower's size that is told the kind, on torch's attention."""
    from aieng_suites.vision.data.scenes import KINDS, SIZE
    from aieng_suites.vision.models.vit import VisionTransformer

    def build() -> VisionTransformer:
        return VisionTransformer(torch_attention(), size=SIZE, patch=PATCH, channels=3, classes=len(KINDS), **SIZES)

    return trained(case, build, by_caption=False)


def model(attention: Attention) -> CLIP:
    from aieng_suites.vision.data.scenes import END, SIZE, WORDS
    from aieng_suites.vision.models.clip import CLIP, ImageTower, TextTower

    image = ImageTower(attention, size=SIZE, patch=PATCH, channels=3, **SIZES)
    text = TextTower(attention, vocabulary=len(WORDS), length=LENGTH, end=END, **SIZES)
    return CLIP(image, text, width=SIZES["width"], common=COMMON)


def trained(case: Case, build: Callable[[], Any], *, by_caption: bool) -> Run:
    from aieng_suites.vision._training import Recipe

    return network(case, build, Recipe(LEARNING_RATE, batch=case.batch), task(case, by_caption))


def scenes_of(sizes: tuple[int, int, int], kinds: tuple[int, ...]) -> Dataset:
    """Scenes of some kinds. Labels (N, 1 + LENGTH) are the kind, then the caption's words."""
    import numpy as np

    from aieng_suites.vision.data import scenes

    def label(made: scenes.Scenes) -> scenes.Integers:
        return np.concatenate([made.kinds, scenes.tokens(made.captions, LENGTH)], axis=1)

    return scenes.dataset(sizes, label, len(scenes.KINDS), kinds=kinds)


def task(case: Case, by_caption: bool) -> Task:
    """Learning kinds from captions, by matching a batch's images and captions, or from the kind itself."""
    import torch
    from torch.nn import functional

    from aieng_suites.vision import _training
    from aieng_suites.vision.data import scenes
    from aieng_suites.vision.models.clip import contrastive_loss

    class Kinds(_training.Task):
        def loss(self, model: Any, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
            scores = model(self.data.standardised(images))
            return functional.cross_entropy(scores, labels[:, 0], label_smoothing=self.label_smoothing)

        def truth(self, labels: Tensor) -> Tensor:
            return labels[:, 0]

        def names(self) -> list[str]:
            return [" ".join(kind) for kind in scenes.KINDS]

        def further(self, model: nn.Module, device: str) -> dict[str, float]:
            return {"unseen_accuracy": self.judge(model, scenes_of((0, 0, UNSEEN_TEST), scenes.UNSEEN).test, device)}

    class Captions(Kinds):
        def loss(self, model: Any, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
            captions = labels[:, 1:]
            same = (captions[:, None] == captions[None, :]).all(-1)
            return contrastive_loss(model(self.data.standardised(images), captions), same)

        def predictor(self, model: Any) -> Callable[[Tensor], Tensor]:
            prompts = scenes.tokens([scenes.phrase(kind) for kind in range(len(scenes.KINDS))], LENGTH)
            texts = model.encode_texts(torch.from_numpy(prompts).to(model.scale().device))
            return lambda images: model.encode_images(images) @ texts.T

    return (Captions if by_caption else Kinds)(scenes_of((case.scenes, VALIDATION, TEST), scenes.SEEN), TARGET)
