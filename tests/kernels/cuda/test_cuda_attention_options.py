"""What the CUDA attention kernels that take every option are asked beside scale and causal, through the shim."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from aieng_kernels._philox import halves, philox4x32_10
from aieng_kernels.attention import cuda
from aieng_kernels.attention.options import Options
from cuda_attention_cases import Shape, hold, made
from option_cases import ADDED_MASKS, BOOL_MASKS, MASK_SHAPE, WINDOWS, mask_amid_others
from torch import Tensor

pytestmark = pytest.mark.usefixtures("on_cpu")

SEED = 0x1234_5678_9ABC_DEF0
SM80 = (cuda.CudaSm80, torch.float16)  # whose error is the smaller; bfloat16 goes the same way
SIMT = (cuda.CudaSimt, torch.float32)
each_kernel = pytest.mark.parametrize(("kernel", "dtype"), [SM80, SIMT], ids=["sm80-float16", "simt-float32"])
each_type = pytest.mark.parametrize(
    ("kernel", "dtype"),
    [(cuda.CudaSm80, torch.bfloat16), SM80, SIMT],
    ids=["sm80-bfloat16", "sm80-float16", "simt-float32"],
)
Kernel = type[cuda.CudaSm80]


def ask(kernel: Kernel, dtype: torch.dtype, b: int, s: int, t: int, d: int = 32, **asked: Any) -> tuple[Tensor, Tensor]:
    q, k, v, dout = made(Shape(b, 2, 1, s, t, d, False), dtype)
    return hold(kernel, q, k, v, dout, Options(**{"scale": d**-0.5} | asked))


@each_kernel
@pytest.mark.parametrize("bottom_right", [False, True], ids=["top-left", "bottom-right"])
@pytest.mark.parametrize(("s", "t", "left", "right"), WINDOWS, ids=str)
def test_windows(kernel: Kernel, dtype: torch.dtype, s: int, t: int, left: int, right: int, bottom_right: bool) -> None:
    ask(kernel, dtype, 1, s, t, left=left, right=right, bottom_right=bottom_right)


@each_kernel
@pytest.mark.parametrize("same", [True, False], ids=["of q's dtype", "float32"])
@pytest.mark.parametrize("kind", [*BOOL_MASKS, *ADDED_MASKS])
def test_masks(kernel: Kernel, dtype: torch.dtype, kind: str, same: bool) -> None:
    b, _, s, t = MASK_SHAPE
    ask(kernel, dtype, b, s, t, mask=mask_amid_others(kind, dtype if same else torch.float32))


@each_kernel
@pytest.mark.parametrize("added", [False, True], ids=["bool", "added"])
def test_rows_and_heads_that_a_mask_hides(kernel: Kernel, dtype: torch.dtype, added: bool) -> None:
    """Rows, a whole head and a whole first block of keys: zeros and -inf there, and no NaN elsewhere."""
    mask = torch.ones(1, 2, 40, 150, dtype=torch.bool)
    mask[:, 1], mask[:, 0, 7:9], mask[:, 0, :, :140] = False, False, False
    out, lse = ask(kernel, dtype, 1, 40, 150, mask=mask.log().to(dtype) if added else mask)
    assert torch.equal(lse == -math.inf, ~mask.any(-1))
    assert (out[lse == -math.inf] == 0).all()


@each_kernel
def test_the_lowest_number_hides_nothing(kernel: Kernel, dtype: torch.dtype) -> None:
    """A row to whose every score it is added sees all keys alike."""
    q, k, v, dout = made(Shape(1, 1, 1, 20, 70, 32, False), dtype)
    mask = torch.zeros(1, 1, 20, 70)
    mask[:, :, 4] = torch.finfo(torch.float32).min
    how = Options(scale=0.2, mask=mask)
    out, lse = kernel.forward(q, k, v, how)
    assert torch.allclose(out[:, :, 4].float(), v.float().mean(2), atol=5e-3)
    assert all(x.isfinite().all() for x in kernel.backward(dout, q, k, v, out, lse, how))


@each_kernel
@pytest.mark.parametrize(("s", "t", "right", "bottom_right"), [(70, 150, -1, False), (150, 70, 0, True)])
def test_slopes(kernel: Kernel, dtype: torch.dtype, s: int, t: int, right: int, bottom_right: bool) -> None:
    ask(kernel, dtype, 2, s, t, right=right, bottom_right=bottom_right, slopes=torch.tensor([[0.5, 0.0], [0.1, 0.02]]))


@each_kernel
@pytest.mark.parametrize(("softcap", "scale", "masked"), [(2.0, 0.5, False), (30.0, -0.3, False), (1.0, 3.0, True)])
def test_the_soft_cap(kernel: Kernel, dtype: torch.dtype, softcap: float, scale: float, masked: bool) -> None:
    """The slope of the cap in dq and dk; the mask is added after it. Scales of either sign."""
    mask = torch.randn(37, 70, generator=torch.Generator().manual_seed(0)).expand(1, 2, 37, 70) if masked else None
    ask(kernel, dtype, 1, 37, 70, softcap=softcap, scale=scale, right=-1 if masked else 0, mask=mask)


@each_kernel
@pytest.mark.parametrize(("dropout", "t", "d"), [(0.2, 70, 32), (0.7, 61, 128), (0.5, 3, 256)])
def test_dropout(kernel: Kernel, dtype: torch.dtype, dropout: float, t: int, d: int) -> None:
    ask(kernel, dtype, 2, 37, t, d, dropout=dropout, seed=torch.tensor([SEED]), right=0 if dropout < 0.5 else -1)


@each_kernel
@pytest.mark.parametrize("seed", [SEED, -1, -(2**63)])
def test_dropped_weights_are_those_of_the_words(kernel: Kernel, dtype: torch.dtype, seed: int) -> None:
    """With unit vectors for values, out is the weights: 0 at the very ones that the definition's words drop, and at no other."""
    b, h, s, t, dropout = 2, 2, 20, 61, 0.4
    q, k, _, dout = made(Shape(b, h, h, s, t, 64, False), dtype)
    v = torch.eye(t, 64, dtype=dtype).expand(b, h, t, 64)
    how = Options(scale=0.1, dropout=dropout, seed=torch.tensor([seed]))
    out, lse = kernel.forward(q, k, v, how)
    block = torch.arange(b * h * s)[:, None] * math.ceil(t / 4) + torch.arange(t) // 4
    words = torch.stack(philox4x32_10((block, block * 0, block * 0, block * 0), halves(seed)))
    dropped = (words.gather(0, (torch.arange(t) % 4).expand(1, b * h * s, t))[0] < how.dropped_words).view(b, h, s, t)
    assert torch.equal(out[..., :t] == 0, dropped)
    dout = torch.eye(s, 64, dtype=dtype).expand(b, h, s, 64)  # and so is dv, transposed
    dv = kernel.backward(dout, q, k, v, out, lse, how)[2]
    assert torch.equal(dv[..., :s] == 0, dropped.mT)


@each_kernel
@pytest.mark.parametrize("everything", [False, True], ids=["alone", "with the rest"])
@pytest.mark.parametrize(("right", "bottom_right"), [(-1, False), (0, False), (0, True)])
def test_sequences(kernel: Kernel, dtype: torch.dtype, right: int, bottom_right: bool, everything: bool) -> None:
    """None, one and many queries and keys, more of the one or of the other."""
    queries, keys = [3, 0, 70, 1, 5, 0], [5, 4, 33, 70, 0, 0]
    asked: dict[str, Any] = {"right": right, "bottom_right": bottom_right}
    if everything:
        asked |= {"left": 20, "softcap": 3.0, "dropout": 0.2, "seed": torch.tensor([SEED])}
        asked |= {"slopes": 0.01 * torch.arange(12.0).view(6, 2)}
    starts = [torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32) for lengths in (queries, keys)]
    lengths = {"q_starts": starts[0], "k_starts": starts[1], "longest_q": 70, "longest_k": 70}
    ask(kernel, dtype, 1, sum(queries), sum(keys), 40, **lengths, **asked)


@each_kernel
@pytest.mark.parametrize(("s", "left", "right", "bottom_right"), [(1, -1, 0, True), (33, -1, -1, False), (70, 30, 5, True)])
def test_room_for_more_keys(kernel: Kernel, dtype: torch.dtype, s: int, left: int, right: int, bottom_right: bool) -> None:
    """Each batch has its own number of keys, none among them; what lies beyond is NaN, which reaches nothing."""
    lengths = torch.tensor([1, 90, 64, 0], dtype=torch.int32)
    q, k, v, dout = made(Shape(4, 2, 1, s, 90, 32, False), dtype)
    beyond = (torch.arange(90) >= lengths[:, None])[:, None, :, None]
    k, v = k.masked_fill(beyond, math.nan), v.masked_fill(beyond, math.nan)
    hold(kernel, q, k, v, dout, Options(scale=0.2, k_lengths=lengths, left=left, right=right, bottom_right=bottom_right))


@each_type
@pytest.mark.parametrize("d", [8, 96, 128, 200, 256])
def test_everything_at_once(kernel: Kernel, dtype: torch.dtype, d: int) -> None:
    """Window, mask, soft cap, dropout and a number of keys for each batch, at every width that is compiled."""
    mask = torch.randn(2, 1, 70, 90, generator=torch.Generator().manual_seed(1)).to(dtype).expand(2, 2, 70, 90)
    asked = {"mask": mask, "seed": torch.tensor([SEED]), "k_lengths": torch.tensor([90, 71], dtype=torch.int32)}
    ask(kernel, dtype, 2, 70, 90, d, **asked, left=40, right=4, bottom_right=True, softcap=2.0, dropout=0.3)
