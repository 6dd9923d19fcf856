"""``vision/digits``: a Vision Transformer and a small ResNet trained from scratch on scikit-learn's digits, beside an SVM.

The two transformers are one model, one recipe and one stream of random numbers; they differ in the attention that runs under them,
forward and backward. torch is imported inside the functions, so that listing costs nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aieng_kernels._family import candidates, declared

from aieng_bench.define import Case, Metric, Study, Unsupported, grid

if TYPE_CHECKING:
    from aieng_suites.vision._training import Recipe
    from aieng_suites.vision.models.vit import Attention

Run = Callable[[int], dict[str, float]]

QUICK_EPOCHS, FULL_EPOCHS = 18, 80
ACCURACY_FLOOR = 0.95
LEARNING_RATE = 4e-3

benchmark = Study(
    name="vision/digits",
    title="Digits: Vision Transformer and ResNet from scratch",
    summary="1,797 real scans of 8 x 8 pixels, split 70/10/20: quality, time to a quality, speed, size and memory over seeds.",
    baseline="resnet",
    full={device: grid(epochs=FULL_EPOCHS) for device in ("cpu", "cuda")},
    quick={device: grid(epochs=QUICK_EPOCHS) for device in ("cpu", "cuda")},
    metrics=(
        Metric("accuracy", "", "higher", "test accuracy", floor=ACCURACY_FLOOR),
        Metric("time_to_95_s", "s", "lower", "training time to 95 % validation accuracy"),
        Metric("train_images_per_s", "images/s", "higher", "training throughput"),
        Metric("inference_images_per_s", "images/s", "higher", "inference throughput, batch 256"),
        Metric("latency_p50_us", "µs", "lower", "latency p50, batch 1"),
        Metric("latency_p99_us", "µs", "lower", "latency p99, batch 1"),
        Metric("parameters", "", "lower", "parameters"),
        Metric("peak_bytes", "B", "lower", "peak memory of training"),
    ),
    seeds=3,
    quick_seeds=1,
)


def source_hash() -> str:
    """Hash of all that the study is made of: its data, its loop, its models, its declaration."""
    folder = Path(__file__).parent
    files = [folder / "digits.py", folder / "_data.py", folder / "_training.py", *sorted((folder / "models").glob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def source_hash_with_attention() -> str:
    """As :func:`source_hash`, with our attention's own."""
    return hashlib.sha256((source_hash() + declared("attention")[0].source_hash()).encode()).hexdigest()[:16]


@benchmark.contender("vit_aieng", kind="ours", requires=("scikit-learn",), source=source_hash_with_attention)
def vit_aieng(case: Case) -> Run:
    """The transformer on our attention. Unsupported where only the plain-torch definition of it would run."""
    if all(i.name == "reference" for i in candidates("attention", case.device, "float32")):
        raise Unsupported(f"no compiled attention for float32 on {case.device} here")
    from aieng_kernels.attention import scaled_dot_product_attention

    return transformer(case, scaled_dot_product_attention)


@benchmark.contender("vit_torch", requires=("scikit-learn",), package="torch", source=source_hash)
def vit_torch(case: Case) -> Run:
    """The same transformer on ``torch.nn.functional.scaled_dot_product_attention``."""
    from torch.nn.functional import scaled_dot_product_attention

    return transformer(case, scaled_dot_product_attention)


@benchmark.contender("resnet", requires=("scikit-learn",), package="torch", source=source_hash)
def resnet(case: Case) -> Run:
    """The CNN that most would train."""
    from aieng_suites.vision._training import Recipe
    from aieng_suites.vision.models.resnet import ResNet

    return network(case, ResNet, Recipe(LEARNING_RATE))


@benchmark.contender("svc", devices=("cpu",), requires=("scikit-learn",), package="scikit-learn", source=source_hash)
def svc(case: Case) -> Run:
    """scikit-learn's support vector machine on raw pixels: what the images give without learning features. It has no epochs."""
    return support_vectors


def transformer(case: Case, attention: Attention) -> Run:
    from aieng_suites.vision._training import Recipe
    from aieng_suites.vision.models.vit import VisionTransformer

    return network(case, lambda: VisionTransformer(attention), Recipe(LEARNING_RATE))


def network(case: Case, build: Callable[[], Any], recipe: Recipe) -> Run:
    """The run of a network: train from the seed, judge on the test part, time inference."""
    from aieng_suites.vision import _training
    from aieng_suites.vision._data import load

    data, device, epochs = load(), case.device, case.epochs

    def run(seed: int) -> dict[str, float]:
        return _training.figures(build, recipe, data, epochs=epochs, seed=seed, device=device)

    return run


def support_vectors(seed: int) -> dict[str, float]:
    """Fit and measure the support vector machine; it draws no random numbers, so that all seeds are one."""
    from sklearn.svm import SVC

    from aieng_suites.vision._data import LARGEST_PIXEL, load
    from aieng_suites.vision._training import THROUGHPUT_BATCH, inference, peak_bytes, reached

    data = load()
    train, validation, test = (part.images.reshape(len(part.labels), -1) for part in (data.train, data.validation, data.test))
    model = SVC(gamma=0.001 * LARGEST_PIXEL**2, C=10.0)
    seconds = 0.0

    def fit() -> None:
        nonlocal seconds
        begin = time.perf_counter()
        model.fit(train, data.train.labels)
        seconds = time.perf_counter() - begin

    peak = peak_bytes(fit, "cpu")
    scores = [float(model.score(validation, data.validation.labels))]
    return {
        "accuracy": float(model.score(test, data.test.labels)),
        "time_to_95_s": reached(seconds if scores[-1] >= ACCURACY_FLOOR else None, scores),
        "train_images_per_s": len(train) / seconds,
        **inference(model.predict, test[:1], test[:THROUGHPUT_BATCH]),
        "parameters": float(model.support_vectors_.size + model.dual_coef_.size + model.intercept_.size),
        "peak_bytes": peak,
        "_validation_accuracy": scores[-1],
        "_deterministic": 1.0,
    }
