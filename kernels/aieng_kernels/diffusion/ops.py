"""The operator ``aieng::diffusion_step``, functional and ``out``: dispatch and fake tensors. It is not differentiable.

The public functions check the arguments; here they are taken as checked, except for what can only be judged when it runs: whether
``backend`` takes them, and whether results overlap an input. ``scalars`` are what follows the tensors in the schema.
``coefficients`` are the eight numbers of :class:`Coefficients`, with an infinite clip for none; ``threshold`` is a quantile and
the largest bound.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from aieng_kernels._dispatch import is_plain
from aieng_kernels._family import choose
from aieng_kernels._memory import empty_like
from aieng_kernels.diffusion.coefficients import Coefficients

DTYPES = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32", torch.float64: "float64"}

_TENSORS = "Tensor sample, Tensor cond, Tensor? uncond, Tensor? noise"
_INPUTS = f"{_TENSORS}, float[] coefficients, float guidance, int seed, int offset, str? backend"

_library: Any = torch.library.Library("aieng", "FRAGMENT")  # type: ignore[no-untyped-call]
_MORE = "Tensor? history=None, float rescale=0.0, float[]? threshold=None"
_library.define(f"diffusion_step({_INPUTS}, bool original, {_MORE}) -> Tensor[]")
_library.define(f"diffusion_step.out({_INPUTS}, {_MORE}, *, Tensor(a!) out, Tensor(b!)? x0) -> ()")


def step(*arguments: Any) -> list[Tensor]:
    """New results, one or two: the operator's arguments in its order, all of them."""
    history = arguments[-3]
    operator = _functional if is_plain((*arguments[:4], history)) else torch.ops.aieng.diffusion_step.default
    results: list[Tensor] = operator(*arguments)
    return results


def plainly(
    sample: Tensor,
    cond: Tensor,
    uncond: Tensor | None,
    noise: Tensor | None,
    history: Tensor | None,
    coefficients: Coefficients,
    guidance: float,
    backend: str | None,
) -> tuple[Tensor, Tensor] | None:
    """Both results of a step on the CPU that asks for neither whole samples nor noise of its own, by the shortest way there is.

    None where there is no such way; the general one then finds out what is wrong, if anything is.
    """
    if not (type(guidance) is float and is_plain((sample, cond, uncond, noise, history)) and sample.is_cpu):
        return None
    way = _short_way(sample.dtype, backend)
    results: tuple[Tensor, Tensor] | None = way and way(sample, cond, uncond, noise, history, coefficients, guidance)
    return results


@cache
def _short_way(dtype: torch.dtype, backend: str | None) -> Any:
    """That of the implementation that a call on the CPU would take, if it has one."""
    chosen = choose("diffusion", "cpu", DTYPES[dtype], backend) if dtype in DTYPES else ()
    return getattr(chosen[0].load(), "plainly", None) if chosen else None


def pack(coefficients: Coefficients) -> list[float]:
    """Coefficients as the operator takes them."""
    clip = coefficients.clip
    return [*coefficients[:6], math.inf if clip is None else clip, coefficients.h]


def select(sample: Tensor, backend: str | None, whole_samples: bool = False) -> Any:
    """The class of the best implementation that takes this tensor, and passes over whole samples if asked.

    ValueError, naming ``backend``, if the forced one does not.
    """
    reason = None
    for implementation in choose("diffusion", sample.device.type, DTYPES[sample.dtype], backend):
        loaded = implementation.load()
        reason = loaded.supports(sample)
        if reason is None and whole_samples and not getattr(loaded, "whole_samples", False):
            reason = "rescale and threshold need a pass over whole samples, which it does not have"
        if reason is None:
            return loaded
    if backend is not None:
        raise ValueError(f"backend={backend!r} does not take this sample: {reason}")
    raise ValueError(f"sample is on {sample.device}: diffusion steps run on cpu and cuda")


def _step(
    sample: Tensor,
    cond: Tensor,
    uncond: Tensor | None,
    noise: Tensor | None,
    scalars: tuple[Any, ...],
    out: Tensor,
    x0: Tensor | None,
    history: Tensor | None,
    rescale: float,
    threshold: list[float] | None,
) -> None:
    coefficients, guidance, seed, offset, backend = scalars
    clip, h = coefficients[6:]
    more: dict[str, Any] = {} if history is None else {"history": history.contiguous()}
    whole_samples = threshold is not None or (rescale != 0 and uncond is not None)
    if whole_samples:
        more |= {"rescale": rescale, "threshold": None if threshold is None else tuple(threshold)}
    select(sample, backend, whole_samples).step(
        sample.contiguous(),
        cond.contiguous(),
        None if uncond is None else uncond.contiguous(),
        None if noise is None else noise.contiguous(),
        out,
        x0,
        coefficients=Coefficients._make([*coefficients[:6], None if math.isinf(clip) else clip, h]),
        guidance=guidance,
        seed=seed,
        offset=offset,
        **more,
    )


def _out(
    sample: Tensor,
    cond: Tensor,
    uncond: Tensor | None,
    noise: Tensor | None,
    coefficients: list[float],
    guidance: float,
    seed: int,
    offset: int,
    backend: str | None,
    history: Tensor | None = None,
    rescale: float = 0.0,
    threshold: list[float] | None = None,
    *,
    out: Tensor,
    x0: Tensor | None,
) -> None:
    inputs = [x for x in (sample, cond, uncond, noise, history) if x is not None]
    for n, result in enumerate((out, x0)):
        if result is not None and (any(_partly_overlap(result, x) for x in inputs) or (n and _overlap(result, out))):
            raise ValueError(f"out[{n}] overlaps an input or the other result: it must be apart from it, or be a contiguous input")
    scalars = (coefficients, guidance, seed, offset, backend)
    _step(sample, cond, uncond, noise, scalars, out, x0, history, rescale, threshold)


def _partly_overlap(x: Tensor, other: Tensor) -> bool:
    """Whether x shares memory with the other, but is not the same elements in the same places."""
    return _overlap(x, other) and not (x.data_ptr() == other.data_ptr() and other.is_contiguous())


def _overlap(x: Tensor, other: Tensor) -> bool:
    start, other_start = x.data_ptr(), other.data_ptr()
    return start < other_start + _span(other) and other_start < start + _span(x)


def _span(x: Tensor) -> int:
    """Bytes from the first element to behind the last."""
    return (sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) + 1) * x.element_size() if x.numel() else 0


def _functional(
    sample: Tensor,
    cond: Tensor,
    uncond: Tensor | None,
    noise: Tensor | None,
    coefficients: list[float],
    guidance: float,
    seed: int,
    offset: int,
    backend: str | None,
    original: bool,
    history: Tensor | None = None,
    rescale: float = 0.0,
    threshold: list[float] | None = None,
) -> list[Tensor]:
    results = [empty_like(sample) for _ in range(2 if original else 1)]
    scalars = (coefficients, guidance, seed, offset, backend)
    _step(sample, cond, uncond, noise, scalars, results[0], results[1] if original else None, history, rescale, threshold)
    return results


def _functional_fake(sample: Tensor, *others: Any) -> list[Tensor]:
    original = others[8]
    return [torch.empty_like(sample, memory_format=torch.contiguous_format) for _ in range(2 if original else 1)]


def _out_fake(*_: Any, out: Tensor, x0: Tensor | None) -> None:
    return None


_library.impl("diffusion_step", _functional, "CompositeExplicitAutograd")
_library.impl("diffusion_step.out", _out, "CompositeExplicitAutograd")
torch.library.register_fake("aieng::diffusion_step", _functional_fake, lib=_library)
torch.library.register_fake("aieng::diffusion_step.out", _out_fake, lib=_library)
