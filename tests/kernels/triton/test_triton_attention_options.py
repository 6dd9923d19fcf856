"""The Triton attention's windows, masks, soft cap, dropout and many lengths in the interpreter, forward and every gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from option_cases import ADDED_MASKS, BOOL_MASKS, WINDOWS

Interpreted = Callable[..., None]
CHECKS = "triton_option_checks"
# No bfloat16, which the interpreter computes wrongly; what is the same code for both others is asked in one, as it is slow.


@pytest.mark.parametrize("bottom_right", [False, True], ids=["top-left", "bottom-right"])
@pytest.mark.parametrize(("S", "T", "left", "right"), WINDOWS)
def test_windows(interpreted: Interpreted, S: int, T: int, left: int, right: int, bottom_right: bool) -> None:
    """Rows that see nothing at all are among them: bottom-right with more queries than keys."""
    interpreted(f"{CHECKS}:check_window", S, T, left, right, bottom_right, "float32" if S > T else "float16")


@pytest.mark.parametrize("kind", BOOL_MASKS)
def test_bool_masks(interpreted: Interpreted, kind: str) -> None:
    interpreted(f"{CHECKS}:check_mask", kind, "float16")


@pytest.mark.parametrize(("dtype", "same"), [("float32", True), ("float16", True), ("float16", False)])
@pytest.mark.parametrize("kind", ADDED_MASKS)
def test_added_masks(interpreted: Interpreted, kind: str, dtype: str, same: bool) -> None:
    interpreted(f"{CHECKS}:check_mask", kind, dtype, same)


@pytest.mark.parametrize(("added", "dtype"), [(False, "float32"), (True, "float16")], ids=["bool", "added"])
def test_rows_and_heads_that_a_mask_hides(interpreted: Interpreted, added: bool, dtype: str) -> None:
    interpreted(f"{CHECKS}:check_hidden", added, dtype)


def test_lowest_number_everywhere(interpreted: Interpreted) -> None:
    interpreted(f"{CHECKS}:check_lowest_everywhere")


@pytest.mark.parametrize(
    ("S", "T", "right", "bottom_right", "dtype"),
    [(70, 150, 0, True, "float16"), (150, 70, -1, False, "float32"), (150, 70, 0, False, "float16")],
)
def test_slopes(interpreted: Interpreted, S: int, T: int, right: int, bottom_right: bool, dtype: str) -> None:
    interpreted(f"{CHECKS}:check_slopes", S, T, right, bottom_right, dtype)


@pytest.mark.parametrize(("masked", "dtype"), [(False, "float32"), (True, "float16")], ids=["causal", "masked"])
@pytest.mark.parametrize(("softcap", "scale"), [(0.7, 0.125), (5.0, 2.0), (50.0, -0.125), (2.0, 0.0)])
def test_softcap(interpreted: Interpreted, softcap: float, scale: float, masked: bool, dtype: str) -> None:
    interpreted(f"{CHECKS}:check_softcap", softcap, scale, dtype, masked)


def test_tanh(interpreted: Interpreted) -> None:
    interpreted(f"{CHECKS}:check_tanh")


@pytest.mark.parametrize(
    ("dropout", "T", "dtype"), [(0.1, 64, "float32"), (0.5, 99, "float16"), (0.97, 37, "float32"), (1e-11, 37, "float16")]
)
def test_dropout(interpreted: Interpreted, dropout: float, T: int, dtype: str) -> None:
    interpreted(f"{CHECKS}:check_dropout", dropout, T, dtype)


def test_dropout_drops_the_definitions_weights(interpreted: Interpreted) -> None:
    interpreted(f"{CHECKS}:check_dropped")


def test_counters_and_thresholds(interpreted: Interpreted) -> None:
    interpreted(f"{CHECKS}:check_counters")


@pytest.mark.parametrize(
    ("right", "bottom_right", "dtype"), [(-1, False, "float16"), (0, True, "float32"), (0, False, "float16"), (5, True, "float32")]
)
def test_sequences_of_several_lengths(interpreted: Interpreted, right: int, bottom_right: bool, dtype: str) -> None:
    interpreted(f"{CHECKS}:check_sequences", right, bottom_right, dtype, right == 5)


@pytest.mark.parametrize("bottom_right", [False, True], ids=["top-left", "bottom-right"])
@pytest.mark.parametrize(("left", "right"), [(-1, -1), (-1, 0), (40, 3)], ids=str)
@pytest.mark.parametrize("S", [1, 70])
def test_room_for_more_keys(interpreted: Interpreted, S: int, left: int, right: int, bottom_right: bool) -> None:
    interpreted(f"{CHECKS}:check_room", S, left, right, bottom_right, "float32" if S == 1 else "float16")


@pytest.mark.parametrize(("D", "dtype"), [(40, "float32"), (136, "float16")])
def test_everything_at_once(interpreted: Interpreted, D: int, dtype: str) -> None:
    interpreted(f"{CHECKS}:check_everything", dtype, D)


def test_configurations_are_chosen_by_the_options(interpreted: Interpreted) -> None:
    interpreted(f"{CHECKS}:check_keys")
