"""Noise schedules and the choice of timesteps, in the float32 arithmetic that published models were trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace")


def betas(
    schedule: str, count: int, start: float, end: float, trained: Sequence[float] | NDArray[np.floating] | None, zero_snr: bool
) -> Tensor:
    """β_1..β_T, [count] float32: ``trained`` if given, else by name; ``zero_snr`` rescales them so that ᾱ_T = 0.

    ``linear`` (arXiv:2006.11239, section 4), ``scaled_linear`` (linear in √β, arXiv:2112.10752), ``squaredcos_cap_v2``
    (arXiv:2102.09672, equation 17), ``sigmoid`` (arXiv:2203.02923), ``laplace`` (arXiv:2407.03297). Raises ValueError otherwise.
    """
    if trained is not None:
        values = torch.tensor(trained, dtype=torch.float32)
    elif schedule == "linear":
        values = torch.linspace(start, end, count, dtype=torch.float32)
    elif schedule == "scaled_linear":
        values = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
    elif schedule == "squaredcos_cap_v2":
        values = _betas_of([math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)])
    elif schedule == "laplace":
        values = _betas_of([_laplace(i / count) for i in range(count + 1)])
    elif schedule == "sigmoid":
        values = torch.sigmoid(torch.linspace(-6, 6, count)) * (end - start) + start
    else:
        raise ValueError(f"beta_schedule={schedule!r} must be one of {', '.join(SCHEDULES)}")
    return _zero_terminal_snr(values) if zero_snr else values


def _betas_of(alpha_prod: list[float]) -> Tensor:
    """β_t = 1 − ᾱ_t/ᾱ_{t−1}, at most 0.999."""
    pairs = zip(alpha_prod[1:], alpha_prod[:-1], strict=True)
    return torch.tensor([min(1 - now / before, 0.999) for now, before in pairs], dtype=torch.float32)


def _laplace(t: float) -> float:
    snr = math.exp(-0.5 * math.copysign(1, 0.5 - t) * math.log(1 - 2 * math.fabs(0.5 - t) + 1e-6))
    return math.sqrt(snr / (1 + snr))


def _zero_terminal_snr(values: Tensor) -> Tensor:
    """arXiv:2305.08891, algorithm 1: √ᾱ is shifted to end at 0 and scaled to start where it did."""
    roots = torch.cumprod(1.0 - values, dim=0).sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    products = ((roots - last) * (first / (first - last))) ** 2
    return 1 - torch.cat([products[:1], products[1:] / products[:-1]])


def spaced_timesteps(spacing: str, train: int, inference: int, offset: int) -> NDArray[np.int64]:
    """``inference`` of the ``train`` timesteps, falling, spaced as arXiv:2305.08891, table 2, names it; ValueError by argument."""
    if not 0 < inference <= train:
        raise ValueError(f"num_inference_steps={inference} must be in 1..num_train_timesteps={train}")
    if spacing == "linspace":
        return np.linspace(0, train - 1, inference).round()[::-1].astype(np.int64)
    if spacing == "leading":
        return (np.arange(inference, dtype=np.int64) * (train // inference))[::-1] + offset
    if spacing == "trailing":
        return np.round(np.arange(train, 0, -train / inference)).astype(np.int64) - 1
    raise ValueError(f"timestep_spacing={spacing!r} must be linspace, leading or trailing")
