"""Exhibits in records: kept as they were, bounded, of a version of their own, and refused when they are not what they claim."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from aieng_bench.record.exhibits import LARGEST, Confusion, Curve, Pictures
from aieng_bench.record.reading import Broken, _sha256, line, parse
from aieng_bench.record.schema import Record, canonical
from tests.engine.made import record

PIXELS = np.arange(2 * 3 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 3, 4, 5, 3)
SHOWN: dict[str, Any] = {
    "learning": (Curve(x="epoch", y="accuracy", points=((1, 0.25), (2, 0.5))),) * 2,
    "confusion": (Confusion(labels=("a", "b"), counts=((3, 1), (0, 4))),),
    "attention": (Pictures.of(("x", "y"), ("image", "first", "second"), PIXELS),),
}


def shown(**changes: Any) -> Record:
    return record(schema_version=2, exhibits={**SHOWN, **changes})


def test_exhibits_come_back_as_they_were() -> None:
    read = parse(line(shown()))
    assert read.exhibits == SHOWN
    (pictures,) = read.exhibits["attention"]
    assert isinstance(pictures, Pictures)
    assert np.array_equal(pictures.array(), PIXELS)


def test_a_record_without_exhibits_is_written_as_before() -> None:
    """So that what reads version 1 alone reads it, and what was published keeps its hash."""
    content = json.loads(line(record()))["record"]
    assert "exhibits" not in content
    assert content["schema_version"] == 1
    assert "exhibits" not in record().model_dump()


def test_version_1_has_no_exhibits() -> None:
    with pytest.raises(ValidationError, match="a record of schema_version 1 has none"):
        record(exhibits=SHOWN)


CURVE: dict[str, Any] = {"kind": "curve", "x": "epoch", "y": "accuracy", "points": [[1, 0.5]]}
MATRIX: dict[str, Any] = {"kind": "confusion", "labels": ["a", "b"], "counts": [[3, 1], [0, 4]]}
PICTURES: dict[str, Any] = {"kind": "pictures", "rows": ["r"], "columns": ["c"], "height": 1, "width": 1, "pixels": "AAAA"}


@pytest.mark.parametrize(
    ("exhibit", "said"),
    [
        ({**CURVE, "points": []}, "learning"),
        ({**CURVE, "points": [[1, 0.5]] * 1001}, "1000 items"),
        ({**CURVE, "points": [[1, None]]}, "valid number"),
        ({**CURVE, "x": "x" * 61}, "60 characters"),
        ({**CURVE, "kind": "script"}, "'script'"),
        ({**CURVE, "html": "<script>"}, "Extra inputs"),
        ({**MATRIX, "counts": [[3, 1], [0]]}, "not 2 rows of 2"),
        ({**MATRIX, "counts": [[3, 1]]}, "not 2 rows of 2"),
        ({**MATRIX, "counts": [[3, -1], [0, 4]]}, "greater than or equal to 0"),
        ({**PICTURES, "width": 2}, "3 bytes, not 6"),
        ({**PICTURES, "pixels": "AAA<"}, "pixels: "),
        ({**PICTURES, "height": 257}, "less than or equal to 256"),
        ({**PICTURES, "width": -1, "height": -1}, "greater than or equal to 1"),
        ({**PICTURES, "pixels": "A" * (LARGEST + 4)}, "characters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_an_exhibit_is_not_is_refused(exhibit: dict[str, Any], said: str) -> None:
    """Rightly hashed, as a stranger can: the schema alone refuses it, by its path."""
    content = json.loads(line(shown()))["record"]
    content["exhibits"]["learning"] = [exhibit]
    text = canonical({"sha256": _sha256(canonical(content)), "record": content})
    with pytest.raises(Broken, match=r"^\$\.record\.exhibits\.learning") as refused:
        parse(text)
    assert said in f"learning {refused.value}"


def test_more_than_a_record_keeps_is_refused() -> None:
    many = Pictures.of(["r"] * 4, ["c"] * 4, np.zeros((4, 4, 64, 64, 3), np.uint8))
    with pytest.raises(ValidationError, match="the most that a record keeps is"):
        shown(attention=(many,) * 2)


def test_a_changed_pixel_breaks_the_hash() -> None:
    text = line(shown())
    pixels = text.index('"pixels":"') + len('"pixels":"')
    changed = f"{text[:pixels]}{'B' if text[pixels] == 'A' else 'A'}{text[pixels + 1 :]}"
    with pytest.raises(Broken, match="does not match its hash"):
        parse(changed)
