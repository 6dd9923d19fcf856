"""``vision/self_supervised``: what a transformer learns of digits without labels: DINOv2's self-distillation, and SimCLR.

The networks see the training digits without their labels, two views of each at a time. Their features are then judged with the
labels: by those of a test digit's five nearest training digits (``accuracy``), and by a linear layer (``probe_accuracy``). Beside
them are the features of the same ViT taught with labels and before it is taught anything, and raw pixels, which on these small
scans are good features already. torch is imported inside the functions, so that listing costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aieng_bench.define import Case, Metric, Study, grid
from aieng_suites.vision._study import PRELOAD, Run, figures_of, network, our_attention, source, torch_attention

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from aieng_suites.vision._training import Recipe, Task
    from aieng_suites.vision.models.dinov2 import DinoTransformer
    from aieng_suites.vision.models.vit import Attention

    Loss = Callable[[Any, Tensor, Tensor, Generator], Tensor]

ACCURACY_FLOOR = TARGET = 0.70
SIZES: dict[str, Any] = {"size": 8, "patch": 2, "width": 64, "depth": 2, "heads": 2}
DINOV2: dict[str, Any] = {"momentum": 0.95, "prototypes": 64, "spread": 1.0}
"""For a thousand steps on a thousand images: a faster teacher, fewer prototypes and more spread than the paper's millions want."""
HIDDEN = 0.3
"""Share of the patches that DINOv2 hides from its student."""
SHIFT, TURN, ZOOM = 0.8, 0.12, 0.08
"""How far views are moved: a third more than the images of a training with labels."""
RATES = {"dinov2": 1e-3, "simclr": 1e-3, "supervised": 4e-3}
MODELS = ("vit", "positions", "patches", "dinov2", "simclr")
FILES = ("self_supervised.py", "_features.py", "data/digits.py", *(f"models/{name}.py" for name in MODELS))
PEER = ("peers/__init__.py", "peers/vit.py", "peers/dinov2.py")

benchmark = Study(
    name="vision/self_supervised",
    title="Self-supervision: features learned without labels",
    summary="DINOv2 and SimCLR on unlabelled 8 x 8 scans, judged by neighbours and a linear probe; here raw pixels are better.",
    baseline="dinov2_transformers",
    full={device: grid(epochs=10) for device in ("cpu", "cuda")},
    quick={device: grid(epochs=2) for device in ("cpu", "cuda")},
    metrics=(
        *figures_of(Metric("accuracy", "", "higher", "test accuracy of nearest neighbours", floor=ACCURACY_FLOOR), TARGET),
        Metric("probe_accuracy", "", "higher", "test accuracy of a linear probe"),
    ),
    seeds=5,
    quick_seeds=1,
    minutes=6,
    quick_minutes=0.25,
    preload=PRELOAD,
)

ours: dict[str, Any] = {"kind": "ours", "requires": ("scikit-learn",), "source": source(*FILES, attention=True)}
plain: dict[str, Any] = {"requires": ("scikit-learn",), "package": "torch", "source": source(*FILES)}
slow: dict[str, Any] = {"left_out": lambda case: "a quick run has our two, transformers' backbone and raw pixels"}


@benchmark.contender("dinov2_aieng", **ours)
def dinov2_aieng(case: Case) -> Run:
    """Self-distillation on our attention: a student taught by its own average."""
    return distilled(case, our_attention(case))


@benchmark.contender("dinov2_torch", **plain, **slow, seeds=3)
def dinov2_torch(case: Case) -> Run:
    """The same on torch's attention."""
    return distilled(case, torch_attention())


@benchmark.contender(
    "dinov2_transformers", seeds=3, requires=("scikit-learn", "transformers"), package="transformers", source=source(*FILES, *PEER)
)
def dinov2_transformers(case: Case) -> Run:
    """The same with transformers' Dinov2 as student and teacher, begun with the weights of ours."""
    from aieng_suites.vision.peers import begun, dinov2

    def replaced(ours: Any) -> Any:
        return dinov2.Backbone(begun(ours, dinov2.build(**SIZES), dinov2.NAMES))

    return distilled(case, torch_attention(), replaced)


@benchmark.contender("simclr_aieng", **ours)
def simclr_aieng(case: Case) -> Run:
    """Contrastive learning on our attention: which of all views is of the same digit."""
    return contrasted(case, our_attention(case))


@benchmark.contender("simclr_torch", **plain, **slow, seeds=3)
def simclr_torch(case: Case) -> Run:
    """The same on torch's attention."""
    return contrasted(case, torch_attention())


@benchmark.contender("supervised_torch", **plain, **slow)
def supervised_torch(case: Case) -> Run:
    """The features of the same ViT, on torch's attention, when it is told the labels."""
    from aieng_suites.vision.models.vit import VisionTransformer

    return network(case, lambda: VisionTransformer(torch_attention(), **SIZES), recipe("supervised"), supervised())


@benchmark.contender("untrained_torch", **plain, **slow)
def untrained_torch(case: Case) -> Run:
    """The features of the same ViT as it is before it learns."""
    import torch

    def run(seed: int) -> dict[str, float]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = backbone(torch_attention()).to(case.device).eval()
        return fixed(model, case.device, sum(p.numel() for p in model.parameters()))

    return run


@benchmark.contender("pixels", devices=("cpu",), **plain)
def pixels(case: Case) -> Run:
    """Raw pixels as features."""
    return raw


def backbone(attention: Attention) -> DinoTransformer:
    from aieng_suites.vision.models.dinov2 import DinoTransformer

    return DinoTransformer(attention, **SIZES)


def distilled(case: Case, attention: Attention, replaced: Callable[[Any], Any] = lambda ours: ours) -> Run:
    """The run of self-distillation, the backbones of student and teacher ``replaced`` before the training begins."""
    import torch

    from aieng_suites.vision.models.dinov2 import SelfDistillation

    def loss(model: Any, one: Tensor, other: Tensor, generator: Generator) -> Tensor:
        patches = (SIZES["size"] // SIZES["patch"]) ** 2
        hidden = torch.rand(2, len(one), patches, generator=generator) < HIDDEN
        found: Tensor = model.loss(one, other, hidden.to(one.device))
        return found

    def stepped(model: Any, progress: float) -> None:
        model.update_teacher(progress)

    def build() -> SelfDistillation:
        model = SelfDistillation(backbone(attention), SIZES["width"], **DINOV2)
        model.student.backbone, model.teacher.backbone = replaced(model.student.backbone), replaced(model.teacher.backbone)
        model.teacher.requires_grad_(False)
        return model

    return network(case, build, recipe("dinov2"), unlabelled(loss, stepped))


def contrasted(case: Case, attention: Attention) -> Run:
    from aieng_suites.vision.models.simclr import SimCLR

    def loss(model: Any, one: Tensor, other: Tensor, generator: Generator) -> Tensor:
        found: Tensor = model.loss(one, other)
        return found

    return network(case, lambda: SimCLR(backbone(attention), SIZES["width"]), recipe("simclr"), unlabelled(loss))


def recipe(kind: str) -> Recipe:
    from aieng_suites.vision._training import Recipe

    return Recipe(RATES[kind])


def supervised() -> Task:
    """Learning from labels, judged by the class token, which the head would read."""
    from aieng_suites.vision._features import FeatureTask
    from aieng_suites.vision.data.digits import load

    class Supervised(FeatureTask):
        def predictor(self, model: Any) -> Callable[[Tensor], Tensor]:
            return lambda images: model.tokens(images)[:, 0]

    return Supervised(load(), TARGET)


def unlabelled(loss: Loss, stepped: Callable[[Any, float], None] = lambda model, progress: None) -> Task:
    """Learning from two views of each image by ``loss``; after a step ``stepped`` is called. Labels are for judging alone."""
    import dataclasses

    from aieng_suites.vision._features import FeatureTask
    from aieng_suites.vision.data import Jitter
    from aieng_suites.vision.data.digits import load

    class Unlabelled(FeatureTask):
        def loss(self, model: nn.Module, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
            one, other = (self.data.augmented(images, generator) for _ in range(2))
            return loss(model, one, other, generator)

        def stepped(self, model: nn.Module, progress: float) -> None:
            stepped(model, progress)

    return Unlabelled(dataclasses.replace(load(), jitter=Jitter(SHIFT, TURN, ZOOM)), TARGET)


def raw(seed: int) -> dict[str, float]:
    """The figures of pixels as features; nothing is drawn, so that all seeds are one."""
    from aieng_suites.vision.data.digits import load

    data = load()
    return fixed(lambda images: (images * data.deviation + data.mean).flatten(1), "cpu", data.train.images.size)


def fixed(features: Callable[[Tensor], Tensor], device: str, parameters: int) -> dict[str, float]:
    """The figures of features that nothing learns: what is timed is the fit of the probe, and in inference the search too."""
    import torch

    from aieng_suites.vision import _features, _training
    from aieng_suites.vision.data.digits import load

    task = _features.FeatureTask(load())
    with torch.no_grad():
        (known, labels), (asked, wanted) = (task.labelled(features, part, device) for part in (task.data.train, task.data.test))
        validation = task.score(features, task.data.validation, device)
    probes: list[_features.LinearProbe] = []
    times: list[float] = []

    def fit() -> None:
        begin = _training.now(device)
        probes.append(_features.LinearProbe(known, labels))
        times.append(_training.now(device) - begin)

    peak = _training.peak_bytes(fit, device)
    images = task.data.standardised(_training.tensors(task.data.test, device)[0][: _training.THROUGHPUT_BATCH])

    def predict(some: Tensor) -> Tensor:
        return _features.nearest(known, labels, features(some))

    with torch.inference_mode():
        speed = _training.inference(predict, images[:1], images, device)
        flops = _training.operations(predict, images[:1])
    return {
        "accuracy": _features.share(_features.nearest(known, labels, asked), wanted),
        "probe_accuracy": _features.share(probes[0](asked), wanted),
        **_training.time_to(TARGET, times[0] if validation >= TARGET else None),
        "train_images_per_s": len(known) / times[0],
        **speed,
        "flops": flops,
        "parameters": float(parameters),
        "peak_bytes": peak,
        "_validation_accuracy": validation,
        "_deterministic": 1.0,
    }
