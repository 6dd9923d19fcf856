"""Rendered scenes of coloured shapes on textured, noisy backgrounds, 32 x 32 RGB, each with its exact mask and a caption.

Everything is integer arithmetic on 64-bit words of PCG64 seeded by the part, a stream that numpy promises never to change: scene i
of a part is the same on every machine, however many are rendered. Edges are hard, so that a mask is exact.

The parts share nothing: each has its own seed, and crops its backgrounds from its own columns of scikit-image's pictures. Of the
24 kinds (6 colours, 4 shapes) the 4 of ``UNSEEN`` can be kept from training, which shows their colours and shapes in other kinds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from aieng_suites.vision.data import Dataset, Jitter, Part, check

Integers = NDArray[np.int64]

SIZE = 32
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (215, 40, 40),
    "green": (40, 180, 60),
    "blue": (45, 70, 215),
    "yellow": (225, 215, 50),
    "purple": (160, 45, 190),
    "white": (240, 240, 240),
}
KINDS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
UNSEEN = tuple(KINDS.index(pair) for pair in zip(COLOURS, SHAPES, strict=False))
"""Red circle, green square, blue triangle, yellow cross."""
SEEN = tuple(kind for kind in range(len(KINDS)) if kind not in UNSEEN)

PARTS = ("train", "validation", "test")
BANDS = (0, 60, 80, 100)
"""Columns of each picture that a part crops from: from and to, in percent of the width."""
PICTURES = {
    "astronaut": "a8c429c18afa7b0fd5673e598d73a21225d94c864a71bbb3885126fdecb41071",
    "coffee": "0ce2b51640b9c95f19617f03eabf40c3f0368589cc1ee1190b70966165ac184f",
    "chelsea": "416b729128bfb2c3d1eb69bf9b1734a796293abc17939267b2dc94f8a5784031",
    "brick": "664a145c5253f0d66db1a12776785f0ea35a44cc7447ffc933f6d6118dc58643",
    "grass": "b18dae4c68bf850a7a7b28a29d1846c76be890665117b57fd125fe29c4d4ede6",
    "gravel": "3d51ad45f789cd8b98534b7af6bce774e499ead45421135afd757358c7230009",
}
"""SHA-256 of the pixels of each."""
NOISE, TINT, LIGHT = 12, 15, 20
"""Largest change of a pixel by noise, of an object's colour, of a background's brightness; of 255."""
SMALL, LARGE = (9, 10), (13, 16)
"""Radius from and to, in half pixels; the gap between them is what the words small and large mean."""
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
CELL, WANDER = 16, 2
"""Distance of neighbouring cells' centres, and how far an object's centre may lie from its cell's, in half pixels."""
TURNS, TURN = 5, math.pi / 32
"""Directions that an object may be turned to, about none, and what is between them: at most 11 degrees either way."""
WORDS = ("", "<start>", "a", "and", "small", "large", "at", "the", *COLOURS, *SHAPES, *ROWS, *COLUMNS, "<end>")
"""The vocabulary of captions; a word's number is its place. The empty word pads; as in CLIP's own,
the largest number ends."""
END = WORDS.index("<end>")
HEADER, PER_OBJECT = 4 + len(ROWS) * len(COLUMNS), 9
"""Words that a scene and each of its objects are drawn from: see :func:`backgrounds`, :func:`render` and :func:`place`."""
MEAN, DEVIATION = 0.45, 0.165
JITTER = Jitter(shift=2.0, turn=0.1, zoom=0.1)


@dataclass(frozen=True)
class Scenes:
    """N scenes: images (N, 3, 32, 32), masks (N, 32, 32), kinds (N, objects), captions.

    A mask is 0 on the background, else 1 + the number in ``SHAPES`` of the uppermost object; later objects lie above earlier ones.
    A kind is an index in ``KINDS``, or -1 where the scene has fewer objects.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    kinds: Integers
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Objects:
    """One object of each scene, every field (N, ...): what :func:`place` draws. Lengths are half pixels."""

    kind: Integers
    x: Integers
    y: Integers
    radius: Integers
    turn: Integers
    colour: Integers
    words: tuple[str, ...]


def render(part: str, count: int, *, objects: int = 1, kinds: Sequence[int] = range(len(KINDS))) -> Scenes:
    """The first ``count`` scenes of a part with 1 to ``objects`` objects, in cells of their own, each one of ``kinds``.

    Raises ValueError for an unknown part or ``objects`` not from 1 to 9, ChangedData if a picture is not the expected one.
    """
    if part not in PARTS:
        raise ValueError(f"part={part!r} must be one of {', '.join(PARTS)}")
    if not 1 <= objects <= len(ROWS) * len(COLUMNS):
        raise ValueError(f"objects={objects} must be from 1 to {len(ROWS) * len(COLUMNS)}")
    width = HEADER + PER_OBJECT * objects
    noise_words = 3 * SIZE * SIZE // 8
    raw = np.random.PCG64(PARTS.index(part)).random_raw(count * (width + noise_words)).reshape(count, width + noise_words)
    noise = np.ascontiguousarray(raw[:, width:], dtype="<u8").view(np.uint8).reshape(count, 3, SIZE, SIZE)
    images = backgrounds(part, raw[:, :4])
    masks = np.zeros((count, SIZE, SIZE), np.uint8)
    cells = np.argsort(raw[:, 4:HEADER], axis=1, kind="stable")
    number = 1 + below(raw[:, 3], objects)
    drawn_kinds = np.full((count, objects), -1, np.int64)
    captions = [""] * count
    for n in range(objects):
        first = HEADER + PER_OBJECT * n
        drawn = place(raw[:, first : first + PER_OBJECT], cells[:, n], kinds)
        there = n < number
        covered = inside(drawn) & there[:, None, None]
        images = np.where(covered[:, None], drawn.colour[:, :, None, None], images)
        masks = np.where(covered, (1 + drawn.kind % len(SHAPES)).astype(np.uint8)[:, None, None], masks)
        drawn_kinds[there, n] = drawn.kind[there]
        for i in np.flatnonzero(there):
            captions[i] += f" and {drawn.words[i]}" if n else drawn.words[i]
    pixels = np.clip(images + noise % (2 * NOISE + 1) - NOISE, 0, 255).astype(np.uint8)
    return Scenes(pixels, masks, drawn_kinds, tuple(captions))


def below(words: NDArray[np.uint64], bound: int) -> Integers:
    """Whole numbers from 0 to ``bound`` - 1; of 2^64 words so few that the remainder's bias cannot be seen."""
    return (words % np.uint64(bound)).astype(np.int64)


@cache
def pictures() -> tuple[Integers, ...]:
    """The pictures that backgrounds are cropped from, each (3, height, width)."""
    import skimage.data

    found = []
    for name, expected in PICTURES.items():
        picture = getattr(skimage.data, name)()
        check(f"the pixels of scikit-image's {name}", expected, picture)
        found.append(np.broadcast_to(np.atleast_3d(picture), (*picture.shape[:2], 3)).transpose(2, 0, 1).astype(np.int64))
    return tuple(found)


def band(part: str, width: int) -> tuple[int, int]:
    """The columns, from and to, of a picture of this width that the part may show."""
    place = PARTS.index(part)
    return BANDS[place] * width // 100, BANDS[place + 1] * width // 100


def backgrounds(part: str, words: NDArray[np.uint64]) -> Integers:
    """Crops (N, 3, 32, 32) of the part's columns at half contrast, from words (N, 4): picture, row, column, and brightness.

    The last word also decides the number of objects, by its remainder; brightness takes its upper half.
    """
    crops = np.empty((len(words), 3, SIZE, SIZE), np.int64)
    chosen = below(words[:, 0], len(PICTURES))
    for number, picture in enumerate(pictures()):
        mine = np.flatnonzero(chosen == number)
        begin, end = band(part, picture.shape[2])
        top = below(words[mine, 1], picture.shape[1] - SIZE + 1)
        left = begin + below(words[mine, 2], end - begin - SIZE + 1)
        rows, columns = top[:, None, None] + np.arange(SIZE)[:, None], left[:, None, None] + np.arange(SIZE)
        crops[mine] = picture[:, rows, columns].transpose(1, 0, 2, 3)
    light = below(words[:, 3] >> np.uint64(32), 2 * LIGHT + 1) - LIGHT
    return 56 + crops // 2 + light[:, None, None, None]


def place(words: NDArray[np.uint64], cells: Integers, kinds: Sequence[int]) -> Objects:
    """An object in each scene's cell, from words (N, 9): kind, size, x, y, turn, the colour's three channels, what is told."""
    kind = np.array(kinds)[below(words[:, 0], len(kinds))]
    large = below(words[:, 1], 2) == 1
    low, high = (np.where(large, big, small) for small, big in zip(SMALL, LARGE, strict=True))
    radius = low + ((words[:, 1] >> np.uint64(32)) % (high - low + 1).astype(np.uint64)).astype(np.int64)
    row, column = cells // len(COLUMNS), cells % len(COLUMNS)
    x, y = (
        SIZE + (cell - 1) * CELL + below(words[:, n], 2 * WANDER + 1) - WANDER for cell, n in ((column, 2), (row, 3))
    )  # the middle of the image is SIZE half pixels from its edge
    tint = np.stack([below(words[:, n], 2 * TINT + 1) - TINT for n in (5, 6, 7)], axis=1)
    colour = np.array(list(COLOURS.values()))[kind // len(SHAPES)] + tint
    told = below(words[:, 8], 4)
    texts = tuple(
        phrase(int(k), ("large" if big else "small") if t & 1 else "", f"{ROWS[r]} {COLUMNS[c]}" if t & 2 else "")
        for k, big, t, r, c in zip(kind, large, told, row, column, strict=True)
    )
    return Objects(kind, x, y, radius, below(words[:, 4], TURNS), colour, texts)


def phrase(kind: int, size: str = "", position: str = "") -> str:
    """``a small red circle at the top left``; without size and position it is the prompt of the kind: ``a red circle``."""
    return " ".join(filter(None, ("a", size, *KINDS[kind], position and f"at the {position}")))


def inside(drawn: Objects) -> NDArray[np.bool_]:
    """Which pixels' centres (N, 32, 32) the objects cover: a disc, or the shape that its circle bounds, turned.

    In turned coordinates u, v with R = 256 r: square 5|u|, 5|v| <= 4 R; cross 3 min(|u|, |v|) <= R and max(|u|, |v|) <= R; triangle
    the half planes 2 v <= R and +-sqrt(3) u - v <= R.
    """
    centres = 2 * np.arange(SIZE) + 1
    dx = centres[None, None, :] - drawn.x[:, None, None]
    dy = centres[None, :, None] - drawn.y[:, None, None]
    angles = [TURN * (turn - TURNS // 2) for turn in range(TURNS)]
    cos, sin = (np.array([round(256 * f(a)) for a in angles])[drawn.turn][:, None, None] for f in (math.cos, math.sin))
    r = drawn.radius[:, None, None]
    u, v, full = dx * cos + dy * sin, dy * cos - dx * sin, 256 * r
    near, far = np.minimum(abs(u), abs(v)), np.maximum(abs(u), abs(v))
    shapes = {
        "circle": dx * dx + dy * dy <= r * r,
        "square": 5 * far <= 4 * full,
        "triangle": (2 * v <= full) & (443 * abs(u) - 256 * v <= 256 * full),  # 443 / 256 is sqrt(3)
        "cross": (3 * near <= full) & (far <= full),
    }
    return np.choose((drawn.kind % len(SHAPES))[:, None, None], [shapes[name] for name in SHAPES]).astype(bool)


def tokens(captions: Sequence[str], length: int) -> Integers:
    """Captions as numbers of words (N, length): ``<start>``, the words, ``<end>``, padding. ValueError if one is too long."""
    number = {word: n for n, word in enumerate(WORDS)}
    found = np.zeros((len(captions), length), np.int64)
    for row, caption in zip(found, captions, strict=True):
        words = ["<start>", *caption.split(), "<end>"]
        if len(words) > length:
            raise ValueError(f"{caption!r} has {len(words)} words with its ends, more than length={length}")
        row[: len(words)] = [number[word] for word in words]
    return found


def dataset(
    sizes: tuple[int, int, int], label: Callable[[Scenes], Integers], classes: int, *, objects: int = 1, kinds: Sequence[int] = ()
) -> Dataset:
    """Train, validation and test of so many scenes, with the labels that ``label`` reads from them; all kinds if none are given."""
    rendered = [render(part, n, objects=objects, kinds=kinds or range(len(KINDS))) for part, n in zip(PARTS, sizes, strict=True)]
    train, validation, test = (Part((s.images / 255).astype(np.float32), label(s), np.arange(len(s.images))) for s in rendered)
    return Dataset(train, validation, test, classes, MEAN, DEVIATION, JITTER)
