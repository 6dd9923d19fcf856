"""The study vision/positions: enlarged digits, and which encodings are asked beyond their grid."""

from __future__ import annotations

import torch
from aieng_suites.vision import positions
from aieng_suites.vision.data import digits
from torch.nn.functional import scaled_dot_product_attention


def test_an_enlarged_digit_has_as_many_pixels_as_the_larger_grid() -> None:
    part = digits.load().test
    larger = positions.enlarged(part)
    assert larger.images.shape == (len(part.labels), 1, 12, 12)
    assert abs(larger.images.mean() - part.images.mean()) < 0.01


def test_encodings_of_a_formula_are_asked_beyond_their_grid() -> None:
    """And only they; without positions a place that was never seen is no other than one that was."""
    figures = {}
    for encoding in ("none", "learned", "rotary"):
        torch.manual_seed(0)
        network = positions.model(scaled_dot_product_attention, encoding)
        figures[encoding] = positions.task(lambda model, kind=encoding: positions.larger(model, kind)).further(network, "cpu")
    assert figures["learned"].keys() == {"enlarged_accuracy"}
    assert figures["rotary"].keys() == {"enlarged_accuracy", "_extrapolated_accuracy"}
    assert figures["none"]["enlarged_accuracy"] == figures["none"]["_extrapolated_accuracy"]
