"""The studies of the vision suite: what they declare, that each contender runs and gives every metric, what their tasks learn."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aieng_kernels._family import named
from aieng_suites.vision import _once, _study, _training, distillation, transfer
from aieng_suites.vision.data import digits, mnist5k, resized
from aieng_suites.vision.models.resnet import ResNet
from aieng_suites.vision.models.vit import VisionTransformer

from aieng_bench.define import Case, Study, Unsupported
from aieng_bench.record.exhibits import Shown, bounded

SDPA = torch.nn.functional.scaled_dot_product_attention
TINY: dict[str, dict[str, Any]] = {
    "architectures": {"epochs": 1},
    "resolution": {"epochs": 1, "side": 8, "images": 100},
    "positions": {"epochs": 1},
    "patches": {"epochs": 1},
    "self_supervised": {"epochs": 1},
    "sequences": {"epochs": 1, "sequences": 160, "rule": "sort"},
    "distillation": {"epochs": 1},
    "clip": {"epochs": 1, "batch": 32, "scenes": 64},
    "segmentation": {"epochs": 1, "scenes": 64},
    "transfer": {"epochs": 1, "labels": 100, "pretraining": 1},
}
NO_CLASSES = ("sequences", "self_supervised")
"""Studies whose tasks have a score of their own, and so no confusion of classes."""
NOT_TRAINED = ("untrained_torch", "pixels")
"""Contenders that learn nothing by epochs, and so have no learning curve."""
STUDIES = {name: import_module(f"aieng_suites.vision.{name}") for name in TINY}
EVERY = [(name, contender) for name, module in STUDIES.items() for contender in module.benchmark.contenders]
each_study = pytest.mark.parametrize("name", STUDIES)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few images, few calls, and no quality asked for: whether it runs, not how well."""

    def few(load: Callable[[], Any]) -> Callable[[], Any]:
        import dataclasses

        def cut(part: Any, count: int) -> Any:
            return dataclasses.replace(part, images=part.images[:count], labels=part.labels[:count], indices=part.indices[:count])

        data = load()
        made = dataclasses.replace(data, train=cut(data.train, 160), test=cut(data.test, 64))
        return lambda fold=0: made

    monkeypatch.setattr(_training, "LATENCY_CALLS", 3)
    monkeypatch.setattr(_training, "LATENCY_WARMUP", 1)
    monkeypatch.setattr(_training, "THROUGHPUT_REPEATS", 1)
    monkeypatch.setattr(_training, "MANY_CALLS", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    time_to = _training.time_to
    monkeypatch.setattr(_training, "time_to", lambda target, seconds: time_to(target, 1.0))
    monkeypatch.setattr(digits, "load", few(digits.load))


@pytest.mark.parametrize(("name", "contender"), EVERY, ids=lambda value: str(value))
@pytest.mark.usefixtures("short")
def test_a_contender_gives_every_metric(name: str, contender: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "transfer":
        monkeypatch.setattr(transfer, "pretrained", lambda *_: {"seconds": 1.0, "validation": 0.5})
    study = STUDIES[name].benchmark
    declared = {metric.name for metric in study.metrics}
    figures = study.contenders[contender].setup(Case({**TINY[name], "device": "cpu"}))(0)
    exhibits = {figure: value for figure, value in figures.items() if isinstance(value, Shown)}
    assert ("learning" in exhibits) is (contender not in NOT_TRAINED)
    assert ("confusion" in exhibits) is (name not in NO_CLASSES)
    kept = {exhibit: (value,) for exhibit, value in exhibits.items()}
    assert bounded(kept) == kept
    figures = {figure: value for figure, value in figures.items() if figure not in exhibits}
    assert declared == {figure for figure in figures if not figure.startswith("_")}
    assert all(math.isfinite(value) for value in figures.values())
    assert figures["_deterministic"] == 1.0
    assert figures["parameters"] > 1000


@each_study
def test_declaration(name: str) -> None:
    study = STUDIES[name].benchmark
    assert isinstance(study, Study)
    assert study.name == f"vision/{name}"
    assert study.baseline in study.contenders
    assert study.metrics[0].floor is not None
    assert [n for n, c in study.contenders.items() if c.kind == "ours"] == [n for n in study.contenders if n.endswith("_aieng")]
    assert {case.id for case in study.cases("cpu")}.isdisjoint(case.id for case in study.cases("cpu", quick=True))
    assert all(set(case) == {*TINY[name], "device"} for device in ("cpu", "cuda") for case in study.cases(device, quick=True))
    for contender in study.contenders.values():
        library = contender.name.split("_")[-1]
        assert contender.package == {"aieng": ""}.get(library, contender.package)
        if library in ("transformers", "peft"):
            assert contender.package == library
            assert library in contender.requires


HASHED = """
import sys, importlib
from pathlib import Path
from aieng_bench.define import Case
from aieng_suites.vision import _study, _training
study = importlib.import_module(f"aieng_suites.vision.{sys.argv[1]}")
case = Case({**eval(sys.argv[2]), "device": "cpu"})
hashed, read = set(), Path.read_bytes
Path.read_bytes = lambda self: hashed.add(self) or read(self)
for contender in study.benchmark.contenders.values():
    contender.source_hash()
built, shared = lambda case, build, *_: build(), _study.network
_study.network = built
if getattr(study, "network", None) is shared:
    study.network = built
_training.figures = lambda build, *_, **__: build()
for contender in study.benchmark.contenders.values():
    contender.setup(case)
here = {Path(m.__file__) for n, m in sys.modules.items() if n.startswith("aieng_suites.vision.") and m.__file__}
print(sorted(str(p) for p in here - hashed if p.stat().st_size > 200))
"""


@each_study
def test_a_study_is_hashed_with_all_it_imports(name: str) -> None:
    """Every file of the suite that setting its contenders up imports is in some hash of theirs."""
    done = subprocess.run([sys.executable, "-c", HASHED, name, repr(TINY[name])], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@each_study
def test_without_a_compiled_attention_ours_is_unsupported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_study, "candidates", lambda *_: (named("attention", "reference"),))
    ours = [
        c for c in STUDIES[name].benchmark.contenders.values() if c.kind == "ours" and not c.name.startswith(("resnet", "convnext"))
    ]
    assert ours
    for contender in ours:
        with pytest.raises(Unsupported, match="no compiled attention"):
            contender.setup(Case({**TINY[name], "device": "cpu"}))


def test_what_is_trained_once_is_given_to_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fits: list[_training.Fit] = []

    def train() -> _training.Fit:
        fits.append(
            _training.Training(ResNet, _training.Recipe(1e-3), _training.Task(resized(digits.load(), 8, 50)), 1, 0, "cpu").run()
        )
        return fits[-1]

    networks = [ResNet() for _ in range(2)]
    facts = [_once.trained("resnet", network, train, "cpu") for network in networks]
    assert len(fits) == 1
    assert {_training.digest(network) for network in networks} == {_training.digest(fits[0].model)}
    assert facts == [{"seconds": fits[0].seconds, "validation": fits[0].validation[-1]}] * 2
    _once.trained("another", networks[0], train, "cpu")
    assert len(fits) == 2


@pytest.mark.parametrize("attention", [SDPA, _study.our_attention(Case({"device": "cpu"}))], ids=["torch", "ours"])
def test_operations_are_those_of_the_formulas(attention: Any) -> None:
    """Of patches of 4 pixels, 4 blocks and the head: what an attention multiplies is counted whosever it is."""
    width, tokens = 64, 17
    block = tokens * (width * 3 * width + width * width + 2 * width * 2 * width) + 2 * tokens * tokens * width
    with torch.inference_mode():
        found = _training.operations(VisionTransformer(attention).eval(), torch.randn(1, 1, 8, 8))
    assert found == 2 * (16 * 4 * width + 4 * block + width * 10)


def test_listing_imports_no_library() -> None:
    modules = ", ".join(f"aieng_suites.vision.{name}" for name in STUDIES)
    heavy = "{'torch', 'sklearn', 'numpy', 'transformers'}"
    code = f"import sys, {modules}; heavy = {heavy} & set(sys.modules); assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_teacher_is_not_trained_and_sees_what_the_student_sees() -> None:
    teacher = ResNet().eval()
    before = _training.digest(teacher)
    seen: list[torch.Tensor] = []
    teacher.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    task = distillation.distillation(teacher, "hard", 0)
    student = VisionTransformer(SDPA)
    student.both = lambda images: (seen.append(images), student(images), student(images))[1:]  # type: ignore[assignment]
    images, labels = (x[:8] for x in _training.tensors(task.data.train, "cpu"))
    task.loss(student, images, labels, torch.Generator().manual_seed(0)).backward()
    assert torch.equal(seen[0], seen[1])
    assert _training.digest(teacher) == before
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_few_labels_are_as_many_of_each_class_and_the_other_parts_whole() -> None:
    data = resized(digits.load(), 16, 100)
    assert np.array_equal(np.bincount(data.train.labels), np.full(10, 10))
    assert data.train.images.shape == (100, 1, 16, 16)
    assert np.array_equal(data.test.labels, digits.load().test.labels)
    assert set(data.train.indices) <= set(digits.load().train.indices)
    assert resized(mnist5k.load(), 16).train.images.shape == (3500, 1, 16, 16)


def test_transformers_trainer_gives_the_weights_of_our_loop() -> None:
    """Bit by bit: one recipe, one order, one stream of random numbers, and the same operations in the same order."""
    from aieng_suites.vision.peers.trainer import TrainerTraining

    task, state = _training.Task(resized(digits.load(), 16, 100)), torch.random.get_rng_state()
    fits = [
        loop(lambda: VisionTransformer(SDPA, size=16, patch=4, depth=1), _training.Recipe(1e-3), task, 2, 0, "cpu").run()
        for loop in (_training.Training, TrainerTraining)
    ]
    assert torch.equal(torch.random.get_rng_state(), state), "torch's own random numbers are left alone"
    assert len({_training.digest(fit.model) for fit in fits}) == 1
    assert fits[0].validation == fits[1].validation
    assert fits[0].loss == fits[1].loss


@pytest.mark.parametrize(("contender", "most"), [("lora_aieng", 0.05), ("lora_peft", 0.05), ("probe_torch", 0.006)])
@pytest.mark.usefixtures("short")
def test_what_is_frozen_stays(contender: str, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[torch.nn.Module] = []
    trained: list[torch.nn.Module] = []
    monkeypatch.setattr(transfer, "pretrained", lambda model, *_: before.append(model) or {"seconds": 1.0, "validation": 0.5})
    run = _training.Training.run
    monkeypatch.setattr(_training.Training, "run", lambda self: trained.append(self.model) or run(self))
    figures = transfer.benchmark.contenders[contender].setup(Case({**TINY["transfer"], "device": "cpu"}))(0)
    assert 0 < figures["trained_share"] <= most
    frozen = [p for p in trained[0].parameters() if not p.requires_grad]
    kept = [p for p in before[0].parameters() if any(p.shape == f.shape and torch.equal(p, f) for f in frozen)]
    assert len(kept) >= len(list(before[0].parameters())) - 2, "all but the head are as they were"
