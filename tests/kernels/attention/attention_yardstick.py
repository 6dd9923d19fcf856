"""What an attention implementation is judged by: float64, and the framework's own error in the same dtype.

The rule of Dao et al., FlashAttention (2022), sharpened: error <= 2 x the error of torch's fused attention in the same dtype, plus
a rounding floor, over the whole output and over its worst row. The floor of an element is the sum of

- half an ulp of the output's dtype of the result,
- an ulp of float32 of the sum of its terms' *absolute* values, one rounding for each of a term's two factors: where the exact
  result cancels to nothing (one key: dq = 0), the framework may hit zero by luck, and sums in another order may not,
- for dq and dk, what the rounding of the saved out does to delta = rowsum(dout out): an ulp of the root sum of squares, which is
  3.5 standard deviations. (A framework that keeps the S x T probabilities, as torch does for float16, does not have this error.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from aieng_kernels._family import Implementation
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
    causal: bool
    scale: float

    def __repr__(self) -> str:
        return f"q {self.q.shape} k {self.k.shape} {self.q.dtype} causal={self.causal} scale={self.scale:.3g}"

    @property
    def group(self) -> int:
        return self.q.shape[1] // self.k.shape[1]


def problem(B=1, Hq=2, Hkv=1, S=8, T=8, D=64, dtype=torch.float32, causal=False, scale=None, device="cpu", seed=0) -> Problem:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    return Problem(normal(B, Hq, S, D), normal(B, Hkv, T, D), normal(B, Hkv, T, D), normal(B, Hq, S, D), causal, scale or D**-0.5)


def exact(p: Problem) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """In float64: outputs, the rounding floors, and lse. Written apart from the package's own reference."""
    q, dout = p.q.double(), p.dout.double()
    k, v = (x.double().repeat_interleave(p.group, 1) for x in (p.k, p.v))
    scores = p.scale * torch.einsum("bhsd,bhtd->bhst", q, k)
    if p.causal:
        scores = scores + torch.full_like(scores, -torch.inf).triu(1)
    lse = torch.logsumexp(scores, -1)
    prob = torch.exp(scores - lse[..., None])
    out = prob @ v
    delta, abs_delta = (dout * out).sum(-1, keepdim=True), (dout.abs() * (prob @ v.abs())).sum(-1, keepdim=True)
    ds = p.scale * prob * (dout @ v.mT - delta)
    saved = torch.finfo(p.q.dtype).eps * (dout * out).square().sum(-1, keepdim=True).sqrt()
    ds_floor = abs(p.scale) * prob * (ULP * (dout.abs() @ v.abs().mT + abs_delta) + saved)

    def shared(x: Tensor) -> Tensor:
        return x.unflatten(1, (p.k.shape[1], p.group)).sum(2)

    values = {"out": out, "dq": ds @ k, "dk": shared(ds.mT @ q), "dv": shared(prob.mT @ dout)}
    floors = {
        "out": ULP * (prob @ v.abs()),
        "dq": ds_floor @ k.abs(),
        "dk": shared(ds_floor.mT @ q.abs()),
        "dv": shared(ULP * (prob.mT @ dout.abs())),
    }
    half_ulp = torch.finfo(p.q.dtype).eps / 2
    return values, {name: floor + half_ulp * values[name].abs() for name, floor in floors.items()}, lse


def framework(p: Problem) -> dict[str, Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in (p.q, p.k, p.v)]
    out = functional.scaled_dot_product_attention(*leaves, is_causal=p.causal, scale=p.scale, enable_gqa=True)
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
