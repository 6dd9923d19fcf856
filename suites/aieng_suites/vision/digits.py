"""``vision/digits``: a Vision Transformer and a small ResNet trained from scratch on scikit-learn's digits, beside an SVM.

The two transformers are one model, one recipe and one stream of random numbers; they differ in the attention that runs under them,
forward and backward. Seed n is tested on fold n of five, so that the mean of a full run is a cross-validation. torch is imported
inside the functions, so that listing costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aieng_bench.define import Case, Metric, Study, grid
from aieng_suites.vision._study import PRELOAD, Run, figures_of, network, our_attention, source, torch_attention

if TYPE_CHECKING:
    from aieng_suites.vision._training import Figure
    from aieng_suites.vision.models.vit import Attention

QUICK_EPOCHS, FULL_EPOCHS = 8, 80
ACCURACY_FLOOR, QUICK_FLOOR, TARGET = 0.97, 0.93, 0.95
LEARNING_RATE, BATCH = 4e-3, 64
FILES = ("digits.py", "data/digits.py", *(f"models/{name}.py" for name in ("vit", "positions", "patches", "resnet")))

benchmark = Study(
    name="vision/digits",
    title="Digits: Vision Transformer and ResNet from scratch",
    summary="1,797 real scans of 8 x 8 pixels, five folds: quality, time to a quality, speed, size and memory.",
    baseline="resnet",
    full={device: grid(epochs=FULL_EPOCHS) for device in ("cpu", "cuda")},
    quick={device: grid(epochs=QUICK_EPOCHS) for device in ("cpu", "cuda")},
    metrics=figures_of(Metric("accuracy", "", "higher", "test accuracy", floor=ACCURACY_FLOOR, quick_floor=QUICK_FLOOR), TARGET),
    seeds=5,
    quick_seeds=1,
    minutes=13,
    quick_minutes=0.25,
    preload=PRELOAD,
)


@benchmark.contender("vit_aieng", kind="ours", requires=("scikit-learn",), source=source(*FILES, attention=True))
def vit_aieng(case: Case) -> Run:
    """The transformer on our attention."""
    return transformer(case, our_attention(case))


@benchmark.contender("vit_torch", requires=("scikit-learn",), package="torch", source=source(*FILES))
def vit_torch(case: Case) -> Run:
    """The same transformer on ``torch.nn.functional.scaled_dot_product_attention``."""
    return transformer(case, torch_attention())


@benchmark.contender("resnet", requires=("scikit-learn",), package="torch", source=source(*FILES))
def resnet(case: Case) -> Run:
    """The CNN that most would train."""
    from aieng_suites.vision.models.resnet import ResNet

    return trained(case, ResNet)


@benchmark.contender("svc", devices=("cpu",), requires=("scikit-learn",), package="scikit-learn", source=source(*FILES))
def svc(case: Case) -> Run:
    """scikit-learn's support vector machine on raw pixels: what the images give without learning features. It has no epochs."""
    return support_vectors


def transformer(case: Case, attention: Attention) -> Run:
    from aieng_suites.vision.models.vit import VisionTransformer

    return trained(case, lambda: VisionTransformer(attention))


def trained(case: Case, build: Callable[[], Any]) -> Run:
    from aieng_suites.vision._training import Recipe, Task
    from aieng_suites.vision.data.digits import of_seed

    return network(case, build, Recipe(LEARNING_RATE, batch=BATCH), lambda seed: Task(of_seed(seed), TARGET))


def support_vectors(seed: int) -> dict[str, Figure]:
    """Fit and measure the support vector machine; it draws no random numbers, so that only the fold differs."""
    import torch
    from sklearn.svm import SVC

    from aieng_suites.vision import _exhibits
    from aieng_suites.vision._training import THROUGHPUT_BATCH, inference, peak_bytes, time_to
    from aieng_suites.vision.data.digits import LARGEST_PIXEL, of_seed

    data = of_seed(seed)
    train, validation, test = (part.images.reshape(len(part.labels), -1) for part in (data.train, data.validation, data.test))
    model = SVC(gamma=0.001 * LARGEST_PIXEL**2, C=10.0)
    seconds = 0.0

    def fit() -> None:
        nonlocal seconds
        begin = time.perf_counter()
        model.fit(train, data.train.labels)
        seconds = time.perf_counter() - begin

    peak = peak_bytes(fit, "cpu")
    labels, found = (torch.from_numpy(x) for x in (data.test.labels, model.predict(test)))
    quality = float(model.score(validation, data.validation.labels))
    return {
        "accuracy": float(model.score(test, data.test.labels)),
        **time_to(TARGET, seconds if quality >= TARGET else None),
        "train_images_per_s": len(train) / seconds,
        **inference(model.predict, test[:1], test[:THROUGHPUT_BATCH]),
        "flops": float(3 * model.support_vectors_.size + 2 * model.dual_coef_.size),
        "parameters": float(model.support_vectors_.size + model.dual_coef_.size + model.intercept_.size),
        "peak_bytes": peak,
        "_validation_accuracy": quality,
        "_deterministic": 1.0,
        "confusion": _exhibits.confusion(_exhibits.counted(labels, found, data.classes), [str(n) for n in range(data.classes)]),
    }
