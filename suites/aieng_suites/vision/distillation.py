"""``vision/distillation``: DeiT on the digits: a ViT that learns from a convolutional teacher, beside the same ViT without one.

The teacher is a ResNet trained from the same seed on the same part before the student begins, once for all students; what it costs
is told apart (``teacher_s``) and not counted as the student's training. The student sees the teacher's scores of the very image it
sees, moved as it is, as the paper asks. torch is imported inside the functions, so that listing costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from aieng_bench.define import Case, Metric, Study, grid
from aieng_suites.vision._study import PRELOAD, Run, figures_of, our_attention, source, torch_attention

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from aieng_suites.vision._training import Task
    from aieng_suites.vision.models.vit import Attention

Kind = Literal["hard", "soft"]

QUICK_EPOCHS, FULL_EPOCHS = 7, 25
ACCURACY_FLOOR, QUICK_FLOOR, TARGET = 0.95, 0.90, 0.95
LEARNING_RATE, BATCH = 4e-3, 64
FILES = (
    "distillation.py",
    "_once.py",
    "data/digits.py",
    *(f"models/{name}.py" for name in ("deit", "vit", "positions", "patches", "resnet")),
)
PEER = ("peers/__init__.py", "peers/vit.py", "peers/deit.py")

benchmark = Study(
    name="vision/distillation",
    title="Distillation: a transformer taught by a convolutional network",
    summary="DeiT with a hard and a soft teacher on 8 x 8 scans, beside the same ViT without a teacher, and the teacher.",
    baseline="deit_hard_transformers",
    full={device: grid(epochs=FULL_EPOCHS) for device in ("cpu", "cuda")},
    quick={device: grid(epochs=QUICK_EPOCHS) for device in ("cpu", "cuda")},
    metrics=figures_of(Metric("accuracy", "", "higher", "test accuracy", floor=ACCURACY_FLOOR, quick_floor=QUICK_FLOOR), TARGET),
    seeds=5,
    quick_seeds=1,
    minutes=6,
    quick_minutes=0.25,
    preload=PRELOAD,
)

ours: dict[str, Any] = {"requires": ("scikit-learn", "safetensors"), "source": source(*FILES, attention=True)}
plain: dict[str, Any] = {
    "requires": ("scikit-learn", "safetensors"),
    "package": "torch",
    "source": source(*FILES),
    "left_out": lambda case: "a quick run has hard distillation and its peer",
}


@benchmark.contender("deit_hard_aieng", kind="ours", **ours)
def deit_hard_aieng(case: Case) -> Run:
    """DeiT on our attention, its second token taught the teacher's choice."""
    return student(case, our_attention(case), "hard")


@benchmark.contender("deit_soft_aieng", kind="ours", **ours, seeds=3, left_out=plain["left_out"])
def deit_soft_aieng(case: Case) -> Run:
    """DeiT on our attention, its second token taught the teacher's scores."""
    return student(case, our_attention(case), "soft")


@benchmark.contender("deit_hard_torch", **plain, seeds=3)
def deit_hard_torch(case: Case) -> Run:
    """Our DeiT on torch's attention, taught the teacher's choice."""
    return student(case, torch_attention(), "hard")


@benchmark.contender(
    "deit_hard_transformers",
    seeds=3,
    requires=("scikit-learn", "safetensors", "transformers"),
    package="transformers",
    source=source(*FILES, *PEER),
)
def deit_hard_transformers(case: Case) -> Run:
    """transformers' DeiT in our loop, begun with the weights of ours, taught the teacher's choice."""
    from aieng_suites.vision.models.deit import DistilledVisionTransformer
    from aieng_suites.vision.peers import begun, deit

    def build() -> Any:
        return deit.Both(begun(DistilledVisionTransformer(torch_attention()), deit.build(), deit.NAMES))

    return taught(case, build, "hard")


@benchmark.contender("vit_torch", **plain)
def vit_torch(case: Case) -> Run:
    """Our ViT of the same size without a teacher, on torch's attention: what DeiT must gain over."""
    from aieng_suites.vision._study import network
    from aieng_suites.vision._training import Recipe
    from aieng_suites.vision.models.vit import VisionTransformer

    return network(case, lambda: VisionTransformer(torch_attention()), Recipe(LEARNING_RATE, batch=BATCH), untaught)


def student(case: Case, attention: Attention, kind: Kind) -> Run:
    from aieng_suites.vision.models.deit import DistilledVisionTransformer

    return taught(case, lambda: DistilledVisionTransformer(attention), kind)


def taught(case: Case, build: Callable[[], Any], kind: Kind) -> Run:
    """The run of a student: train the teacher from the seed, then the student for as many epochs."""
    from aieng_suites.vision import _once, _training
    from aieng_suites.vision.models.resnet import ResNet

    recipe, device, epochs = _training.Recipe(LEARNING_RATE, batch=BATCH), case.device, case.epochs
    hashed = source(*FILES)()

    def run(seed: int) -> dict[str, _training.Figure]:
        def train() -> _training.Fit:
            return _training.Training(ResNet, recipe, untaught(seed), epochs, seed, device).run()

        teacher = ResNet()
        facts = _once.trained(f"teacher-{hashed}-{epochs}-{seed}", teacher, train, device)
        task = distillation(teacher.eval(), kind, seed)
        figures = _training.figures(build, recipe, task, epochs=epochs, seed=seed, device=device)
        return figures | {"_teacher_s": facts["seconds"], "_teacher_validation_accuracy": facts["validation"]}

    return run


def untaught(seed: int) -> Task:
    """Classification of the digits of a seed's fold by their labels alone."""
    from aieng_suites.vision._training import Task
    from aieng_suites.vision.data.digits import of_seed

    return Task(of_seed(seed), TARGET)


def distillation(teacher: nn.Module, kind: Kind, seed: int) -> Task:
    """Classification of the digits by a model with :meth:`both` heads, the second of which is taught by ``teacher``."""
    import torch

    from aieng_suites.vision._training import Task
    from aieng_suites.vision.models.deit import hard_distillation, soft_distillation

    losses: dict[Kind, Callable[..., Tensor]] = {"hard": hard_distillation, "soft": soft_distillation}

    class Distillation(Task):
        def loss(self, model: Any, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
            seen = self.data.augmented(images, generator)
            with torch.no_grad():
                choice = teacher(seen)
            return losses[kind](model.both(seen), labels, choice, smoothing=self.label_smoothing)

    return Distillation(untaught(seed).data, TARGET)
