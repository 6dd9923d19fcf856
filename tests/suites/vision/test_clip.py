"""The study vision/clip: what it trains on, and how prompts classify."""

from __future__ import annotations

import torch
from aieng_suites.vision import _training, clip
from aieng_suites.vision.data import scenes

from aieng_bench.define import Case


def test_clip_never_trains_on_what_it_is_later_asked_unseen() -> None:
    task = clip.task(Case({"epochs": 1, "batch": 32, "scenes": 300, "device": "cpu"}), by_caption=True)
    for part in (task.data.train, task.data.validation, task.data.test):
        assert set(part.labels[:, 0]) == set(scenes.SEEN)
    names = {scenes.phrase(kind).removeprefix("a ") for kind in scenes.UNSEEN}
    told = {" ".join(scenes.WORDS[n] for n in row[1:]) for row in task.data.train.labels}
    assert not any(name in caption for name in names for caption in told)
    assert set(clip.scenes_of((0, 0, 50), scenes.UNSEEN).test.labels[:, 0]) == set(scenes.UNSEEN)


def test_a_prompt_finds_its_kind() -> None:
    """A model whose towers know the kind classifies all scenes right, through the prompts alone."""
    task = clip.task(Case({"epochs": 1, "batch": 32, "scenes": 8, "device": "cpu"}), by_caption=True)
    images, labels = _training.tensors(task.data.test, "cpu")
    kinds = {image.numpy().tobytes(): int(kind) for image, kind in zip(task.data.standardised(images), labels[:, 0], strict=True)}
    prompts = {
        tuple(row): kind for kind, row in enumerate(scenes.tokens([scenes.phrase(k) for k in range(24)], clip.LENGTH).tolist())
    }

    class Knows(torch.nn.Module):
        def scale(self) -> torch.Tensor:
            return torch.ones(())

        def encode_images(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.eye(24)[[kinds[image.numpy().tobytes()] for image in batch]]

        def encode_texts(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.eye(24)[[prompts[tuple(row.tolist())] for row in batch]]

    assert task.judge(Knows(), task.data.test, "cpu") == 1.0
