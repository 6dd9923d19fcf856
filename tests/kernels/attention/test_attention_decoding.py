"""Few queries over many keys, about every number of them at which another way to share keys begins."""

from __future__ import annotations

import pytest
import torch
from aieng_kernels.attention import ops
from attention_yardstick import complaints, exact, problem

# Queries, query heads to a key head: rows that share a head's keys by fours, twos and ones, and those that meet them in products.
ROWS = [(1, 1), (1, 2), (1, 3), (1, 4), (1, 7), (1, 8), (1, 9), (2, 1), (2, 4), (5, 1), (4, 8)]


def decodes(implementation, dtype, **asked) -> None:
    p = problem(dtype=dtype, device=implementation.device, bottom_right=True, right=0, **asked)
    if reason := implementation.load().supports(p.q, p.k, p.v, p.o):
        pytest.skip(f"{implementation.name}: {reason}")
    out, lse = ops.forward(p.q, p.k, p.v, p.o, implementation.name)
    assert not complaints(p, {"out": out})
    torch.testing.assert_close(lse.double(), exact(p)[2], rtol=1e-6, atol=5e-6)


@pytest.mark.parametrize("D", [8, 40, 64, 96, 128, 256])
@pytest.mark.parametrize(("S", "group"), ROWS, ids=str)
def test_rows_that_share_keys(implementation, dtype, S, group, D):
    """Of several queries every one sees other keys; the last block is not whole."""
    decodes(implementation, dtype, Hq=2 * group, Hkv=2, S=S, T=601, D=D)


@pytest.mark.parametrize("left", [0, 66, 67, 300])
@pytest.mark.parametrize(("S", "group"), [(1, 1), (1, 6), (3, 2)], ids=str)
def test_windows_that_begin_anywhere(implementation, dtype, S, group, left):
    """At even and odd keys, as values are met in pairs."""
    decodes(implementation, dtype, Hq=group, Hkv=1, S=S, T=640, D=72, left=left)


@pytest.mark.parametrize("group", [1, 4, 5])
def test_lengths_of_batches(implementation, dtype, group):
    """What lies beyond a batch's keys is NaN, which reaches nothing."""
    lengths = torch.tensor([1, 512, 0, 333], dtype=torch.int32, device=implementation.device)
    decodes(implementation, dtype, B=4, Hq=group, Hkv=1, S=1, T=520, D=64, k_lengths=lengths)
    p = problem(B=4, Hq=group, Hkv=1, S=1, T=520, dtype=dtype, device=implementation.device, k_lengths=lengths)
    out, _ = ops.forward(p.q, p.k, p.v, p.o, implementation.name)
    for b, length in enumerate(lengths.tolist()):
        p.k[b, :, length:], p.v[b, :, length:] = torch.nan, torch.nan
    assert torch.equal(ops.forward(p.q, p.k, p.v, p.o, implementation.name)[0], out)
