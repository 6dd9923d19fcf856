"""What the studies show of a trained network beside its figures: learning curve, confusion, attention, painted masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from aieng_bench.record.exhibits import Confusion, Curve, Pictures

HEAT = (255, 120, 0)
"""Red, green, blue of the most attended patch."""
COVER = 0.65
"""Share of the heat, or of a class's colour, in a pixel that is painted in full."""

Pixels = NDArray[np.float32]


def learning(validation: Sequence[float], quality: str) -> Curve:
    """Validation quality after each epoch; of more than a thousand epochs, of some evenly chosen, the last among them."""
    step = math.ceil(len(validation) / 1000)
    points = [(float(epoch), float(value)) for epoch, value in enumerate(validation, start=1)]
    return Curve(x="epoch", y=f"validation {quality}", points=tuple(points[::-1][::step][::-1]))


def confusion(counts: Tensor, names: Sequence[str]) -> Confusion:
    """The matrix of ``counts`` (classes, classes), true by found."""
    return Confusion(labels=tuple(names), counts=tuple(map(tuple, counts.long().tolist())))


def attention(
    model: nn.Module, predict: Callable[[Tensor], Tensor], images: Tensor, standardised: Tensor, captions: Sequence[str]
) -> Pictures | None:
    """How much the class token attends to each patch of ``images`` (N, C, S, S) in every block, the mean over heads.

    ``predict`` is what its inference runs. The most attended patch of a picture has the full heat. None for a model without a
    :class:`VisionTransformer`, or whose patches make no square.
    """
    from aieng_suites.vision.models.vit import VisionTransformer

    transformer = next((m for m in model.modules() if isinstance(m, VisionTransformer)), None)
    if transformer is None:
        return None
    first = transformer.first_tokens().shape[1]
    with weights(transformer) as seen:
        predict(standardised)
    maps = [weight[:, :, 0, first:].mean(1) for weight in seen]
    patches = {attended.shape[1] for attended in maps}
    side = math.isqrt(max(patches, default=0))
    if patches != {side**2}:
        return None
    size = images.shape[-1]
    painted = [colours(images)]
    for attended in maps:
        share = (attended / attended.amax(1, keepdim=True)).view(-1, 1, side, side)
        large = nn.functional.interpolate(share, size=(size, size)).permute(0, 2, 3, 1).cpu().numpy()
        painted.append(paint(painted[0], np.array(HEAT, np.float32) / np.float32(255), large))
    note = "The warmer a patch, the more the class token attends to it, mean over heads. A row is named after what it shows."
    return pictures(captions, ("image", *(f"block {n}" for n in range(1, len(maps) + 1))), painted, note)


@contextmanager
def weights(transformer: nn.Module) -> Iterator[list[Tensor]]:
    """A list to which every attention under the model adds its weights (B, H, N, N) = softmax(q k' / sqrt(d) + mask)."""
    from aieng_suites.vision.models.vit import SelfAttention

    seen: list[Tensor] = []
    layers = [module for module in transformer.modules() if isinstance(module, SelfAttention)]
    originals = [layer.attention for layer in layers]

    def watched(attend: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
            scores = q @ k.mT / math.sqrt(q.shape[-1])
            seen.append((scores if attn_mask is None else scores + attn_mask).softmax(-1))
            return attend(q, k, v, **({} if attn_mask is None else {"attn_mask": attn_mask}), **options)

        return call

    try:
        for layer in layers:
            layer.attention = watched(layer.attention)
        yield seen
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.attention = original


def masks(
    images: Tensor, truth: Tensor, found: Tensor, palette: Sequence[tuple[int, int, int]], captions: Sequence[str], note: str
) -> Pictures:
    """``images`` (N, 3, S, S) with their true and found masks (N, S, S) painted over them, all but class 0, the background."""
    plain = colours(images)
    grey = plain.mean(-1, keepdims=True)  # under a class's colour, which another colour would change
    tones = np.array([(0, 0, 0), *palette], np.float32) / 255
    painted = [plain]
    for mask in (truth.cpu().numpy(), found.cpu().numpy()):
        covered = (mask > 0)[..., None]
        painted.append(paint(np.where(covered, grey, plain), tones[mask], covered.astype(np.float32)))
    return pictures(captions, ("image", "truth", "prediction"), painted, note)


def colours(images: Tensor) -> Pixels:
    """(N, S, S, 3) from 0 to 1 of images (N, 1 or 3, S, S)."""
    shown: Pixels = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).float().cpu().numpy()
    return shown


def paint(images: Pixels, colour: Pixels, share: Pixels) -> Pixels:
    """Images (N, S, S, 3) with a colour laid over them, as much of it as ``share`` (N, S, S, 1) says."""
    covered: Pixels = images * (1 - COVER * share) + colour * COVER * share
    return covered


def pictures(rows: Sequence[str], columns: Sequence[str], painted: Sequence[Pixels], note: str) -> Pictures:
    whole = np.stack(painted, axis=1)
    return Pictures.of(rows, columns, np.round(255 * whole.clip(0, 1)).astype(np.uint8), note)


def counted(labels: Tensor, found: Tensor, classes: int) -> Tensor:
    """Counts (classes, classes) in float64 of true by found labels, of any shape."""
    return (labels.flatten() * classes + found.flatten()).bincount(minlength=classes**2).view(classes, classes).double()


def one_of_each(labels: Tensor, most: int) -> list[int]:
    """Indices of the first image of each of the first ``most`` classes there are."""
    first: list[int] = np.unique(labels.cpu().numpy(), return_index=True)[1][:most].tolist()
    return first
