"""Schedulers that count noise levels σ = √((1 − ᾱ)/ᾱ): the levels of a run, and how a scheduler keeps its place in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aieng_kernels.diffusion.schedulers.base import Scheduler, writes_to
from aieng_kernels.diffusion.schedulers.schedule import betas

Array = NDArray[np.floating]


class NoiseLevelScheduler(Scheduler):
    """Holds the levels of a run, one more than its timesteps, on the host; each step moves one place on."""

    sigmas: Tensor
    _step_index: int | None = None
    _begin_index: int | None = None

    def _set_levels(self) -> None:
        c = self.config
        self.betas = betas(
            c.beta_schedule, c.num_train_timesteps, c.beta_start, c.beta_end, c.trained_betas, c.rescale_betas_zero_snr
        )
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)
        if c.rescale_betas_zero_snr:
            self.alphas_cumprod[-1] = 2**-24  # not 0, of which the level would be infinite
        self.num_inference_steps: int | None = None
        self._seen, self._cache = (None,) * 3, {}

    def _run(self) -> list[float]:
        """The run's levels, read again (and the cached coefficients dropped) if a caller replaced them."""
        sigmas, seen = self.sigmas, self._seen
        if not (sigmas is seen[0] and writes_to(sigmas) == seen[1] and self._internal_dict is seen[2]):
            self._seen = (sigmas, writes_to(sigmas), self._internal_dict)
            self._cache.clear()
            self._numbers: list[float] = sigmas.tolist()
        return self._numbers

    def _levels(self) -> Array:
        """The level of every training timestep, rising."""
        return (((1 - self.alphas_cumprod) / self.alphas_cumprod) ** 0.5).numpy()

    def _last_level(self) -> float | Tensor:
        kind = self.config.final_sigmas_type
        if kind == "zero":
            return 0
        if kind == "sigma_min":
            return ((1 - self.alphas_cumprod[0]) / self.alphas_cumprod[0]) ** 0.5
        raise ValueError(f"final_sigmas_type={kind!r} must be zero or sigma_min")

    @property
    def step_index(self) -> int | None:
        """The place in the run, counted by ``step``; None before its first."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """Where the run begins, if ``set_begin_index`` said so."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        self._begin_index = begin_index

    def index_for_timestep(self, timestep: float | Tensor, schedule_timesteps: Tensor | None = None) -> int:
        """The place of a timestep; of one that comes twice the second, so that a run begun there skips no level."""
        found = ((self.timesteps if schedule_timesteps is None else schedule_timesteps) == timestep).nonzero().flatten().tolist()
        if not found:
            return self._index_of_none(timestep)
        return int(found[1] if len(found) > 1 else found[0])

    def _index_of_none(self, timestep: float | Tensor) -> int:
        raise ValueError(f"timestep={float(timestep)} is not one of the scheduler's timesteps")

    def _place(self, timestep: float | Tensor) -> int:
        if self._step_index is None:
            if self._begin_index is None:
                t = timestep.to(self.timesteps.device) if isinstance(timestep, Tensor) else timestep
                self._step_index = self.index_for_timestep(t)
            else:
                self._step_index = self._begin_index
        return self._step_index

    def _places(self, samples: Tensor, timesteps: Tensor) -> list[int]:
        """The place of one timestep per sample: by value in training, else that of the run."""
        if self._begin_index is not None:
            return [self._begin_index if self._step_index is None else self._step_index] * len(timesteps)
        schedule = self.timesteps.to(samples.device)
        return [self.index_for_timestep(t, schedule) for t in timesteps.to(samples.device)]

    def _levels_of(self, samples: Tensor, timesteps: Tensor) -> Tensor:
        """σ of each sample, [B, 1, …, 1]."""
        sigmas = self.sigmas.to(device=samples.device, dtype=samples.dtype)
        return sigmas[self._places(samples, timesteps)].reshape(-1, *[1] * (samples.ndim - 1))

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x = x0 + σ·noise for one timestep per sample, [B] (arXiv:2206.00364, equation 4); plain torch."""
        return original_samples + noise * self._levels_of(original_samples, timesteps)


def refuse(config: Any, **supported: Any) -> None:
    """NotImplementedError that names the first argument whose value is none of those given for it."""
    for name, values in supported.items():
        if config[name] not in values:
            raise NotImplementedError(f"{name}={config[name]!r} is not supported here, only {', '.join(map(repr, values))}")


def one_of(config: Any, *names: str) -> None:
    """ValueError if more than one of these is set."""
    if sum(bool(config[name]) for name in names) > 1:
        raise ValueError(f"only one of {', '.join(names)} can be set")


def karras(high: float, low: float, count: int) -> Array:
    """Levels evenly spaced in σ^(1/7): arXiv:2206.00364, equation 5."""
    ramp = np.linspace(0, 1, count)
    least, most = low ** (1 / 7), high ** (1 / 7)
    return (most + ramp * (least - most)) ** 7.0  # type: ignore[no-any-return]


def exponential(high: float, low: float, count: int) -> Array:
    """Levels evenly spaced in log σ."""
    return np.exp(np.linspace(math.log(high), math.log(low), count))


def beta(high: float, low: float, count: int) -> Array:
    """Levels at quantiles of a Beta(0.6, 0.6) distribution, dense at both ends (arXiv:2407.12173); ImportError without scipy."""
    try:
        from scipy.stats import beta as distribution
    except ImportError as error:
        raise ImportError("use_beta_sigmas needs scipy") from error
    quantiles = distribution.ppf(1 - np.linspace(0, 1, count), 0.6, 0.6)
    return low + quantiles * (high - low)


def timesteps_of(sigmas: Array | Sequence[float], levels: Array) -> Array:
    """The timestep of each level, interpolated in log σ between the rising ``levels`` of timesteps 0, 1, …"""
    logs = np.log(levels)
    found = []
    for sigma in sigmas:
        log = np.log(np.maximum(sigma, 1e-10))
        low = min(int(np.cumsum(log - logs >= 0).argmax()), len(logs) - 2)
        share = np.clip((logs[low] - log) / (logs[low] - logs[low + 1]), 0, 1)
        found.append((1 - share) * low + share * (low + 1))
    return np.array(found)


def spaced_floats(spacing: str, train: int, inference: int, offset: int) -> Array:
    """``inference`` of the ``train`` timesteps, falling, not rounded where they are spaced evenly to both ends."""
    if spacing == "linspace":
        return np.linspace(0, train - 1, inference, dtype=np.float32)[::-1].copy()
    if spacing == "leading":
        return (np.arange(inference) * (train // inference))[::-1].astype(np.float32) + np.float32(offset)
    if spacing == "trailing":
        return np.arange(train, 0, -train / inference).round().astype(np.float32) - np.float32(1)
    raise ValueError(f"timestep_spacing={spacing!r} must be linspace, leading or trailing")
