"""A trained network as files that devices run, and how each runtime loads one: on one thread of the CPU.

Importing this imports torch; a runtime is imported by the function that needs it.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from aieng_suites.vision import _once
from aieng_suites.vision._training import Recipe, Task, Training
from aieng_suites.vision.data import Part
from aieng_suites.vision.data.digits import load
from aieng_suites.vision.models.resnet import ResNet
from aieng_suites.vision.models.vit import VisionTransformer

Form = Literal["weights.safetensors", "float32.onnx", "dynamic.onnx", "static.onnx"]
Images = NDArray[np.float32]
Scores = NDArray[np.float32]
Predict = Callable[[Images], Scores]
"""Scores (B, classes) of standardised images (B, C, H, W)."""
Load = Callable[["Trained", Form, int], Predict]
"""Makes a form ready for so many images at once, in a runtime that is loaded already."""

MODELS: dict[str, Callable[[], nn.Module]] = {
    "vit": partial(VisionTransformer, nn.functional.scaled_dot_product_attention),
    "resnet": ResNet,
}
LEARNING_RATE, BATCH = 4e-3, 64
OPSET = 20
"""Of ONNX: the first with GELU; attention is MatMul and Softmax in it."""
INPUT, OUTPUT = "images", "scores"
CALIBRATION_IMAGES, CALIBRATION_BATCH = 256, 64

# ONNX Runtime sends what it does to its makers, and begins to when it is imported, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@dataclass(frozen=True)
class Trained:
    """A network trained on the digits from a seed, in every form that is asked for.

    A form is a file that one worker of a run makes and the others take, so that all start from the same weights, trained once.
    ``source`` is the hash of the code that makes it, as workers of two checkouts may share a folder.
    """

    model: str
    epochs: int
    seed: int
    source: str

    def file(self, form: Form) -> Path:
        """The file, made if it is not there."""
        name = f"edge-{self.source}-{torch.__version__}-{self.model}-{self.epochs}-{self.seed}-{form}"
        return _once.file(name, lambda path: MAKERS[form](self, path))

    def network(self) -> nn.Module:
        """In torch, for inference."""
        model = MODELS[self.model]()
        model.load_state_dict(load_file(self.file("weights.safetensors")))
        return model.eval()


def train(trained: Trained, file: Path) -> None:
    """Weights after the epochs; with one thread, so that they do not depend on how many there are."""
    with one_thread():
        training = Training(
            MODELS[trained.model], Recipe(LEARNING_RATE, batch=BATCH), Task(load()), trained.epochs, trained.seed, "cpu"
        )
        save_file(training.run().model.state_dict(), file)


def to_onnx(trained: Trained, file: Path) -> None:
    """A plain graph of float32 for any number of images, without the exporter's notes on where a node comes from."""
    import onnx

    images = torch.from_numpy(standardised(load().test)[:2])  # not one image, for which the exporter would make a graph of its own
    with warnings.catch_warnings():
        # torch 2.13's exporter copies an object whose class torch deprecates.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        program = torch.onnx.export(
            trained.network(),
            (images,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for noted in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, file)


def to_dynamic(trained: Trained, file: Path) -> None:
    """Weights in int8; of activations each call finds the range and rounds them."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with prepared(trained) as model:
        # Convolutions with signed weights took three times as long.
        quantize_dynamic(model, file, weight_type=QuantType.QUInt8)


def to_static(trained: Trained, file: Path) -> None:
    """Weights and activations in int8, the ranges of these fixed by training images (QDQ: a quantised and a float graph in one)."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    images = standardised(load().train)[:CALIBRATION_IMAGES]

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(np.split(images, CALIBRATION_IMAGES // CALIBRATION_BATCH))

        def get_next(self) -> dict[str, Images] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    with prepared(trained) as model:
        # What reads the images is small and stays float32: OpenVINO 2026.4 ran the int8 patches of the ViT with scores 1.4 off.
        first = [node.name for node in onnx.load(model).graph.node if INPUT in node.input and node.op_type == "Conv"]
        quantize_static(
            model,
            file,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            nodes_to_exclude=first,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )


MAKERS: dict[Form, Callable[[Trained, Path], None]] = {
    "weights.safetensors": train,
    "float32.onnx": to_onnx,
    "dynamic.onnx": to_dynamic,
    "static.onnx": to_static,
}


@contextmanager
def prepared(trained: Trained) -> Iterator[Path]:
    """The exported graph with shapes inferred and nodes fused, as the quantisers ask for it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "prepared.onnx")
        quant_pre_process(trained.file("float32.onnx"), model, skip_symbolic_shape=True)
        yield model


def standardised(part: Part) -> Images:
    """Images of a part as networks see them."""
    images: Images = load().standardised(torch.from_numpy(part.images)).numpy()
    return images


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_torch() -> Load:
    """Eager torch, for any number of images."""

    def loaded(trained: Trained, form: Form, batch: int) -> Predict:
        network = trained.network()

        @torch.inference_mode()
        def predict(images: Images) -> Scores:
            scores: Scores = network(torch.from_numpy(images)).numpy()
            return scores

        return predict

    return loaded


def in_onnxruntime() -> Load:
    """ONNX Runtime's own kernels for the CPU, for any number of images."""
    import onnxruntime

    def loaded(trained: Trained, form: Form, batch: int) -> Predict:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(trained.file(form), options, providers=["CPUExecutionProvider"])
        return lambda images: session.run([OUTPUT], {INPUT: images})[0]

    return loaded


def in_openvino() -> Load:
    """OpenVINO's plugin for the CPU, compiled for ``batch`` images; what is not int8 is float32, where it might choose bfloat16."""
    import openvino

    core = openvino.Core()
    core.get_versions("CPU")  # loads the plugin
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }

    def loaded(trained: Trained, form: Form, batch: int) -> Predict:
        model = core.read_model(trained.file(form))
        model.reshape([batch, *model.inputs[0].partial_shape[1:]])
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        return lambda images: request.infer([images])[0]

    return loaded
