"""The vision suite's data: checksums, splits, that nothing leaks from one part into another, and what a scene shows."""

from __future__ import annotations

import hashlib
import itertools
from types import ModuleType

import numpy as np
import pytest
import torch
from aieng_suites.vision import data
from aieng_suites.vision.data import Dataset, Jitter, digits, mnist5k, scenes, sequences

SCANS = [pytest.param(digits, 1797, 8, id="digits"), pytest.param(mnist5k, 5000, 28, id="mnist5k")]


def parts(dataset: Dataset) -> tuple[data.Part, data.Part, data.Part]:
    return dataset.train, dataset.validation, dataset.test


@pytest.mark.parametrize(("module", "count", "size"), SCANS)
def test_split_is_disjoint_complete_and_stratified(module: ModuleType, count: int, size: int) -> None:
    split = parts(module.load())
    assert sorted(np.concatenate([part.indices for part in split])) == list(range(count))
    whole = np.bincount(np.concatenate([part.labels for part in split]))
    for part, share in zip(split, (0.7, 0.1, 0.2), strict=True):
        assert part.images.shape == (len(part.labels), 1, size, size)
        assert part.images.dtype == np.float32
        assert 0.0 <= part.images.min() < part.images.max() <= 1.0
        assert np.all(np.abs(np.bincount(part.labels, minlength=10) - share * whole) <= 1)


def test_folds_share_no_test_image_and_test_every_image_once() -> None:
    folds = [parts(digits.load(fold)) for fold in range(data.FOLDS)]
    assert sorted(np.concatenate([test.indices for _, _, test in folds])) == list(range(1797))
    for fold in folds:
        assert sorted(np.concatenate([part.indices for part in fold])) == list(range(1797)), "nor is an image in two parts of one"
        assert np.all(np.abs(np.bincount(fold[2].labels) - 0.2 * np.bincount(np.concatenate([p.labels for p in fold]))) <= 1)
    with pytest.raises(ValueError, match="fold=5"):
        data.split(np.zeros((0, 8, 8), np.uint8), np.zeros(0, np.int64), 5)


@pytest.mark.parametrize(("module", "count", "size"), SCANS)
def test_no_scan_is_in_two_parts(module: ModuleType, count: int, size: int) -> None:
    seen = [{image.tobytes() for image in part.images} for part in parts(module.load())]
    assert [len(images) for images in seen] == [len(part.labels) for part in parts(module.load())], "none occurs twice within one"
    assert len(set.union(*seen)) == count


@pytest.mark.parametrize(("module", "count", "size"), SCANS)
def test_split_depends_on_the_images_alone(module: ModuleType, count: int, size: int) -> None:
    order = np.random.default_rng(0).permutation(count)
    labels, raw = np.empty(count, np.int64), np.empty((count, size, size), np.uint8)
    for part in parts(module.load()):
        labels[part.indices] = part.labels
        raw[part.indices] = np.rint(part.images[:, 0] * module.LARGEST_PIXEL).astype(np.uint8)
    for part, found in zip(parts(module.load()), data.split(raw[order], labels[order]), strict=True):
        assert sorted(order[found]) == list(part.indices)


@pytest.mark.parametrize(("module", "count", "size"), SCANS)
def test_changed_data_is_refused(module: ModuleType, count: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    with pytest.raises(data.ChangedData, match="SHA-256"):
        module.load.__wrapped__()


def test_what_no_package_ships_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package is not installed"):
        data.shipped("no_such_package", "digits.csv")
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        data.shipped("sklearn", "none.csv")


@pytest.mark.parametrize(("module", "count", "size"), SCANS)
def test_standardisation_is_that_of_the_training_part(module: ModuleType, count: int, size: int) -> None:
    found = module.load().train.images
    assert (found.mean(), found.std()) == pytest.approx((module.MEAN, module.DEVIATION), abs=2e-3)
    assert float(module.load().standardised(torch.from_numpy(found)).std()) == pytest.approx(1, abs=0.01)


def test_augmentation_is_seeded_and_small() -> None:
    images = torch.from_numpy(digits.load().train.images[:64])
    before = images.clone()
    one, two, other = (data.augment(images, digits.JITTER, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(images, before)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.shape == images.shape
    ys, xs = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    for axis in (ys, xs):
        centre, moved = ((axis * x).sum((1, 2, 3)) / x.sum((1, 2, 3)) for x in (images, one))
        assert (moved - centre).abs().max() < digits.JITTER.shift + 0.6  # turning and zooming move ink too, some leaves the frame
    assert one.min() >= 0.0
    assert one.max() <= 1.0


def test_without_amplitude_augmentation_changes_nothing() -> None:
    images = torch.from_numpy(digits.load().train.images[:8])
    torch.testing.assert_close(data.augment(images, Jitter(0, 0, 0), torch.Generator()), images, atol=1e-6, rtol=0)


# Of images, masks and captions of the first 64 scenes with up to 3 objects: integers alone, so that every machine renders the same.
CHECKSUMS = {
    "train": "3ddee092eb734da1f80cb7156e3e77bf1cea2490919d9f2bf804f05d6e78b02c",
    "validation": "831e1b6aa45f59f46951d9e40bb7ec771a9cd46048325c116788a6da5dd6e5e9",
    "test": "d9f45497d05a40633868d7291b49f05887af69d27ad53c3d1d9741d609d8446d",
}


@pytest.mark.parametrize("part", scenes.PARTS)
def test_scenes_are_the_same_everywhere(part: str) -> None:
    made = scenes.render(part, 64, objects=3)
    whole = made.images.tobytes() + made.masks.tobytes() + "|".join(made.captions).encode()
    assert hashlib.sha256(whole).hexdigest() == CHECKSUMS[part]


def test_a_scene_does_not_depend_on_how_many_are_rendered() -> None:
    few, many = scenes.render("train", 5, objects=2), scenes.render("train", 40, objects=2)
    assert np.array_equal(few.images, many.images[:5])
    assert np.array_equal(few.masks, many.masks[:5])
    assert few.captions == many.captions[:5]


def test_no_scene_is_in_two_parts() -> None:
    seen = [{image.tobytes() for image in scenes.render(part, 300).images} for part in scenes.PARTS]
    assert len(set.union(*seen)) == 900


def test_no_part_sees_another_parts_backgrounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures whose pixels are their column's band stand in for the real ones: every crop shows its own band alone."""
    width = 200
    columns = np.empty(width, np.int64)
    for number, part in enumerate(scenes.PARTS):
        columns[slice(*scenes.band(part, width))] = number
    painted = np.broadcast_to(columns, (3, 60, width))
    monkeypatch.setattr(scenes, "pictures", lambda: (painted,) * len(scenes.PICTURES))
    for number, part in enumerate(scenes.PARTS):
        words = np.random.default_rng(number).integers(0, 2**63, (200, 4)).astype(np.uint64)
        crops = scenes.backgrounds(part, words) - scenes.backgrounds(part, words).min(axis=(1, 2, 3), keepdims=True)
        assert not crops.any(), "a crop of one band is of one value"
        words[:, 3] = 0
        monkeypatch.setattr(scenes, "LIGHT", 0)
        assert np.all(scenes.backgrounds(part, words) == 56 + number // 2)


def test_bands_are_disjoint_and_hold_a_crop() -> None:
    for picture in scenes.pictures():
        bands = [scenes.band(part, picture.shape[2]) for part in scenes.PARTS]
        assert [bands[0][0], bands[-1][1]] == [0, picture.shape[2]]
        assert all(before[1] == after[0] for before, after in itertools.pairwise(bands))
        assert all(right - left >= scenes.SIZE for left, right in bands)


def test_a_changed_picture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scenes.PICTURES, "coffee", "0" * 64)
    with pytest.raises(data.ChangedData, match="coffee"):
        scenes.pictures.__wrapped__()


def test_a_mask_has_the_shape_it_names() -> None:
    """Its area is that of the ideal shape, as nearly as whole pixels can have it."""
    words = np.random.PCG64(7).random_raw(40 * scenes.PER_OBJECT).reshape(40, -1)
    drawn = scenes.place(words, np.arange(40) % 9, range(len(scenes.KINDS)))
    areas = scenes.inside(drawn).sum((1, 2))
    radius = drawn.radius / 2
    ideal = {"circle": np.pi, "square": 4 * 0.8**2, "triangle": 3 * np.sqrt(3) / 4, "cross": 4 * (2 / 3 - 1 / 9)}
    for name, factor in ideal.items():
        # In the middle cell, where nothing is cut off; a hard edge is off by at most a pixel along it.
        here = (drawn.kind % 4 == scenes.SHAPES.index(name)) & (drawn.x // 2 < 22) & (drawn.x // 2 > 10) & (abs(drawn.y - 32) < 4)
        assert np.all(np.abs(areas[here] - factor * radius[here] ** 2) < 2 * np.pi * radius[here])
    made = scenes.render("train", 200)
    shown = [set(np.unique(mask)) for mask in made.masks]
    assert shown == [{0, 1 + int(kind) % 4} for kind in made.kinds[:, 0]]


def test_the_object_has_its_colour() -> None:
    made = scenes.render("test", 200)
    for image, mask, (kind,) in zip(made.images, made.masks, made.kinds, strict=True):
        mean = image[:, mask > 0].mean(axis=1)
        nearest = min(scenes.COLOURS, key=lambda name: np.abs(mean - scenes.COLOURS[name]).sum())
        assert nearest == scenes.KINDS[kind][0]


def test_captions_say_what_is_there() -> None:
    made = scenes.render("validation", 300, objects=3)
    for mask, kinds, caption in zip(made.masks, made.kinds, made.captions, strict=True):
        told = caption.split(" and ")
        there = [kind for kind in kinds if kind >= 0]
        assert len(told) == len(there)
        assert all(" ".join(scenes.KINDS[kind]) in text for kind, text in zip(there, told, strict=True))
        assert set(np.unique(mask)) <= {0} | {1 + kind % 4 for kind in there}
    assert {"small", "large", "top", "right"} <= {word for caption in made.captions for word in caption.split()}


def test_a_position_that_is_told_is_right() -> None:
    made = scenes.render("train", 300)
    for mask, caption in zip(made.masks, made.captions, strict=True):
        row, column = np.argwhere(mask).mean(axis=0)
        for words, middle in ((scenes.ROWS, row), (scenes.COLUMNS, column)):
            for place, word in enumerate(words):
                if word in caption.split():
                    assert np.argmin(np.abs(middle - np.array([8, 16, 24]))) == place


def test_kinds_can_be_kept_from_training() -> None:
    made = scenes.render("train", 400, objects=2, kinds=scenes.SEEN)
    shown = set(made.kinds.ravel()) - {-1}
    assert shown == set(scenes.SEEN)
    assert not any(scenes.phrase(kind).removeprefix("a ") in caption for kind in scenes.UNSEEN for caption in made.captions)
    pairs = [scenes.KINDS[kind] for kind in scenes.SEEN]
    assert {colour for colour, _ in pairs} == set(scenes.COLOURS)
    assert {shape for _, shape in pairs} == set(scenes.SHAPES)


def test_tokens_are_the_words() -> None:
    (row,) = scenes.tokens(["a small red circle"], 8)
    assert [scenes.WORDS[n] for n in row] == ["<start>", "a", "small", "red", "circle", "<end>", "", ""]
    with pytest.raises(ValueError, match="length=5"):
        scenes.tokens(["a small red circle"], 5)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="part='tests'"):
        scenes.render("tests", 1)
    with pytest.raises(ValueError, match="objects=10"):
        scenes.render("test", 1, objects=10)


def test_a_data_set_of_scenes() -> None:
    made = scenes.dataset((200, 20, 30), lambda s: s.masks.astype(np.int64), 5, objects=3)
    assert [part.images.shape for part in parts(made)] == [(n, 3, 32, 32) for n in (200, 20, 30)]
    assert made.train.labels.shape == (200, 32, 32)
    assert (made.train.images.mean(), made.train.images.std()) == pytest.approx((scenes.MEAN, scenes.DEVIATION), abs=0.03)
    assert set(np.unique(made.test.labels)) == {0, 1, 2, 3, 4}


def test_sequences_are_the_same_everywhere_and_in_one_part_alone() -> None:
    made = sequences.dataset((50, 20, 30), "reverse")
    whole = np.concatenate([part.images for part in parts(made)])
    assert hashlib.sha256(whole.astype(np.uint8).tobytes()).hexdigest()[:16] == "9a95fed044442be5"
    assert len(np.unique(whole, axis=0)) == len(whole) == 100
    assert [len(part.labels) for part in parts(made)] == [50, 20, 30]
    assert set(whole.flatten()) == set(range(sequences.SYMBOLS))
    assert torch.equal(made.standardised(torch.from_numpy(whole)), torch.from_numpy(whole))


def test_sequences_become_what_the_rule_says() -> None:
    backwards, sorted_up = (sequences.dataset((20, 1, 1), rule).train for rule in ("reverse", "sort"))
    assert np.array_equal(backwards.images, sorted_up.images)
    for read, back, up in zip(backwards.images.tolist(), backwards.labels.tolist(), sorted_up.labels.tolist(), strict=True):
        assert back == list(reversed(read))
        assert up == sorted(read)


def test_more_sequences_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "LENGTH", 1)
    with pytest.raises(ValueError, match="sizes="):
        sequences.dataset((8, 2, 2), "sort")
