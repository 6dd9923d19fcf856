"""The digits of scikit-learn: 1,797 real scans of 8 x 8 pixels, split once and for all.

Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), the test part, as scikit-learn ships it. All its
writers occur in every part of the split, as in most published figures on this set; no image occurs twice.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Generator, Tensor

SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Of the pixels and then the labels, one byte each."""
VALIDATION, TEST = 0.10, 0.20
LARGEST_PIXEL = 16
MEAN, DEVIATION = 0.305, 0.376
"""Of the training pixels, which are in [0, 1]."""
MAX_SHIFT, MAX_TURN, MAX_ZOOM = 0.6, 0.09, 0.06
"""Augmentation: pixels, radians, relative size, each drawn evenly between minus and plus this."""


class ChangedData(Exception):
    """The installed data set is not the one that the study is defined on."""


@dataclass(frozen=True)
class Part:
    """Images (N, 8, 8) float32 in [0, 1], labels (N,) int64, and which images of the whole set they are."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]


@dataclass(frozen=True)
class Digits:
    """Train for fitting, validation for the time to a quality, test for the final accuracy alone."""

    train: Part
    validation: Part
    test: Part


@cache
def load() -> Digits:
    """The split set. Raises ChangedData if its checksum differs."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    raw = pixels.astype(np.uint8)
    found = hashlib.sha256(raw.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    if found != SHA256:
        raise ChangedData(f"scikit-learn's digits have SHA-256 {found}, not {SHA256}")
    images = (raw.reshape(-1, 8, 8) / LARGEST_PIXEL).astype(np.float32)
    parts = [Part(images[i], labels[i].astype(np.int64), i) for i in split(raw, labels)]
    return Digits(*parts)


def split(raw: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Indices of train, validation and test, ascending: of each class the same share, chosen by the hash of the image.

    A hash rather than a random generator: no library's version can change who is in which part.
    """
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for digit in np.unique(labels):
        members = sorted(np.flatnonzero(labels == digit), key=lambda i: hashlib.sha256(raw[i].tobytes()).digest())
        tests, validations = round(TEST * len(members)), round(VALIDATION * len(members))
        parts[2].extend(members[:tests])
        parts[1].extend(members[tests : tests + validations])
        parts[0].extend(members[tests + validations :])
    train, validation, test = (np.array(sorted(part), dtype=np.int64) for part in parts)
    return train, validation, test


def standardised(images: Tensor) -> Tensor:
    """Images of about zero mean and unit variance, as networks see them."""
    return (images - MEAN) / DEVIATION


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Each of ``images`` (N, 1, 8, 8) shifted, turned and zoomed a little, by numbers from ``generator`` (on the CPU)."""
    import torch
    from torch.nn import functional

    count, size = len(images), images.shape[-1]
    drawn = 2 * torch.rand(count, 4, generator=generator) - 1
    turn, zoom = MAX_TURN * drawn[:, 0], 1 + MAX_ZOOM * drawn[:, 1]
    shift = 2 * MAX_SHIFT / size * drawn[:, 2:]  # affine_grid measures in half widths
    cos, sin = zoom * torch.cos(turn), zoom * torch.sin(turn)
    matrix = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1).to(images.device)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
