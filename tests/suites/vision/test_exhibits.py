"""What the studies show: the maps are the attention, the pictures the images, the matrix the quality."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from aieng_suites.vision import _exhibits, _training, clip, segmentation
from aieng_suites.vision._training import Fit, Task
from aieng_suites.vision.data.digits import load
from aieng_suites.vision.models.deit import DistilledVisionTransformer
from aieng_suites.vision.models.resnet import ResNet
from aieng_suites.vision.models.vit import VisionTransformer
from torch import nn

from aieng_bench.define import Case
from aieng_bench.record.exhibits import Confusion, Curve, Pictures

SDPA = torch.nn.functional.scaled_dot_product_attention


def shown(task: Task, model: nn.Module, seed: int = 0) -> dict[str, Any]:
    fit = Fit(model.eval(), 1.0, None, 1.0, (0.25, 0.5), 1.0)
    with torch.inference_mode():
        return task.exhibits(fit, seed, "cpu")


def test_weights_are_those_that_the_layers_mix_by() -> None:
    torch.manual_seed(0)
    layer = VisionTransformer(SDPA, depth=1).blocks[0].attention
    x, mask = torch.randn(2, 5, 64), torch.randn(5, 5)
    with _exhibits.weights(nn.Sequential(layer)) as seen:
        mixed = layer(x, attn_mask=mask)
    assert layer.attention is SDPA, "what was there is back"
    (weight,) = seen
    value = layer.qkv(x)[:, :, 128:].view(2, 5, 2, 32).transpose(1, 2)
    torch.testing.assert_close(layer.out((weight @ value).transpose(1, 2).reshape(2, 5, 64)), mixed, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layer(x, attn_mask=mask), mixed)


@pytest.mark.parametrize(("model", "maps"), [(VisionTransformer, 4), (DistilledVisionTransformer, 4), (ResNet, 0)])
def test_a_transformer_shows_its_attention_and_a_cnn_none(model: Any, maps: int) -> None:
    torch.manual_seed(0)
    found = shown(Task(load()), model(SDPA) if maps else model())
    assert {name: type(exhibit) for name, exhibit in found.items() if name != "attention"} == {
        "learning": Curve,
        "confusion": Confusion,
    }
    assert ("attention" in found) == bool(maps)
    if maps:
        pixels = found["attention"].array()
        assert pixels.shape == (5, 1 + maps, 8, 8, 3)
        first = [int(np.flatnonzero(load().test.labels == label)[0]) for label in range(5)]
        assert np.abs(pixels[:, 0, :, :, 0] / 255 - load().test.images[first, 0]).max() <= 0.5 / 255 + 1e-6
        assert all((pixels[i, 1:] != pixels[i, :1]).any() for i in range(5))
        assert "attention" not in shown(Task(load()), model(SDPA), seed=1), "pictures are of the first seed"


def test_the_most_attended_patch_has_the_full_heat() -> None:
    model = VisionTransformer(SDPA, depth=1)
    seen: list[torch.Tensor] = []
    model.blocks[0].attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.zeros(1, 1, 8, 8)
    images[0, 0, 4:6, 2:4] = 1
    with torch.inference_mode():
        found = _exhibits.attention(model.eval(), model, torch.zeros(1, 1, 8, 8), images, ["x"])
    assert found is not None
    q, k, _ = model.blocks[0].attention.qkv(seen[0].clone()).view(1, 17, 3, 2, 32).unbind(2)
    share = ((q[:, :1].transpose(1, 2) @ k.permute(0, 2, 3, 1)) / math.sqrt(32)).softmax(-1)[0, :, 0, 1:].mean(0)
    hottest = divmod(int(share.argmax()), 4)
    heat = found.array()[0, 1, ::2, ::2, 0]
    assert np.unravel_index(heat.argmax(), heat.shape) == hottest
    assert heat.max() == round(_exhibits.COVER * 255)


def test_the_matrix_gives_the_quality() -> None:
    """Of classes by its diagonal, of scenes by its intersections over unions; captions of kinds are not kinds."""
    torch.manual_seed(0)
    model, task = ResNet(), Task(load())
    counts = np.array(shown(task, model)["confusion"].counts)
    assert counts.trace() / counts.sum() == task.judge(model, task.data.test, "cpu")
    assert counts.sum(1).tolist() == np.bincount(load().test.labels).tolist()
    kinds = clip.task(Case({"scenes": 8, "epochs": 1, "device": "cpu"}), by_caption=False)
    guess = torch.nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 24))
    found = shown(kinds, guess)["confusion"]
    assert found.labels[0] == "red circle"
    assert np.array(found.counts).sum() == clip.TEST


def test_masks_are_painted_where_they_are() -> None:
    task = segmentation.segmentation(Case({"scenes": 8, "epochs": 1, "device": "cpu"}))

    class Knows(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            truth = torch.from_numpy(task.data.test.labels[: len(images)])
            return nn.functional.one_hot(truth, segmentation.CLASSES).permute(0, 3, 1, 2).float()

    pictures = task.pictures(Knows(), Knows(), "cpu")["masks"]
    assert isinstance(pictures, Pictures)
    assert pictures.columns == ("image", "truth", "prediction")
    assert pictures.rows[0] == "scene 0, 100 % of pixels right"
    image, truth, prediction = pictures.array()[:, 0], pictures.array()[:, 1], pictures.array()[:, 2]
    assert np.array_equal(truth, prediction)
    masks = task.data.test.labels[: segmentation.PICTURED] > 0
    assert np.array_equal((truth != image).any(-1), masks)


def test_a_task_with_a_score_of_its_own_shows_attention_but_no_matrix() -> None:
    """Its inference may give features, or words, which no class is the largest of."""

    class Features(Task):
        def predictor(self, model: Any) -> Any:
            return lambda images: model.tokens(images)[:, 0]

        def score(self, predict: Any, part: Any, device: str) -> float:
            return 0.5

    class Sequences(Features):
        def __init__(self) -> None:
            words = dataclasses.replace(load().test, images=load().test.images[:, 0, 0])
            super().__init__(dataclasses.replace(load(), test=words))

    torch.manual_seed(0)
    found = shown(Features(load()), VisionTransformer(SDPA))
    assert set(found) == {"learning", "attention"}
    assert found["attention"].rows == ("0", "1", "2", "3", "4")
    assert set(shown(Sequences(), VisionTransformer(SDPA))) == {"learning"}


def test_a_long_training_is_shown_by_some_of_its_epochs() -> None:
    curve = _exhibits.learning([n / 5000 for n in range(5000)], "accuracy")
    assert len(curve.points) == 1000
    assert curve.points[-1] == (5000.0, 4999 / 5000)
    assert _exhibits.learning([0.5, 0.75], "accuracy").points == ((1.0, 0.5), (2.0, 0.75))


def test_pictures_of_the_first_classes_are_the_same_in_every_run() -> None:
    assert _exhibits.one_of_each(torch.tensor([3, 1, 1, 0, 3]), 2) == [3, 1]
    assert _training.PICTURED == 5
