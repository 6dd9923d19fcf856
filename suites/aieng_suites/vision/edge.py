"""``vision/edge``: what a small device would run of a ViT and of a ResNet: ONNX, int8, one thread, with a verdict for each.

Every contender of a case has the same weights, trained once in float32 on the digits, and each is timed in turn with eager float32
torch in its own process. The verdict (``feasible``) is 1 where a file keeps the quality, fits the device and is worth the trouble:
see :func:`feasible`. torch and the runtimes are imported inside the functions, so that listing costs nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any

from aieng_bench.define import Case, Metric, Study, grid
from aieng_suites.vision._study import PRELOAD, Run, source

if TYPE_CHECKING:
    from aieng_suites.vision._export import Form, Load, Predict

QUICK_EPOCHS, FULL_EPOCHS = 8, 20
ACCURACY_FLOOR, QUICK_FLOOR = 0.95, 0.90
MOST_LOST_POINTS = 0.5
"""One of the 359 test images."""
LARGEST_FILE = 256 * 1024
"""A quarter of the flash memory of a microcontroller that has a megabyte."""
LEAST_SPEEDUP = 1.1
"""Less could be chance, and would not pay for another runtime."""
ROUNDS, CALLS, REFERENCE_CALLS = 25, 10, 4
TRAINING = ("scikit-learn", "safetensors")
"""What the data and the weights need."""
BATCH, BATCHES = 64, 10
FILES = (
    "edge.py",
    "_export.py",
    "_once.py",
    "data/digits.py",
    *(f"models/{name}.py" for name in ("vit", "patches", "positions", "resnet")),
)

benchmark = Study(
    name="vision/edge",
    title="Edge: trained networks as ONNX and in int8 on one thread",
    summary="ViT and ResNet of the digits by torch, ONNX Runtime and OpenVINO: latency, size, memory, quality lost, verdict.",
    baseline="torch_fp32",
    full={"cpu": grid(model=("vit", "resnet"), epochs=FULL_EPOCHS)},
    quick={"cpu": grid(model="vit", epochs=QUICK_EPOCHS)},
    metrics=(
        Metric("accuracy", "", "higher", "test accuracy", floor=ACCURACY_FLOOR, quick_floor=QUICK_FLOOR),
        Metric("accuracy_lost", "points", "lower", "accuracy lost"),
        Metric("latency_p50_us", "µs", "lower", "latency p50, batch 1"),
        Metric("latency_p99_us", "µs", "lower", "latency p99, batch 1"),
        Metric("speedup", "", "higher", "speed-up over fp32 torch, batch 1"),
        Metric("inference_images_per_s", "images/s", "higher", f"inference throughput, batch {BATCH}"),
        Metric("file_bytes", "B", "lower", "file size"),
        Metric("peak_bytes", "B", "lower", "peak memory of loading and one image"),
        Metric("feasible", "", "higher", "verdict: 1 feasible, 0 not"),
    ),
    seeds=3,
    quick_seeds=1,
    minutes=3,
    quick_minutes=0.25,
    preload=PRELOAD,
)


QUICK = "a quick run has torch and ONNX Runtime, in float32 and static int8"


def runtime(name: str, *further: str) -> dict[str, Any]:
    """What a contender declares whose runtime is the distribution ``name``."""
    requires = dict.fromkeys((*TRAINING, "onnx", "onnxscript", name, *further))
    return {"devices": ("cpu",), "requires": tuple(requires), "package": name, "source": source(*FILES)}


@benchmark.contender("torch_fp32", devices=("cpu",), requires=TRAINING, package="torch", source=source(*FILES))
def torch_fp32(case: Case) -> Run:
    """Eager torch: what one has after training."""
    from aieng_suites.vision._export import in_torch

    return deployed(case, "weights.safetensors", in_torch())


@benchmark.contender("ort_fp32", **runtime("onnxruntime"))
def ort_fp32(case: Case) -> Run:
    """The exported graph in ONNX Runtime."""
    from aieng_suites.vision._export import in_onnxruntime

    return deployed(case, "float32.onnx", in_onnxruntime())


@benchmark.contender("ort_dynamic_int8", left_out=lambda case: QUICK, **runtime("onnxruntime"))
def ort_dynamic_int8(case: Case) -> Run:
    """Weights in int8, ranges of activations found in each call."""
    from aieng_suites.vision._export import in_onnxruntime

    return deployed(case, "dynamic.onnx", in_onnxruntime())


@benchmark.contender("ort_static_int8", **runtime("onnxruntime"))
def ort_static_int8(case: Case) -> Run:
    """Weights and activations in int8, calibrated on training images."""
    from aieng_suites.vision._export import in_onnxruntime

    return deployed(case, "static.onnx", in_onnxruntime())


@benchmark.contender("openvino_fp32", left_out=lambda case: QUICK, **runtime("openvino"))
def openvino_fp32(case: Case) -> Run:
    """The exported graph in OpenVINO."""
    from aieng_suites.vision._export import in_openvino

    return deployed(case, "float32.onnx", in_openvino())


@benchmark.contender("openvino_static_int8", left_out=lambda case: QUICK, **runtime("openvino", "onnxruntime"))
def openvino_static_int8(case: Case) -> Run:
    """The very file of ``ort_static_int8``, which ONNX Runtime's quantiser made, in OpenVINO."""
    from aieng_suites.vision._export import in_openvino

    return deployed(case, "static.onnx", in_openvino())


def deployed(case: Case, form: Form, load: Load) -> Run:
    """The run of a form in the runtime that ``load`` makes it ready in."""
    from aieng_suites.vision import _export

    hashed = source(*FILES)()

    def run(seed: int) -> dict[str, float]:
        trained = _export.Trained(case.model, case.epochs, seed, hashed)
        size = trained.file(form).stat().st_size
        with _export.one_thread():
            found = figures(lambda batch: load(trained, form, batch), _export.in_torch()(trained, "weights.safetensors", 1))
        found |= {"file_bytes": float(size)}
        return found | {"feasible": float(feasible(found["accuracy_lost"], size, found["speedup"]))}

    return run


def figures(load: Callable[[int], Predict], reference: Predict) -> dict[str, float]:
    """Quality and cost of what ``load(batch)`` gives, beside those of ``reference``."""
    from aieng_suites.vision._export import standardised
    from aieng_suites.vision._training import peak_bytes
    from aieng_suites.vision.data import digits

    test = digits.load().test
    images = standardised(test)
    loaded: list[Predict] = []

    def begin() -> None:
        loaded.append(load(1))
        loaded[0](images[:1])

    begin()  # what a runtime sets up once is not the network's
    loaded.clear()
    gc.collect()
    peak = peak_bytes(begin, "cpu")
    accuracy, full = (float((p(images).argmax(1) == test.labels).mean()) for p in (load(len(images)), reference))
    return {
        "accuracy": accuracy,
        "accuracy_lost": 100 * (full - accuracy),
        **latency(loaded[0], reference, images[:1]),
        "inference_images_per_s": throughput(load(BATCH), images[:BATCH]),
        "peak_bytes": peak,
    }


def latency(predict: Predict, reference: Predict, image: Any) -> dict[str, float]:
    """Latency of one image, and the median ratio of the reference's to it, in turn: some calls of each a round."""
    import numpy as np

    from aieng_suites.vision._training import timed

    own: list[float] = []
    ratios: list[float] = []
    for measured in range(-1, ROUNDS):  # the first round warms up
        turn = timed(predict, image, CALLS, "cpu")
        others = timed(reference, image, REFERENCE_CALLS, "cpu")
        if measured >= 0:
            own += turn
            ratios.append(median(others) / median(turn))
    p50, p99 = np.percentile(own, [50, 99])
    return {"latency_p50_us": 1e6 * float(p50), "latency_p99_us": 1e6 * float(p99), "speedup": median(ratios)}


def throughput(predict: Predict, images: Any) -> float:
    """Images a second, a batch at a time."""
    from aieng_suites.vision._training import timed

    predict(images)
    return len(images) / median(timed(predict, images, BATCHES, "cpu"))


def feasible(accuracy_lost: float, file_bytes: int, speedup: float) -> bool:
    """Whether to put it on a device: it keeps the quality, fits, and is faster than what one has after training."""
    return accuracy_lost <= MOST_LOST_POINTS and file_bytes <= LARGEST_FILE and speedup >= LEAST_SPEEDUP
