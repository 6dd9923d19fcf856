"""The study vision/segmentation: its quality and its loss."""

from __future__ import annotations

import pytest
import torch
from aieng_suites.vision import _exhibits, _training, segmentation

from aieng_bench.define import Case


def test_mean_iou_is_its_formula() -> None:
    masks = torch.tensor([[[0, 0, 1, 1], [2, 3, 4, 4]]])
    assert segmentation.mean_iou(_exhibits.counted(masks, masks, segmentation.CLASSES)) == 1.0
    found = torch.tensor([[[0, 1, 1, 1], [2, 3, 4, 0]]])
    assert segmentation.mean_iou(_exhibits.counted(masks, found, segmentation.CLASSES)) == pytest.approx(
        (1 / 3 + 2 / 3 + 1 + 1 + 1 / 2) / 5
    )


def test_a_scene_and_its_mask_are_mirrored_together() -> None:
    """A network that gives each pixel its own mask has no loss, mirrored or not."""
    task = segmentation.segmentation(Case({"epochs": 1, "scenes": 8, "device": "cpu"}))
    images, masks = _training.tensors(task.data.train, "cpu")
    known = {task.data.standardised(view).numpy().tobytes(): mask for view, mask in pairs(images, masks)}

    def knows(batch: torch.Tensor) -> torch.Tensor:
        found = torch.stack([known[image.numpy().tobytes()] for image in batch])
        return 50 * torch.nn.functional.one_hot(found, segmentation.CLASSES).permute(0, 3, 1, 2).float()

    loss = task.loss(knows, images, masks, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert loss.item() < 1e-6


def pairs(images: torch.Tensor, masks: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [*zip(images, masks, strict=True), *zip(images.flip(3), masks.flip(2), strict=True)]
