"""``vision/segmentation``: a U-Net and a Vision Transformer in its place, and transformers' SegFormer, on rendered scenes.

Up to three shapes lie on each picture's texture, and their masks are exact. Quality is the mean over the background and the four
shapes of intersection over union, all test pixels counted together. torch is imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aieng_bench.define import Case, Metric, Study, grid
from aieng_suites.vision._study import PRELOAD, Run, figures_of, network, our_attention, source, torch_attention

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from aieng_suites.vision import _training
    from aieng_suites.vision._training import Recipe, Task
    from aieng_suites.vision.data import Part
    from aieng_suites.vision.models.vit import Attention

CLASSES = 5
VALIDATION, TEST = 200, 500
MIOU_FLOOR, QUICK_FLOOR, TARGET = 0.35, 0.20, 0.45
"""A transformer must see each scene more often than a quick run has time for."""
RATES = {"unet": 6e-3, "transformer": 3e-3}
BATCH = 16
PALETTE = ((230, 60, 60), (60, 200, 90), (80, 120, 255), (250, 210, 60))
"""What circles, squares, triangles and crosses are painted in."""
PICTURED = 5
WIDTH = 8
"""Channels of the U-Net's first level."""
MODELS = ("unet", "resnet", "segmenter", "vit", "positions", "patches")
FILES = ("segmentation.py", "data/scenes.py", *(f"models/{name}.py" for name in MODELS))
PEER = ("peers/__init__.py", "peers/segformer.py")

benchmark = Study(
    name="vision/segmentation",
    title="Segmentation: a transformer in the place of a U-Net",
    summary="Four shapes on textured backgrounds, 32 x 32 RGB with exact masks: mean intersection over union, speed, size, memory.",
    baseline="unet",
    full={device: grid(scenes=2000, epochs=6) for device in ("cpu", "cuda")},
    quick={device: grid(scenes=400, epochs=6) for device in ("cpu", "cuda")},
    metrics=figures_of(Metric("miou", "", "higher", "test mIoU", floor=MIOU_FLOOR, quick_floor=QUICK_FLOOR), TARGET),
    seeds=5,
    quick_seeds=1,
    minutes=10,
    quick_minutes=0.25,
    preload=PRELOAD,
)


@benchmark.contender("vit_aieng", kind="ours", requires=("scikit-image",), source=source(*FILES, attention=True))
def vit_aieng(case: Case) -> Run:
    """Segmenter with a convolutional stem, on our attention."""
    return transformer(case, our_attention(case))


@benchmark.contender(
    "vit_torch",
    seeds=3,
    requires=("scikit-image",),
    package="torch",
    source=source(*FILES),
    left_out=lambda case: "it is vit_aieng on another attention, as a quick vision/digits shows",
)
def vit_torch(case: Case) -> Run:
    """The same on torch's attention."""
    return transformer(case, torch_attention())


@benchmark.contender("unet", requires=("scikit-image",), package="torch", source=source(*FILES))
def unet(case: Case) -> Run:
    """The convolutional network that most would train."""
    from aieng_suites.vision.models.unet import UNet

    return network(case, lambda: UNet(classes=CLASSES, width=WIDTH), recipe("unet"), segmentation(case))


@benchmark.contender(
    "segformer_transformers",
    seeds=3,
    requires=("scikit-image", "transformers"),
    package="transformers",
    source=source(*FILES, *PEER),
    left_out=lambda case: "a quick run has too few steps for it",
)
def segformer_transformers(case: Case) -> Run:
    """transformers' SegFormer of about the same size."""
    from aieng_suites.vision.peers import segformer

    return network(case, segformer.build, recipe("transformer"), segmentation(case))


def transformer(case: Case, attention: Attention) -> Run:
    from aieng_suites.vision.data.scenes import SIZE
    from aieng_suites.vision.models.patches import ConvStem
    from aieng_suites.vision.models.segmenter import Segmenter

    def build() -> Segmenter:
        return Segmenter(attention, size=SIZE, channels=3, classes=CLASSES, embed=ConvStem(3, 64, 4))

    return network(case, build, recipe("transformer"), segmentation(case))


def recipe(kind: str) -> Recipe:
    from aieng_suites.vision._training import Recipe

    return Recipe(RATES[kind], batch=BATCH)


def segmentation(case: Case) -> Task:
    """Cross entropy of every pixel. Images and masks are mirrored together, half of them, at random."""
    import numpy as np
    import torch
    from torch.nn import functional

    from aieng_suites.vision import _exhibits, _training
    from aieng_suites.vision.data.scenes import SHAPES, dataset

    class Segmentation(_training.Task):
        quality = "miou"

        def loss(self, model: Any, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
            mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
            masks = torch.where(mirrored[:, None, None], labels.flip(2), labels)
            return functional.cross_entropy(model(self.data.standardised(images)), masks)

        def score(self, predict: Callable[[Tensor], Tensor], part: Part, device: str) -> float:
            return mean_iou(self.confusion(predict, part, device))

        def names(self) -> tuple[str, ...]:
            return ("background", *SHAPES)

        def pictures(self, model: Any, predict: Callable[[Tensor], Tensor], device: str) -> dict[str, _training.Figure]:
            images, masks = (x[:PICTURED] for x in _training.tensors(self.data.test, device))
            found = predict(self.data.standardised(images)).argmax(1)
            right = (found == masks).double().mean((1, 2)).tolist()
            captions = [f"scene {n}, {100 * share:.0f} % of pixels right" for n, share in enumerate(right)]
            note = "Circles are red, squares green, triangles blue, crosses yellow."
            return {"masks": _exhibits.masks(images, masks, found, PALETTE, captions, note)}

    sizes = (case.scenes, VALIDATION, TEST)
    return Segmentation(dataset(sizes, lambda s: s.masks.astype(np.int64), CLASSES, objects=3), TARGET)


def mean_iou(counts: Tensor) -> float:
    """Mean over classes of |found and true| / |found or true|, from counts of pixels, true by found class."""
    both, either = counts.diag(), counts.sum(0) + counts.sum(1) - counts.diag()
    return float((both / either).mean())
