"""The study vision/edge: what is exported is the network, int8 is smaller and as good, figures and verdict are those asked for."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aieng_suites.vision import _export, edge
from aieng_suites.vision._export import Trained
from aieng_suites.vision.data.digits import load

from aieng_bench import machine
from aieng_bench.define import Case
from aieng_bench.measure.runner import refusal

ROOT = Path(__file__).parents[3]
CONTENDERS = edge.benchmark.contenders
IMAGES = _export.standardised(load().test)
each_model = pytest.mark.parametrize("model", _export.MODELS)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The temporary folder that the tests share as a run's workers share theirs: a network is trained and exported once."""
    with pytest.MonkeyPatch.context() as patched:
        path = tmp_path_factory.mktemp("run")
        patched.setattr(tempfile, "tempdir", str(path))
        yield path


def case(model: str) -> Case:
    return Case({"model": model, "epochs": 1, "device": "cpu"})


def trained(model: str) -> Trained:
    """As the contenders have it."""
    return Trained(model, 1, 0, edge.source(*edge.FILES)())


@each_model
@pytest.mark.parametrize("runtime", [_export.in_onnxruntime, _export.in_openvino])
@pytest.mark.parametrize("batch", [1, 5])
def test_the_exported_network_gives_torchs_scores(model: str, runtime: Any, batch: int) -> None:
    """float32 rounding of sums of a few hundred products."""
    expected = trained(model).network()(torch.from_numpy(IMAGES[:batch])).detach().numpy()
    found = runtime()(trained(model), "float32.onnx", batch)(IMAGES[:batch])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@each_model
def test_the_graph_is_plain(model: str) -> None:
    import onnx

    exported = onnx.load(trained(model).file("float32.onnx"))
    assert [(used.domain, used.version) for used in exported.opset_import] == [("", _export.OPSET)]
    assert not exported.functions
    assert exported.graph.input[0].type.tensor_type.shape.dim[0].dim_param, "for any number of images"
    assert not any(node.metadata_props or node.doc_string for node in exported.graph.node)
    operators = {node.op_type for node in exported.graph.node}
    assert ({"MatMul", "Softmax", "LayerNormalization"} if model == "vit" else {"Conv", "Relu"}) <= operators
    assert "BatchNormalization" not in operators, "folded into the convolutions"


@each_model
@pytest.mark.parametrize("form", ["dynamic.onnx", "static.onnx"])
def test_int8_is_smaller_and_about_the_same(model: str, form: _export.Form) -> None:
    """8 bits round a weight by up to 1/255 of its range; scores are sums of many such, and their choice is mostly the same."""
    import onnx

    file, whole = trained(model).file(form), trained(model).file("float32.onnx")
    assert file.stat().st_size < 0.5 * whole.stat().st_size
    kind = onnx.TensorProto.UINT8 if form == "dynamic.onnx" else onnx.TensorProto.INT8
    integers = sum(np.prod(tensor.dims) for tensor in onnx.load(file).graph.initializer if tensor.data_type == kind)
    assert integers > 0.95 * sum(weight.numel() for weight in trained(model).network().parameters() if weight.dim() > 1)
    load_int8 = _export.in_onnxruntime()
    scores, rounded = (load_int8(trained(model), each, len(IMAGES))(IMAGES) for each in ("float32.onnx", form))
    assert np.abs(rounded - scores).max() < 0.2 * np.abs(scores).max()
    assert (rounded.argmax(1) == scores.argmax(1)).mean() > 0.95
    assert not np.array_equal(rounded, scores)


@each_model
def test_both_runtimes_read_a_static_file_alike(model: str) -> None:
    """What OpenVINO made of the ViT's quantised patches was seven times as far off as rounding is."""
    runtimes = (_export.in_onnxruntime, _export.in_openvino)
    ort, openvino = (runtime()(trained(model), "static.onnx", 64)(IMAGES[:64]) for runtime in runtimes)
    assert np.abs(openvino - ort).max() < 0.1 * np.abs(ort).max()


@each_model
@pytest.mark.parametrize("contender", CONTENDERS)
def test_a_contender_gives_every_metric(model: str, contender: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in (("ROUNDS", 1), ("CALLS", 3), ("REFERENCE_CALLS", 3), ("BATCHES", 1)):
        monkeypatch.setattr(edge, name, few)
    figures = CONTENDERS[contender].setup(case(model))(0)
    assert {metric.name for metric in edge.benchmark.metrics} == set(figures)
    assert all(np.isfinite(value) for value in figures.values())
    assert figures["accuracy"] > 0.3, "chance is 0.1"
    assert figures["inference_images_per_s"] > 0
    if contender.endswith("fp32"):
        assert figures["accuracy_lost"] == pytest.approx(0, abs=0.3), "one image that two classes tie for"


def test_what_one_has_made_the_others_take(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    first = trained("resnet").file("weights.safetensors")
    made: list[str] = []
    monkeypatch.setitem(_export.MAKERS, "weights.safetensors", lambda some, file: made.append(some.source) or file.touch())
    assert trained("resnet").file("weights.safetensors") == first
    assert made == []
    other = dataclasses.replace(trained("resnet"), source="changed").file("weights.safetensors")
    assert made == ["changed"]
    assert other != first
    assert {first.parent, other.parent} == {folder}


def test_what_was_not_finished_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(some: Trained, file: Path) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    other = dataclasses.replace(trained("resnet"), source="torn")
    monkeypatch.setitem(_export.MAKERS, "weights.safetensors", torn)
    with pytest.raises(KeyboardInterrupt):
        other.file("weights.safetensors")
    monkeypatch.setitem(_export.MAKERS, "weights.safetensors", lambda some, file: file.write_bytes(b"whole"))
    assert other.file("weights.safetensors").read_bytes() == b"whole"


def test_torch_has_one_thread_meanwhile() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen: list[int] = []

    def interrupted() -> None:
        with _export.one_thread():
            seen.append(torch.get_num_threads())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    seen.append(torch.get_num_threads())
    torch.set_num_threads(before)
    assert seen == [1, 2]


def test_figures_are_of_the_one_measured_beside_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A predictor that is wrong for a tenth of the images and twice as slow has lost ten points and half the speed."""
    import time

    labels = load().test.labels
    right = np.eye(10, dtype=np.float32)[labels]
    wrong = right.copy()
    wrong[::10] = np.roll(wrong[::10], 1, axis=1)
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def predictor(scores: Any, seconds: float) -> _export.Predict:
        def predict(images: Any) -> Any:
            clock[0] += seconds
            return scores[: len(images)]

        return predict

    figures = edge.figures(lambda batch: predictor(wrong, 2e-3), predictor(right, 1e-3))
    share = len(wrong[::10]) / len(labels)
    assert figures["accuracy"] == pytest.approx(1 - share)
    assert figures["accuracy_lost"] == pytest.approx(100 * share)
    assert figures["speedup"] == pytest.approx(0.5)
    assert figures["latency_p50_us"] == pytest.approx(2000) == figures["latency_p99_us"]
    assert figures["inference_images_per_s"] == pytest.approx(edge.BATCH / 2e-3)


def test_the_verdict_asks_for_quality_size_and_speed() -> None:
    limits = edge.MOST_LOST_POINTS, edge.LARGEST_FILE, edge.LEAST_SPEEDUP
    assert edge.feasible(*limits)
    assert edge.feasible(-1.0, 1, 10.0)
    assert not edge.feasible(limits[0] + 0.1, *limits[1:])
    assert not edge.feasible(limits[0], limits[1] + 1, limits[2])
    assert not edge.feasible(*limits[:2], limits[2] - 0.1)


def test_without_the_extra_a_cell_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "version", lambda name: None if name.startswith("onnx") else "1")
    machine.missing.cache_clear()
    try:
        reasons = {name: refusal(contender, case("vit")) for name, contender in CONTENDERS.items()}
    finally:
        machine.missing.cache_clear()
    assert reasons.pop("torch_fp32") is None
    assert all(str(reason).startswith("onnx is not installed (pip install ") for reason in reasons.values())


def test_the_extras_bring_all_that_is_required() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    brought = {line.split(">=")[0] for extra in ("edge", "vision") for line in extras[extra]}
    assert {name for contender in CONTENDERS.values() for name in contender.requires} <= brought


IMPORTED = """
import sys
from pathlib import Path
hashed, read = set(), Path.read_bytes
Path.read_bytes = lambda self: hashed.add(self) or read(self)
from aieng_suites.vision import edge
heavy = {"torch", "numpy", "onnx", "onnxruntime", "openvino"} & set(sys.modules)
assert not heavy, heavy
edge.benchmark.contenders["ort_fp32"].source_hash()
from aieng_suites.vision import _export
here = {Path(m.__file__) for n, m in sys.modules.items() if n.startswith("aieng_suites.vision.") and m.__file__}
here.discard(Path(sys.modules["aieng_suites.vision.models"].__file__))
assert here - hashed == {Path(sys.modules["aieng_suites.vision._study"].__file__)} - hashed, here - hashed
import onnxruntime
onnxruntime.SessionOptions()
"""


def test_listing_is_light_all_code_is_hashed_and_nothing_is_sent_home(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", IMPORTED], check=True, env=environment)
    assert not list(tmp_path.rglob("onnxruntime*")), "the identifier and the store of its telemetry"
