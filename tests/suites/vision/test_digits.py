"""The study vision/digits: its models, its training, its declaration."""

from __future__ import annotations

import copy
import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest
import torch
from aieng_kernels._family import named
from aieng_suites.vision import _study, _training, digits
from aieng_suites.vision._training import Recipe, Task, Training
from aieng_suites.vision.data import Dataset, Part
from aieng_suites.vision.data.digits import load
from aieng_suites.vision.models.resnet import ResNet
from aieng_suites.vision.models.vit import Attention, SelfAttention, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from aieng_bench.define import Case, Unsupported

OURS = _study.our_attention(Case({"device": "cpu"}))


def small(part: Part, count: int) -> Part:
    return Part(part.images[:count], part.labels[:count], part.indices[:count])


@pytest.fixture(scope="module")
def few() -> Dataset:
    """A part of the data that trains in a second."""
    data = load()
    return dataclasses.replace(data, train=small(data.train, 320))


def vit(attention: Attention = functional.scaled_dot_product_attention) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(attention)


def test_vit_shapes_and_parameters() -> None:
    width, tokens, depth = 64, 17, 4
    block = 2 * 2 * width + (width + 1) * 3 * width + (width + 1) * width
    block += (width + 1) * 2 * width + (2 * width + 1) * width
    expected = (4 + 1) * width + width + tokens * width + depth * block + 2 * width + (width + 1) * 10
    model = vit()
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model(torch.randn(3, 1, 8, 8)).shape == (3, 10)
    assert VisionTransformer(functional.scaled_dot_product_attention, size=12, patch=3, channels=3, classes=5)(
        torch.randn(2, 3, 12, 12)
    ).shape == (2, 5)


def test_vit_sees_where_a_patch_is() -> None:
    """Without positions a transformer cannot tell an image from the same patches in another order."""
    model, image = vit().eval(), torch.randn(1, 1, 8, 8)
    moved = image.roll(2, dims=3)
    assert not torch.allclose(model(image), model(moved), atol=1e-3)
    model.positions.table.data.zero_()
    torch.testing.assert_close(model(image), model(moved), atol=1e-5, rtol=1e-4)


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"size=8.*patch=3"):
        VisionTransformer(functional.scaled_dot_product_attention, patch=3)
    with pytest.raises(ValueError, match=r"width=64.*heads=5"):
        VisionTransformer(functional.scaled_dot_product_attention, heads=5)


def test_resnet_shapes_and_parameters() -> None:
    def conv(a: int, b: int, k: int) -> int:
        return a * b * k * k + 2 * b

    expected = conv(1, 16, 3) + 4 * conv(16, 16, 3) + conv(16, 32, 3) + conv(16, 32, 1) + 3 * conv(32, 32, 3) + 33 * 10
    model = ResNet()
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model.features(torch.randn(2, 1, 8, 8)).shape == (2, 32, 4, 4)
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_vit_on_our_attention_is_vit_on_torch() -> None:
    """Same weights, same images: scores, loss and every gradient agree to float32 rounding."""
    theirs = vit()
    ours = copy.deepcopy(theirs)
    for module in ours.modules():
        if isinstance(module, SelfAttention):
            module.attention = OURS
    images, labels = torch.randn(32, 1, 8, 8), torch.arange(32) % 10
    scores = [model(images) for model in (ours, theirs)]
    torch.testing.assert_close(*scores, atol=2e-5, rtol=1e-4)
    for out in scores:
        functional.cross_entropy(out, labels).backward()  # type: ignore[no-untyped-call]
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        want = gradients[name].grad
        assert want is not None
        assert parameter.grad is not None
        error = (parameter.grad - want).norm() / want.norm().clamp_min(1e-3)
        assert error < 1e-4, f"gradient of {name} is off by {float(error):.1e}"


def test_our_attention_is_called_forward_and_backward() -> None:
    calls = []

    def counted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls.append(q.shape)
        return OURS(q, k, v)

    vit(counted)(torch.randn(2, 1, 8, 8)).sum().backward()
    assert calls == [(2, 2, 17, 32)] * 4
    probe = torch.randn(2, 2, 17, 32, requires_grad=True)
    out = OURS(probe, probe, probe)
    assert type(out.grad_fn).__name__ in ("SmallAttentionBackward", "AttentionBackward")


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    recipe = Recipe(1.0)
    rates = [recipe.rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 1e-3
    assert recipe.rate(0, 1) == 1.0


@pytest.mark.parametrize("build", [vit, ResNet])
def test_a_short_training_beats_chance(few: Dataset, build: Callable[[], nn.Module]) -> None:
    fit = Training(build, Recipe(digits.LEARNING_RATE), Task(few), epochs=4, seed=0, device="cpu").run()
    assert len(fit.validation) == 4
    assert max(fit.validation) > 0.3, "chance is 0.1"
    assert fit.validation[-1] == Task(few).judge(fit.model, few.validation, "cpu")
    assert fit.loss < math.log(10)


def test_training_is_a_function_of_the_seed(few: Dataset) -> None:
    def digest(seed: int) -> int:
        state = torch.random.get_rng_state()
        found = _training.digest(Training(ResNet, Recipe(1e-3), Task(few), 1, seed, "cpu").run().model)
        assert torch.equal(torch.random.get_rng_state(), state), "torch's own random numbers are left alone"
        torch.rand(1)  # what others draw meanwhile changes nothing
        return found

    assert digest(0) == digest(0)
    assert digest(0) != digest(1)


def test_nondeterminism_is_seen(few: Dataset) -> None:
    class Noisy(ResNet):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images + 1e-3 * torch.randn_like(images))

    def training(build: type[nn.Module]) -> Training:
        return Training(build, Recipe(1e-3), Task(few), 1, 0, "cpu")

    assert _training.is_deterministic(lambda: training(ResNet))
    assert not _training.is_deterministic(lambda: training(Noisy))


def test_a_target_that_was_not_reached_has_no_time(few: Dataset) -> None:
    assert _training.time_to(0.95, 1.5) == {"time_to_95_s": 1.5}
    assert _training.time_to(0.95, None) == {}
    for target, reached in ((0.0, True), (2.0, False)):
        fit = Training(ResNet, Recipe(4e-3), Task(few, target), 2, 0, "cpu").run()
        assert (fit.seconds_to_target is not None) == reached


def test_a_network_gives_every_metric(few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    time_to = _training.time_to
    monkeypatch.setattr(_training, "time_to", lambda target, seconds: time_to(target, 1.0))
    monkeypatch.setattr(_training, "LATENCY_CALLS", 5)
    figures = numbers(_training.figures(ResNet, Recipe(4e-3), Task(few, digits.TARGET), epochs=1, seed=0, device="cpu"))
    assert_complete(figures)
    assert figures["parameters"] == sum(p.numel() for p in ResNet().parameters())
    assert 0.0 <= figures["accuracy"] <= 1.0
    assert figures["_weights_digest"].is_integer()


def test_support_vectors_give_every_metric_and_a_good_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_training, "LATENCY_CALLS", 5)
    figures = numbers(digits.svc(Case({"epochs": 1, "device": "cpu"}))(0))
    assert_complete(figures)
    assert figures["accuracy"] > 0.97


def numbers(given: Mapping[str, _training.Figure]) -> dict[str, float]:
    return {name: figure for name, figure in given.items() if isinstance(figure, float)}


def assert_complete(figures: dict[str, float]) -> None:
    declared = {metric.name for metric in digits.benchmark.metrics}
    assert declared == {name for name in figures if not name.startswith("_")}
    assert all(math.isfinite(value) for value in figures.values())
    assert all(figures[name] > 0 for name in declared - {"accuracy", "peak_bytes"})
    assert figures["latency_p50_us"] <= figures["latency_p99_us"]


def test_declaration() -> None:
    study = digits.benchmark
    assert {name: c.kind for name, c in study.contenders.items()} == {
        "vit_aieng": "ours",
        "vit_torch": "baseline",
        "resnet": "baseline",
        "svc": "baseline",
    }
    assert study.baseline in study.contenders
    assert study.metrics[0].name == "accuracy"
    assert (study.metrics[0].floor, study.metrics[0].quick_floor) == (0.97, 0.93)
    assert {case.id for case in study.cases("cpu")}.isdisjoint(case.id for case in study.cases("cpu", quick=True))
    assert study.contenders["svc"].refuses(Case({"epochs": 1, "device": "cuda"}))


def test_without_a_compiled_attention_ours_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_study, "candidates", lambda *_: (named("attention", "reference"),))
    with pytest.raises(Unsupported, match="no compiled attention"):
        digits.vit_aieng(Case({"epochs": 1, "device": "cpu"}))


def test_our_contender_has_the_attentions_source_in_its_hash() -> None:
    hashes = {name: contender.source_hash() for name, contender in digits.benchmark.contenders.items()}
    assert hashes["vit_aieng"] != hashes["vit_torch"]
    assert hashes["vit_torch"] == hashes["resnet"]


def test_listing_imports_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys, aieng_suites.vision.digits; heavy = {'torch', 'sklearn', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
