"""Every implementation that takes an option, forward and every gradient: windows, masks, the soft cap, dropout, many lengths."""

from __future__ import annotations

import pytest
import torch
from aieng_kernels.attention import attention, ops
from aieng_kernels.attention.options import Options
from attention_yardstick import NAMES, ULP, bias, complaints, exact, problem

SEED = 0x1234_5678_9ABC_DEF0


def run(p, backend):
    leaves = [x.detach().requires_grad_() for x in (p.q, p.k, p.v)]
    out, lse = ops.forward(*leaves, p.o, backend)
    return dict(zip(NAMES, (out.detach(), *torch.autograd.grad(out, leaves, p.dout)), strict=True)), lse.detach()


def conforms(implementation, dtype, **asked) -> None:
    p = problem(dtype=dtype, device=implementation.device, **asked)
    if reason := implementation.load().supports(p.q, p.k, p.v, p.o):
        pytest.skip(f"{implementation.name}: {reason}")
    results, lse = run(p, implementation.name)
    assert not complaints(p, results)
    _, _, due = exact(p)
    assert torch.equal(lse == -torch.inf, due == -torch.inf)
    seen = due != -torch.inf
    score = abs(p.o.scale) * (p.q.double().abs() @ p.k.double().abs().mT.repeat_interleave(p.group, 1))
    score = score + bias(p).nan_to_num(neginf=0).abs()
    # The polynomial of the power of two, and a rounding of a score and of the result.
    bound = 2.6e-6 + 2 * ULP * (score.max() + due[seen].abs().max()) if seen.any() else 0.0
    assert ((lse - due)[seen].abs() <= bound).all()
    assert (results["out"][~seen] == 0).all()
    assert (results["dq"][~seen] == 0).all()


def starts(lengths):
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


@pytest.mark.parametrize("bottom_right", [False, True], ids=["top-left", "bottom-right"])
@pytest.mark.parametrize(("left", "right"), [(-1, 0), (5, 0), (0, 0), (17, 30), (200, -1), (-1, 3), (3, 150)], ids=str)
@pytest.mark.parametrize(("S", "T"), [(70, 203), (203, 70), (130, 130), (1, 40)], ids=str)
def test_windows(implementation, dtype, S, T, left, right, bottom_right):
    """Rows that see nothing at all are among them: bottom-right with more queries than keys."""
    conforms(implementation, dtype, S=S, T=T, left=left, right=right, bottom_right=bottom_right)


def test_window_far_to_the_left(implementation, dtype):
    """Key blocks that no query of a block sees lie before and after those that are seen."""
    conforms(implementation, dtype, S=600, T=700, left=20, right=9, D=32)


MASKS = {
    "bool": lambda g: torch.rand(2, 4, 70, 131, generator=g) < 0.6,
    "bool of keys": lambda g: torch.rand(2, 1, 1, 131, generator=g) < 0.6,
    "bool of queries": lambda g: torch.rand(1, 4, 70, 1, generator=g) < 0.6,
    "added": lambda g: 2 * torch.randn(2, 4, 70, 131, generator=g),
    "added to all alike": lambda g: 2 * torch.randn(70, 131, generator=g),
    "added and -inf": lambda g: torch.where(torch.rand(4, 70, 131, generator=g) < 0.3, -torch.inf, torch.randn(131, generator=g)),
    "strided": lambda g: torch.randn(70, 262, generator=g)[:, ::2],
    "transposed": lambda g: torch.randn(131, 70, generator=g).T,
    "lowest": lambda g: torch.where(torch.rand(70, 131, generator=g) < 0.3, torch.finfo(torch.float16).min, 0.0),
}


@pytest.mark.parametrize("same", [True, False], ids=["of q's dtype", "float32"])
@pytest.mark.parametrize("name", MASKS)
def test_masks(implementation, dtype, name, same):
    mask = MASKS[name](torch.Generator().manual_seed(3))
    mask = mask if mask.dtype is torch.bool or not same else mask.to(dtype)
    mask = mask.to(implementation.device).expand(2, 4, 70, 131)
    mask = mask if mask.stride(-1) in (0, 1) else mask.contiguous()
    conforms(implementation, dtype, B=2, Hq=4, Hkv=2, S=70, T=131, mask=mask)


def test_rows_and_heads_that_a_mask_hides(implementation, dtype):
    """Rows, a whole head and a whole first block of keys that are hidden: zeros and -inf, and no NaN elsewhere."""
    for minus in (False, True):
        mask = torch.ones(1, 2, 50, 300, dtype=torch.bool, device=implementation.device)
        mask[:, 1], mask[:, 0, 7:9], mask[:, 0, :, :150] = False, False, False
        conforms(implementation, dtype, S=50, T=300, mask=mask.log().to(dtype) if minus else mask)


def test_mask_with_a_window(implementation, dtype):
    mask = (torch.rand(90, 150, generator=torch.Generator().manual_seed(0)) < 0.7).to(implementation.device)
    conforms(implementation, dtype, S=90, T=150, mask=mask.expand(1, 2, 90, 150), left=60, right=0, bottom_right=True)


def slopes(sequences, heads):
    """Those of Press et al., ALiBi (2022), section 3, less and less from sequence to sequence; the last head has none."""
    each = torch.tensor([2.0 ** (-8 * (h + 1) / heads) for h in range(heads)])
    each[-1] = 0
    return each / (1 + torch.arange(sequences)[:, None])


@pytest.mark.parametrize("right", [-1, 0], ids=["full", "causal"])
@pytest.mark.parametrize(("S", "T"), [(70, 203), (203, 70), (1, 40)], ids=str)
def test_slopes(implementation, dtype, S, T, right):
    """Queries stand bottom-right, whichever keys they see."""
    given = slopes(2, 4).to(implementation.device)
    conforms(implementation, dtype, B=2, Hq=4, Hkv=2, S=S, T=T, right=right, bottom_right=S < T, slopes=given)


def test_slopes_with_lengths_window_softcap_and_dropout(implementation, dtype):
    conforms(
        *(implementation, dtype),
        **{"B": 2, "Hq": 2, "Hkv": 1, "S": 30, "T": 90, "left": 40, "right": 3, "bottom_right": True, "softcap": 3.0},
        **{"dropout": 0.2, "seed": torch.tensor([SEED], device=implementation.device)},
        k_lengths=torch.tensor([90, 41], dtype=torch.int32, device=implementation.device),
        slopes=slopes(2, 2).to(implementation.device),
    )


@pytest.mark.parametrize("softcap", [0.7, 5.0, 50.0])
@pytest.mark.parametrize("scale", [0.125, 2.0])
def test_softcap(implementation, dtype, softcap, scale):
    conforms(implementation, dtype, S=70, T=203, softcap=softcap, scale=scale, causal=True)


def test_softcap_and_mask(implementation, dtype):
    """The mask is added after the cap."""
    mask = torch.randn(70, 131, generator=torch.Generator().manual_seed(0)).to(implementation.device)
    conforms(implementation, dtype, S=70, T=131, softcap=2.0, mask=mask.expand(1, 2, 70, 131))


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("T", [64, 131])
def test_dropout(implementation, dtype, T, dropout):
    """The very weights that the definition drops."""
    seed = torch.tensor([SEED], device=implementation.device)
    conforms(implementation, dtype, B=2, Hq=2, S=37, T=T, dropout=dropout, seed=seed, causal=dropout < 0.5)


@pytest.mark.parametrize("bottom_right", [False, True], ids=["top-left", "bottom-right"])
@pytest.mark.parametrize("right", [-1, 0], ids=["full", "causal"])
def test_sequences_of_several_lengths(implementation, dtype, right, bottom_right):
    """None, one and many queries and keys, more of the one than of the other."""
    queries, keys = [3, 0, 70, 1, 130, 5, 0], [5, 4, 33, 203, 130, 0, 0]
    conforms(
        *(implementation, dtype),
        **{"Hq": 4, "Hkv": 2, "S": sum(queries), "T": sum(keys), "D": 40, "right": right, "bottom_right": bottom_right},
        q_starts=starts(queries).to(implementation.device),
        k_starts=starts(keys).to(implementation.device),
        longest_q=max(queries),
        longest_k=max(keys),
    )


def test_sequences_with_everything(implementation, dtype):
    queries, keys = [20, 66, 1], [41, 30, 77]
    conforms(
        *(implementation, dtype),
        **{"Hq": 2, "Hkv": 1, "S": sum(queries), "T": sum(keys), "left": 20, "right": 5, "bottom_right": True, "softcap": 3.0},
        q_starts=starts(queries).to(implementation.device),
        k_starts=starts(keys).to(implementation.device),
        longest_q=max(queries),
        longest_k=max(keys),
        dropout=0.2,
        seed=torch.tensor([SEED], device=implementation.device),
        slopes=slopes(3, 2).to(implementation.device),
    )


@pytest.mark.parametrize("S", [1, 3, 64])
@pytest.mark.parametrize(("left", "right"), [(-1, -1), (-1, 0), (40, 0)], ids=str)
def test_room_for_more_keys(implementation, dtype, S, left, right):
    """A cache: of T keys, each batch has its own number; what lies beyond is never seen, NaN or not."""
    lengths = torch.tensor([1, 64, 300, 0], dtype=torch.int32, device=implementation.device)
    window = {"left": left, "right": right, "bottom_right": True}
    p = problem(B=4, Hq=4, Hkv=2, S=S, T=300, dtype=dtype, device=implementation.device, k_lengths=lengths, **window)
    if reason := implementation.load().supports(p.q, p.k, p.v, p.o):
        pytest.skip(f"{implementation.name}: {reason}")
    results, _ = run(p, implementation.name)
    assert not complaints(p, results)
    for b, length in enumerate(lengths.tolist()):
        p.k[b, :, length:], p.v[b, :, length:] = torch.nan, torch.nan
    again, _ = run(p, implementation.name)
    for name in NAMES:
        assert torch.equal(again[name], results[name]), name


def test_the_seed_is_torchs(implementation, dtype):
    """torch.manual_seed fixes what is dropped; without it every call drops anew."""
    p = problem(S=40, T=50, dtype=dtype, device=implementation.device)
    seed = torch.zeros(1, dtype=torch.int64, device=implementation.device)
    if reason := implementation.load().supports(p.q, p.k, p.v, Options(dropout=0.3, seed=seed)):
        pytest.skip(f"{implementation.name}: {reason}")
    outs = []
    for again in (1, 1, 2):
        torch.manual_seed(again)
        outs += [attention(p.q, p.k, p.v, dropout_p=0.3, backend=implementation.name) for _ in range(2)]
    assert torch.equal(outs[0], outs[2])
    assert torch.equal(outs[1], outs[3])
    assert not any(torch.equal(outs[0], other) for other in (outs[1], outs[4], outs[5]))
