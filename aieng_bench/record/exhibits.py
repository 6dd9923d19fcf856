"""Exhibits: what a study shows beside its figures, kept in its record: curves, confusion matrices, small pictures.

Plain numbers and raw pixels alone, each bounded: nothing here is ever decoded by more than base64.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=60)]
LARGEST = 256 * 2**10
"""Bytes of JSON that the exhibits of one record may take together."""


class Shown(BaseModel):
    """Base of every exhibit: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Curve(Shown):
    """How a figure went in the course of a seed, as points (x, y)."""

    kind: Literal["curve"] = "curve"
    x: Name
    y: Name
    points: Annotated[tuple[tuple[Finite, Finite], ...], Field(min_length=1, max_length=1000)]


class Confusion(Shown):
    """``counts[i][j]``: how many of class ``labels[i]`` were taken for ``labels[j]``."""

    kind: Literal["confusion"] = "confusion"
    labels: Annotated[tuple[Name, ...], Field(min_length=1, max_length=64)]
    counts: tuple[tuple[Annotated[int, Field(ge=0)], ...], ...]

    @model_validator(mode="after")
    def _square(self) -> Confusion:
        if {len(self.labels)} != {len(self.counts), *map(len, self.counts)}:
            raise ValueError(f"counts: not {len(self.labels)} rows of {len(self.labels)}")
        return self


class Pictures(Shown):
    """A table of small pictures, all of one size: ``pixels`` is base64 of uint8 (rows, columns, height, width, 3), red first."""

    kind: Literal["pictures"] = "pictures"
    rows: Annotated[tuple[Name, ...], Field(min_length=1, max_length=32)]
    columns: Annotated[tuple[Name, ...], Field(min_length=1, max_length=32)]
    height: Annotated[int, Field(ge=1, le=256)]
    width: Annotated[int, Field(ge=1, le=256)]
    pixels: Annotated[str, Field(max_length=LARGEST)]
    note: Annotated[str, Field(max_length=200)] = ""
    """What colours and captions mean."""

    @model_validator(mode="after")
    def _filled(self) -> Pictures:
        expected = len(self.rows) * len(self.columns) * self.height * self.width * 3
        try:
            found = len(base64.b64decode(self.pixels, validate=True))
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"pixels: {error}") from None
        if found != expected:
            raise ValueError(f"pixels: {found} bytes, not {expected}")
        return self

    @classmethod
    def of(cls, rows: Sequence[str], columns: Sequence[str], pixels: NDArray[np.uint8], note: str = "") -> Pictures:
        """From an array (rows, columns, height, width, 3) of uint8."""
        text = base64.b64encode(pixels.tobytes()).decode()
        height, width = pixels.shape[2:4]
        return cls(rows=tuple(rows), columns=tuple(columns), height=height, width=width, pixels=text, note=note)

    def array(self) -> NDArray[np.uint8]:
        """The pixels, as they were given to :meth:`of`."""
        import numpy as np

        flat = np.frombuffer(base64.b64decode(self.pixels), np.uint8)
        return flat.reshape(len(self.rows), len(self.columns), self.height, self.width, 3)


Exhibit = Annotated[Curve | Confusion | Pictures, Field(discriminator="kind")]
Seeds = Annotated[tuple[Exhibit, ...], Field(min_length=1, max_length=100)]
"""One exhibit of each seed that gave it."""


def bounded(exhibits: dict[str, Seeds]) -> dict[str, Seeds]:
    """The exhibits of a record, as they are. Raises ValueError if they take more than LARGEST bytes together."""
    size = sum(len(exhibit.model_dump_json()) for seeds in exhibits.values() for exhibit in seeds)
    if size > LARGEST:
        raise ValueError(f"{size} bytes; the most that a record keeps is {LARGEST}")
    return exhibits


Exhibits = Annotated[dict[Name, Seeds], AfterValidator(bounded)]
