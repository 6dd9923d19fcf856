"""``vision/positions``: one ViT with no positions, and with each way to tell where a patch is, beside transformers' learned ones.

A network with each encoding learns digits of 8 x 8 pixels and is judged on them, and then, without learning more, on the same test
digits enlarged to 12 x 12: 36 patches where it knew 16. Every encoding is brought to the larger grid so that a part of the picture
has the place that it had (``enlarged_accuracy``); those of a formula are also asked for places beyond the known ones, as if the
picture had grown (``_extrapolated_accuracy``). torch is imported inside the functions, so that listing costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from aieng_bench.define import Case, Metric, Study, grid
from aieng_suites.vision._study import PRELOAD, Run, figures_of, network, our_attention, source, torch_attention

if TYPE_CHECKING:
    from torch import nn

    from aieng_suites.vision._training import Task
    from aieng_suites.vision.data import Part
    from aieng_suites.vision.models.positions import Positions
    from aieng_suites.vision.models.vit import Attention, VisionTransformer

Encoding = Literal["none", "sinusoidal", "sinusoidal2d", "learned", "rotary", "relative"]

QUICK_EPOCHS, FULL_EPOCHS = 8, 20
ACCURACY_FLOOR = TARGET = 0.50
"""What a set of patches without positions passes in a full run."""
LEARNING_RATE, BATCH = 4e-3, 64
PATCH, WIDTH, DEPTH, HEADS = 2, 64, 2, 2
SIDE, LARGER = 4, 6
"""Patches along a side, of a digit as it is and of an enlarged one."""
FILES = ("positions.py", "data/digits.py", *(f"models/{name}.py" for name in ("vit", "positions", "patches")))
PEER = ("peers/__init__.py", "peers/vit.py")

benchmark = Study(
    name="vision/positions",
    title="Positions: how a transformer is told where a patch is",
    summary="None, sinusoidal, 2-D sinusoidal, learned, rotary, relative bias: accuracy on digits, and on enlarged ones.",
    baseline="learned_transformers",
    full={device: grid(epochs=FULL_EPOCHS) for device in ("cpu", "cuda")},
    quick={device: grid(epochs=QUICK_EPOCHS) for device in ("cpu", "cuda")},
    metrics=(
        *figures_of(Metric("accuracy", "", "higher", "test accuracy", floor=ACCURACY_FLOOR), TARGET),
        Metric("enlarged_accuracy", "", "higher", "accuracy on the test digits enlarged"),
    ),
    seeds=3,
    quick_seeds=1,
    minutes=3.5,
    quick_minutes=0.25,
    preload=PRELOAD,
)

ours: dict[str, Any] = {"kind": "ours", "requires": ("scikit-learn",), "source": source(*FILES, attention=True)}
slow: dict[str, Any] = {"left_out": lambda case: "a quick run has learned positions, ours and transformers'"}


@benchmark.contender("none_aieng", **ours, **slow)
def none_aieng(case: Case) -> Run:
    """No positions, on our attention: the patches as a set."""
    return trained(case, our_attention(case), "none")


@benchmark.contender("sinusoidal_aieng", **ours, **slow)
def sinusoidal_aieng(case: Case) -> Run:
    """Sinusoids of a patch's number, on our attention."""
    return trained(case, our_attention(case), "sinusoidal")


@benchmark.contender("sinusoidal2d_aieng", **ours, **slow)
def sinusoidal2d_aieng(case: Case) -> Run:
    """Sinusoids of a patch's row and column, on our attention."""
    return trained(case, our_attention(case), "sinusoidal2d")


@benchmark.contender("learned_aieng", **ours)
def learned_aieng(case: Case) -> Run:
    """A learned vector a patch, on our attention."""
    return trained(case, our_attention(case), "learned")


@benchmark.contender("rotary_aieng", **ours, **slow)
def rotary_aieng(case: Case) -> Run:
    """Queries and keys turned by row and column, on our attention."""
    return trained(case, our_attention(case), "rotary")


@benchmark.contender("relative_aieng", **ours, **slow)
def relative_aieng(case: Case) -> Run:
    """A learned bias a difference of places, on our attention where nothing learns; its gradient only torch's attention gives."""
    return trained(case, our_attention(case), "relative")


@benchmark.contender("learned_torch", requires=("scikit-learn",), package="torch", source=source(*FILES), **slow)
def learned_torch(case: Case) -> Run:
    """A learned vector a patch, on torch's attention."""
    return trained(case, torch_attention(), "learned")


@benchmark.contender(
    "learned_transformers", requires=("scikit-learn", "transformers"), package="transformers", source=source(*FILES, *PEER)
)
def learned_transformers(case: Case) -> Run:
    """transformers' ViT, which learns its positions and interpolates them; begun with the weights of ours."""
    from aieng_suites.vision._training import Recipe
    from aieng_suites.vision.peers import Scores, begun, vit

    def build() -> Scores:
        return Scores(begun(model(torch_attention(), "learned"), vit.build(depth=DEPTH), vit.NAMES))

    return network(
        case, build, Recipe(LEARNING_RATE, batch=BATCH), task(lambda made: {"enlarged_accuracy": vit.Enlarged(made.model)})
    )


def trained(case: Case, attention: Attention, encoding: Encoding) -> Run:
    from aieng_suites.vision._training import Recipe

    return network(
        case, lambda: model(attention, encoding), Recipe(LEARNING_RATE, batch=BATCH), task(lambda made: larger(made, encoding))
    )


def larger(trained: Any, encoding: Encoding) -> dict[str, nn.Module]:
    """A trained network for enlarged digits, under the name of the accuracy that it is judged by."""
    found = {"enlarged_accuracy": trained.placed(trained.positions.enlarged(LARGER))}
    if not list(trained.positions.parameters()):
        beyond = positions(encoding, LARGER).to(trained.class_token.device)
        found["_extrapolated_accuracy"] = trained.placed(beyond)
    return found


def model(attention: Attention, encoding: Encoding) -> VisionTransformer:
    from aieng_suites.vision.models.vit import VisionTransformer

    where = positions(encoding, SIDE)
    return VisionTransformer(attention, patch=PATCH, width=WIDTH, depth=DEPTH, heads=HEADS, positions=where)


def positions(encoding: Encoding, side: int) -> Positions:
    """The encoding of a grid of ``side``^2 patches."""
    from aieng_suites.vision.models import positions

    made: dict[Encoding, Callable[[], Positions]] = {
        "none": positions.Positions,
        "sinusoidal": lambda: positions.Sinusoidal(side, WIDTH),
        "sinusoidal2d": lambda: positions.Sinusoidal2d(side, WIDTH),
        "learned": lambda: positions.Learned(side * side + 1, WIDTH),
        "rotary": lambda: positions.Rotary(side, WIDTH // HEADS),
        "relative": lambda: positions.RelativeBias(side, HEADS),
    }
    return made[encoding]()


def task(larger: Callable[[Any], dict[str, nn.Module]]) -> Task:
    """Digits; and what the networks that ``larger`` makes of a trained one, for enlarged images, reach on enlarged test digits."""
    from aieng_suites.vision import _training
    from aieng_suites.vision.data.digits import load

    class Digits(_training.Task):
        def further(self, model: nn.Module, device: str) -> dict[str, float]:
            part = enlarged(self.data.test)
            return {name: self.judge(other, part, device) for name, other in larger(model).items()}

    return Digits(load(), TARGET)


def enlarged(part: Part) -> Part:
    """The images with as many pixels as the larger grid has, bilinear between their own."""
    import dataclasses

    import torch
    from torch.nn import functional

    images = functional.interpolate(torch.from_numpy(part.images), size=(LARGER * PATCH,) * 2, mode="bilinear")
    return dataclasses.replace(part, images=images.numpy())
