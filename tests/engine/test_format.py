"""How figures and names are written."""

from __future__ import annotations

import math

import pytest

from aieng_bench.report import format
from aieng_bench.summary import Ratio
from tests.engine.made import record


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((0, "0"), (1, "1.00"), (9.996, "10.0"), (99.96, "100"), (12345, "12,345"), (0.0123456, "0.0123"), (-2.5, "-2.50")),
        *((1.5e9, "1.50e+09"), (1e-5, "1.00e-05"), (math.inf, "∞"), (math.nan, "–")),
    ],
)
def test_three_significant_digits(value, expected):
    assert format.digits(value) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        *((12345, "µs", "12.3 ms"), (0.5, "µs", "500 ns"), (3e6, "µs", "3.00 s"), (2**20 * 1.5, "B", "1.50 MiB")),
        *(
            (2.5e12, "FLOP/s", "2.50 TFLOP/s"),
            (0.987, "", "0.987"),
            (None, "µs", "–"),
            (0, "µs", "0 µs"),
            (7, "steps", "7.00 steps"),
        ),
    ],
)
def test_units(value, unit, expected):
    assert format.quantity(value, unit) == expected


def test_a_column_has_one_unit():
    scale = format.scale([900.0, 120_000.0], "µs")
    assert (scale.unit, scale.text(120_000.0), scale.text(None)) == ("µs", "120,000", "–")


def test_ratios():
    assert format.ratio(Ratio(3.117, 2.98, 3.25)) == "3.12× [2.98, 3.25]"
    assert format.ratio(Ratio(1.5, 1.2, 1.9, "rounds")) == "1.50× [1.20, 1.90]†"
    assert format.ratio(Ratio(1.5, 0, math.inf, "seeds")) == "1.50×"
    assert format.ratio(None) == "–"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.04, "0.0 s"), (8.21, "8.2 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (3790, "1 h 3 min")]
)
def test_durations(seconds, expected):
    assert format.duration(seconds) == expected


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x07", "link"),
        ("\x9b2Jgone", "gone"),
        ("a\u202eb\u2066c\u200bd", "abcd"),
        ("two\nlines\tand\rmore", "two lines and more"),
        ("\x00\x07\x7f", ""),
        ("é 日本 µ", "é 日本 µ"),
    ],
)
def test_names_are_made_harmless(hostile, harmless):
    assert format.clean(hostile) == harmless


def test_status_tells_why_a_cell_is_not_ranked():
    assert format.status(record()) == "ranked"
    assert format.status(record(outcome="UNSUPPORTED", outcome_reason="needs\x1b[2J cuda")) == "UNSUPPORTED: needs cuda"
    assert format.status(record(check={"verdict": "INCORRECT", "reason": "out: rmse"})) == "INCORRECT: out: rmse"
    assert format.status(record(quality="SUSPECT")) == "SUSPECT"
