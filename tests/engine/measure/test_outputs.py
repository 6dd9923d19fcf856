"""What an output is held to apart from its values, and that values survive the way to the checker."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from aieng_bench.measure import outputs
from aieng_bench.measure.outputs import Described


def described(value: Any, folder: Path, **inputs: Any) -> Described:
    return Described(**outputs.dump(value, ("out",), inputs, folder)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.float64])
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 5), (2, 3, 4)])
def test_values_survive(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    value = (torch.randn(shape) * 4).to(dtype)
    assert torch.equal(outputs.load(described(value, tmp_path)), value)
    assert not list(tmp_path.iterdir())


def test_a_transposed_output_keeps_its_values_and_says_its_strides(tmp_path: Path) -> None:
    value = torch.randn(4, 6).t()
    what = described(value, tmp_path)
    assert what.strides == (1, 6)
    assert torch.equal(outputs.load(what), value)
    assert outputs.broken_contract("out", what, value) == ""


class Pair(NamedTuple):
    first: int
    second: int


class Subclass(torch.Tensor):
    pass


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (torch.zeros(4, 4).half(), "dtype float16"),
        (torch.zeros(16), "shape"),
        ([0.0] * 16, "returned 16"),
        ("text", "str"),
        (None, "NoneType"),
        (torch.zeros(4, 4).as_subclass(Subclass), "Subclass"),
        (torch.zeros(4, 4).to_sparse(), "not a plain dense"),
        (torch.zeros(4, 4, device="meta"), "not a plain dense"),
        (torch.zeros(1, 4).expand(4, 4), "share memory"),
        (torch.zeros(7).as_strided((4, 4), (1, 1)), "share memory"),
    ],
)
def test_a_broken_contract_is_named(tmp_path: Path, value: Any, word: str) -> None:
    try:
        reason = outputs.broken_contract("out", described(value, tmp_path), torch.zeros(4, 4))
    except TypeError as error:
        reason = str(error)
    assert word in reason


def test_an_output_that_is_an_input_is_named(tmp_path: Path) -> None:
    x = torch.zeros(4, 4)
    assert "input x" in outputs.broken_contract("out", described(x.view(4, 4), tmp_path, x=x), torch.zeros(4, 4))


@pytest.mark.parametrize(
    ("shape", "strides", "expected"),
    [
        ((4, 4), (4, 1), False),
        ((4, 4), (1, 4), False),
        ((4, 3), (8, 2), False),
        ((4, 1), (1, 0), False),
        ((0, 4), (0, 0), False),
        ((4, 4), (3, 1), True),
        ((4, 4), (0, 1), True),
    ],
)
def test_overlap(shape: tuple[int, ...], strides: tuple[int, ...], expected: bool) -> None:
    assert outputs.overlaps(shape, strides) is expected


def test_outputs_by_name() -> None:
    assert outputs.named((1, 2), ("a", "b")) == {"a": 1, "b": 2}
    assert outputs.named(Pair(1, 2), ("a", "b")) == {"a": 1, "b": 2}
    assert outputs.named({"b": 2, "a": 1}, ("a", "b")) == {"a": 1, "b": 2}
    for wrong in ((1,), {"a": 1}, {"a": 1, "c": 2}, (1, 2, 3)):
        with pytest.raises(TypeError):
            outputs.named(wrong, ("a", "b"))


def test_a_file_that_was_edited_is_refused(tmp_path: Path) -> None:
    what = described(torch.zeros(4, 4), tmp_path)
    Path(what.file).write_bytes(bytes(63) + b"1")
    with pytest.raises(ValueError, match="not those that were in memory"):
        outputs.load(what)


def test_a_file_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    what = described(torch.zeros(4, 4), tmp_path)
    Path(what.file).write_bytes(b"123")
    with pytest.raises(ValueError, match="3 bytes"):
        outputs.load(what)
