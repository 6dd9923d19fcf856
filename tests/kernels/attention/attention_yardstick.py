"""What an attention implementation is judged by: float64, and the framework's own error in the same dtype.

The rule of Dao et al., FlashAttention (2022), sharpened: error <= 2 x the error of torch's fused attention in the same dtype, plus
a rounding floor, over the whole output and over its worst row. The floor of an element is the sum of

- half an ulp of the output's dtype of the result,
- an ulp of float32 of the sum of its terms' *absolute* values, one rounding for each of a term's two factors: where the exact
  result cancels to nothing (one key: dq = 0), the framework may hit zero by luck, and sums in another order may not,
- for dq and dk, what the rounding of the saved out does to delta = rowsum(dout out): an ulp of the root sum of squares, which is
  3.5 standard deviations. (A framework that keeps the S x T probabilities, as torch does for float16, does not have this error.)
- for all gradients, what the rounding of the saved lse, float32 by contract, does to each weight: half an ulp of lse, relative to
  the weight. (Nor does such a framework have this one, which is the largest for a single query of many keys.)
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, wraps
from typing import TypeVar

import torch
from aieng_kernels._family import Implementation
from aieng_kernels.attention.options import Options
from torch import Tensor
from torch.nn import functional

NAMES = ("out", "dq", "dk", "dv")
ULP = torch.finfo(torch.float32).eps


@dataclass(frozen=True, repr=False)
class Problem:
    q: Tensor
    k: Tensor
    v: Tensor
    dout: Tensor
    o: Options

    def __repr__(self) -> str:
        asked = {n: x for n, x in self.o._asdict().items() if x != Options._field_defaults[n]}
        return f"q {self.q.shape} k {self.k.shape} {self.q.dtype} {asked}"

    @property
    def group(self) -> int:
        return self.q.shape[1] // self.k.shape[1]


def problem(
    B=1, Hq=2, Hkv=1, S=8, T=8, D=64, dtype=torch.float32, causal=False, scale=None, device="cpu", draw=0, **options
) -> Problem:
    generator = torch.Generator().manual_seed(draw)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    o = Options(scale=scale or D**-0.5, **({"right": 0} if causal else {}) | options)
    return Problem(normal(B, Hq, S, D), normal(B, Hkv, T, D), normal(B, Hkv, T, D), normal(B, Hq, S, D), o)


def content(p: Problem) -> str:
    """A hash of everything that a problem says, whatever its layout."""
    whole = hashlib.sha256()
    for x in (p.q, p.k, p.v, p.dout, *p.o):
        if isinstance(x, Tensor):
            whole.update(f"{x.shape} {x.dtype} {x.device}".encode())
            whole.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            whole.update(repr(x).encode())
    return whole.hexdigest()


Made = TypeVar("Made")


def remembered(function: Callable[[Problem], Made]) -> Callable[[Problem], Made]:
    """What the function says of the problem it was asked about last: this, in Python's loops, is most of a test's time."""
    last: dict[str, Made] = {}

    @wraps(function)
    def known(p: Problem) -> Made:
        if (key := content(p)) not in last:
            last.clear()
            last[key] = function(p)
        return last[key]

    return known


def sequences(p: Problem) -> Iterator[tuple[int, int, range, range]]:
    """The batch, number, queries and keys of each."""
    o = p.o
    if o.q_starts is not None:
        ends = zip(*(itertools.pairwise(starts.tolist()) for starts in (o.q_starts, o.k_starts)), strict=True)
        yield from ((0, n, range(*rows), range(*keys)) for n, (rows, keys) in enumerate(ends))
    else:
        lengths = [p.k.shape[2]] * len(p.q) if o.k_lengths is None else o.k_lengths.tolist()
        yield from ((b, b, range(p.q.shape[2]), range(length)) for b, length in enumerate(lengths))


@remembered
def hidden(p: Problem) -> Tensor:
    """The keys that each query does not see, (B, Hq, S, T) bool: the definition, query by query and key by key."""
    (B, H, S, _), T, o = p.q.shape, p.k.shape[2], p.o
    unseen = torch.ones(B, 1, S, T, dtype=torch.bool)
    for b, _, rows, keys in sequences(p):
        for i in rows:
            stands = i - rows.start + (len(keys) - len(rows) if o.bottom_right else 0)
            low = keys.start if o.left < 0 else keys.start + max(stands - o.left, 0)
            high = keys.stop if o.right < 0 else min(keys.start + stands + o.right + 1, keys.stop)
            unseen[b, 0, i, low : max(low, high)] = False
    unseen = unseen.expand(B, H, S, T).to(p.q.device)
    return unseen | ~o.mask if o.mask is not None and o.mask.dtype is torch.bool else unseen


@remembered
def kept(p: Problem) -> Tensor:
    """What dropout makes of a weight of one, (B, Hq, S, T): torch's words of Philox, one weight at a time."""
    (B, H, S, _), T, o = p.q.shape, p.k.shape[2], p.o
    if not o.dropout:
        return torch.ones(B, H, S, T, device=p.q.device)
    q_starts, k_starts = ([0, S], [0, T]) if o.q_starts is None else (o.q_starts.tolist(), o.k_starts.tolist())
    factor = torch.ones(B, H, S, T)
    for (b, n), h in itertools.product([(b, n) for b in range(B) for n in range(len(q_starts) - 1)], range(H)):
        rows, keys = range(q_starts[n], q_starts[n + 1]), range(k_starts[n], k_starts[n + 1])
        for i, j in itertools.product(rows, keys):
            row = ((b + n) * H + h) * (o.longest_q or S) + i - rows.start
            block = row * math.ceil((o.longest_k or T) / 4) + (j - keys.start) // 4
            word = philox(block, int(o.seed))[(j - keys.start) % 4]
            factor[b, h, i, j] = 0.0 if word < round(o.dropout * 2**32) else 1 / (1 - o.dropout)
    return factor.to(p.q.device)


@cache
def philox(counter: int, key: int) -> tuple[int, ...]:
    """Four words: Salmon et al., SC 2011, section 3.3, in Python's own integers."""
    low = 2**32 - 1
    c, k = [counter & low, counter >> 32, 0, 0], [key & low, key >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & low, a >> 32 ^ c[3] ^ k[1], a & low]
        k = [k[0] + 0x9E3779B9 & low, k[1] + 0xBB67AE85 & low]
    return tuple(c)


def bias(p: Problem) -> Tensor:
    """What is added to the scores in float64: the mask, and -inf where a key is hidden."""
    added = torch.zeros(*p.q.shape[:3], p.k.shape[2], dtype=torch.float64, device=p.q.device)
    if p.o.mask is not None and p.o.mask.dtype is not torch.bool:
        added = added + p.o.mask.double()
    if p.o.slopes is not None:
        for b, n, rows, keys in sequences(p):
            for i in rows:
                stands = keys.start + len(keys) - (rows.stop - i)
                steps = torch.tensor([abs(stands - j) for j in keys], dtype=torch.float64, device=added.device)
                added[b, :, i, keys.start : keys.stop] -= p.o.slopes[n].double()[:, None] * steps
    return added.masked_fill(hidden(p), -torch.inf)


@remembered
def exact(p: Problem) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """In float64: outputs, the rounding floors, and lse. Written apart from the package's own reference."""
    q, dout, o, factor = p.q.double(), p.dout.double(), p.o, kept(p).double()
    k, v = (x.double().repeat_interleave(p.group, 1) for x in (p.k, p.v))
    scores, slope = o.scale * torch.einsum("bhsd,bhtd->bhst", q, k), torch.ones(())
    if o.softcap:
        scores, slope = o.softcap * torch.tanh(scores / o.softcap), 1 / torch.cosh(scores / o.softcap) ** 2
    scores = scores + bias(p)
    lse = torch.logsumexp(scores, -1)
    prob = torch.exp(scores - lse.nan_to_num(neginf=0.0)[..., None])
    out = prob * factor @ v
    delta, abs_delta = (dout * out).sum(-1, keepdim=True), (dout.abs() * (prob * factor @ v.abs())).sum(-1, keepdim=True)
    ds = o.scale * slope * prob * (factor * (dout @ v.mT) - delta)
    saved = torch.finfo(p.q.dtype).eps * (dout * out).square().sum(-1, keepdim=True).sqrt()
    term = ULP * (1 + lse.nan_to_num(neginf=0.0).abs()[..., None] / 2)
    ds_floor = abs(o.scale) * slope * prob * (term * (factor * (dout.abs() @ v.abs().mT) + abs_delta) + saved)

    def shared(x: Tensor) -> Tensor:
        return x.unflatten(1, (p.k.shape[1], p.group)).sum(2)

    values = {"out": out, "dq": ds @ k, "dk": shared(ds.mT @ q), "dv": shared((prob * factor).mT @ dout)}
    floors = {
        "out": ULP * (prob * factor @ v.abs()),
        "dq": ds_floor @ k.abs(),
        "dk": shared(ds_floor.mT @ q.abs()),
        "dv": shared((prob * factor * term).mT @ dout.abs()),
    }
    half_ulp = torch.finfo(p.q.dtype).eps / 2
    return values, {name: floor + half_ulp * values[name].abs() for name, floor in floors.items()}, lse


@remembered
def framework(p: Problem) -> dict[str, Tensor]:
    """torch's fused attention, or, where it has no such option, attention in torch's operations, each rounded to the dtype."""
    leaves = [x.detach().clone().requires_grad_() for x in (p.q, p.k, p.v)]
    if p.o.beyond_causal is None:
        out = functional.scaled_dot_product_attention(*leaves, is_causal=p.o.causal, scale=p.o.scale, enable_gqa=True)
    else:
        q, k, v = leaves[0], *(x.repeat_interleave(p.group, 1) for x in leaves[1:])
        scores = p.o.scale * (q @ k.mT)
        if p.o.softcap:
            scores = p.o.softcap * torch.tanh(scores / p.o.softcap)
        added = bias(p).to(p.q.dtype)
        weights = (scores + added).softmax(-1).masked_fill(added == -torch.inf, 0.0)
        out = (weights * kept(p).to(weights.dtype)) @ v
    return dict(zip(NAMES, (out.detach(), *torch.autograd.grad(out, leaves, p.dout)), strict=True))


def complaints(p: Problem, ours: dict[str, Tensor]) -> list[str]:
    """What is wrong with ``ours`` (out, dq, dk, dv), one line each; empty if nothing is."""
    values, floors, _ = exact(p)
    theirs, found = framework(p), []
    for name, x in ours.items():
        due = theirs[name]
        rows = p.q if p.q.stride(-1) == 1 else p.q.contiguous()
        strides = (torch.empty_like(rows) if name == "out" else torch.empty(due.shape)).stride()
        if (x.shape, x.dtype, x.stride()) != (due.shape, due.dtype, strides):
            found.append(f"{name}: {x.dtype} {tuple(x.shape)} {x.stride()}, not {due.dtype} {tuple(due.shape)} {strides}")
        elif not torch.isfinite(x).all():
            found.append(f"{name}: not finite")
        else:
            found += [f"{name}: {what}" for what in _too_far(x - values[name], due - values[name], values[name], floors[name])]
    return found


def _too_far(error: Tensor, allowed: Tensor, value: Tensor, floor: Tensor) -> list[str]:
    if not error.numel():
        return []
    found = []
    if error.norm() > 2 * allowed.norm() + floor.norm():
        found.append(f"error {error.norm():.3g} over 2 x {allowed.norm():.3g} + {floor.norm():.3g}")
    rows, typical = value.norm(dim=-1), value.square().sum(-1).mean().sqrt()
    size = torch.hypot(rows, typical) if typical else torch.ones_like(rows)
    worst = ((error.norm(dim=-1) - floor.norm(dim=-1)) / size).max()
    bound = 2 * (allowed.norm(dim=-1) / size).max()
    if worst > bound:
        found.append(f"worst row {worst:.3g} over {bound:.3g}")
    return found


def absent(implementation: Implementation) -> str | None:
    """Why an implementation cannot be tested here, or None."""
    no_device = implementation.device == "cuda" and not torch.cuda.is_available()
    return implementation.unsupported() or ("no CUDA device" if no_device else None)
