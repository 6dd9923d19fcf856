"""The study vision/sequences: what it counts as right, and what it shows its networks."""

from __future__ import annotations

import pytest
import torch
from aieng_suites.vision import _training, sequences
from aieng_suites.vision.data.sequences import LENGTH, START, SYMBOLS
from torch import Tensor
from torch.nn import functional

SDPA = functional.scaled_dot_product_attention


def test_a_sequence_counts_if_all_of_it_is_right() -> None:
    task = sequences.task("sort", 20)
    assert task.score(lambda read: read.sort(dim=1).values, task.data.test, "cpu") == 1.0

    def one_wrong(read: Tensor) -> Tensor:
        found = read.sort(dim=1).values
        found[0, 3] += 1
        return found

    assert task.score(one_wrong, task.data.validation, "cpu") == 1 - 1 / sequences.VALIDATION


def test_the_network_is_shown_what_goes_before() -> None:
    """One that copies what it is shown one place later has the start first, then all but the last symbol."""
    task, shown = sequences.task("reverse", 20), []

    def model(read: Tensor, before: Tensor) -> Tensor:
        shown.append(before)
        return functional.one_hot(read.flip(1), SYMBOLS + 1) * 50.0

    read, wanted = _training.tensors(task.data.train, "cpu")
    loss = task.loss(model, read, wanted, torch.Generator())  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert shown[0][:, 0].tolist() == [START] * 20
    assert torch.equal(shown[0][:, 1:], wanted[:, :-1])


def test_the_written_part_is_as_long_as_the_read_one() -> None:
    model = sequences.wholly(SDPA).eval()
    task = sequences.task("sort", 20)
    read = torch.from_numpy(task.data.test.images[:3])
    assert task.predictor(model)(read).shape == (3, LENGTH)
