"""The suite's data: what a data set is, how one is split by hash, checked by checksum and augmented. Nothing is downloaded.

A split depends on the images alone: no library's version, order or random generator can change who is in which part.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Generator, Tensor

FOLDS = 5
"""Ways to choose the test part, which is one fifth: each image is in that of one fold."""
VALIDATION = 0.10


class ChangedData(Exception):
    """The installed data set is not the one that the studies are defined on."""


@dataclass(frozen=True)
class Part:
    """Images (N, C, H, W) float32 in [0, 1], or sequences (N, S) int64; labels (N, ...) int64; which of the whole set they are."""

    images: NDArray[Any]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]


@dataclass(frozen=True)
class Jitter:
    """Largest augmentation: pixels, radians, relative size; each is drawn evenly between minus and plus this."""

    shift: float
    turn: float
    zoom: float


@dataclass(frozen=True)
class Dataset:
    """Train for fitting, validation for the time to a quality, test for the final quality alone."""

    train: Part
    validation: Part
    test: Part
    classes: int
    mean: float
    deviation: float
    """Of the training pixels."""
    jitter: Jitter

    def standardised(self, images: Tensor) -> Tensor:
        """Images of about zero mean and unit variance, as networks see them."""
        return (images - self.mean) / self.deviation

    def augmented(self, images: Tensor, generator: Generator) -> Tensor:
        """Images as a training step sees them: moved a little by numbers from ``generator``, then standardised."""
        return self.standardised(augment(images, self.jitter, generator))


def shipped(package: str, file: str) -> NDArray[np.uint8]:
    """A file of comma-separated numbers from 0 to 255 that an installed package brings, whose import takes seconds, without it."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed: its {file} is the data", name=package)
    return np.loadtxt(Path(found.submodule_search_locations[0], file), np.uint8, delimiter=",")


def check(name: str, expected: str, *arrays: NDArray[np.uint8]) -> None:
    """Raise ChangedData unless the SHA-256 of the bytes of all ``arrays`` is the expected one."""
    found = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    if found != expected:
        raise ChangedData(f"{name} have SHA-256 {found}, not {expected}")


def parts(raw: NDArray[np.uint8], labels: NDArray[np.int64], largest: int, fold: int = 0) -> tuple[Part, Part, Part]:
    """Train, validation and test of grey images (N, H, W) with pixels from 0 to ``largest``, split by :func:`split`."""
    images = (raw[:, None] / largest).astype(np.float32)
    train, validation, test = (Part(images[chosen], labels[chosen], chosen) for chosen in split(raw, labels, fold))
    return train, validation, test


def split(
    raw: NDArray[np.uint8], labels: NDArray[np.int64], fold: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Indices of train, validation and test, ascending: of each class the same share, chosen by the hash of the image.

    The test parts of all folds are disjoint and together the whole; the validation part is what follows the test part.
    """
    if fold not in range(FOLDS):
        raise ValueError(f"fold={fold} must be from 0 to {FOLDS - 1}")
    chosen: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label), key=lambda i: hashlib.sha256(raw[i].tobytes()).digest())
        begin, end = (round(n * len(members) / FOLDS) for n in (fold, fold + 1))
        others = members[end:] + members[:begin]
        validations = round(VALIDATION * len(members))
        chosen[2].extend(members[begin:end])
        chosen[1].extend(others[:validations])
        chosen[0].extend(others[validations:])
    train, validation, test = (np.array(sorted(part), dtype=np.int64) for part in chosen)
    return train, validation, test


def resized(data: Dataset, side: int, labels: int | None = None) -> Dataset:
    """The data set at ``side`` x ``side`` pixels, of whose training images ``labels`` are kept, as many of each class.

    Those are the first of each class in the part's order, which has nothing to do with what they show.
    """
    import torch
    from torch.nn import functional

    def scaled(part: Part, chosen: Any = slice(None)) -> Part:
        images = torch.from_numpy(part.images[chosen])
        mode = "area" if images.shape[-1] > side else "bilinear"
        made = functional.interpolate(images, size=(side, side), mode=mode)
        return replace(part, images=made.numpy(), labels=part.labels[chosen], indices=part.indices[chosen])

    train = data.train.labels
    each = len(train) if labels is None else labels // data.classes
    chosen = np.sort(np.concatenate([np.flatnonzero(train == label)[:each] for label in range(data.classes)]))
    return replace(data, train=scaled(data.train, chosen), validation=scaled(data.validation), test=scaled(data.test))


def augment(images: Tensor, jitter: Jitter, generator: Generator) -> Tensor:
    """Each of ``images`` (N, C, S, S) shifted, turned and zoomed a little, by numbers from ``generator`` (on the CPU)."""
    import torch
    from torch.nn import functional

    count, size = len(images), images.shape[-1]
    drawn = 2 * torch.rand(count, 4, generator=generator) - 1
    turn, zoom = jitter.turn * drawn[:, 0], 1 + jitter.zoom * drawn[:, 1]
    shift = 2 * jitter.shift / size * drawn[:, 2:]  # affine_grid measures in half widths
    cos, sin = zoom * torch.cos(turn), zoom * torch.sin(turn)
    matrix = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1).to(images.device)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
