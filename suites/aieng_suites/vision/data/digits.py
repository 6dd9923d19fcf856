"""The digits of scikit-learn: 1,797 real scans of 8 x 8 pixels, split 70/10/20.

Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), the test part, as scikit-learn ships it. All its
writers occur in every part of the split, as in most published figures on this set; no image occurs twice.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from aieng_suites.vision.data import FOLDS, Dataset, Jitter, check, parts, shipped

SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Of the pixels and then the labels, one byte each."""
LARGEST_PIXEL = 16
MEAN, DEVIATION = 0.305, 0.376
JITTER = Jitter(shift=0.6, turn=0.09, zoom=0.06)


@cache
def load(fold: int = 0) -> Dataset:
    """Images (N, 1, 8, 8), those of one of the ``data.FOLDS`` for the test. Raises ChangedData if the checksum differs."""
    rows = shipped("sklearn", "datasets/data/digits.csv.gz")
    raw, labels = rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]
    check("scikit-learn's digits", SHA256, raw, labels)
    return Dataset(*parts(raw, labels.astype(np.int64), LARGEST_PIXEL, fold), 10, MEAN, DEVIATION, JITTER)


def of_seed(seed: int) -> Dataset:
    """The data set of the fold that a seed is tested on: number ``seed``, counted round."""
    return load(seed % FOLDS)
