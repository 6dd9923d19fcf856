"""What schedulers share: the schedule, forward noising, and the way from a step's coefficients to its result."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aieng_kernels.diffusion import ops
from aieng_kernels.diffusion.coefficients import Coefficients
from aieng_kernels.diffusion.schedulers.config import Configured
from aieng_kernels.diffusion.schedulers.schedule import betas
from aieng_kernels.diffusion.step import diffusion_step

Generators = torch.Generator | list[torch.Generator]


class Scheduler(Configured):
    """Holds the schedule; its subclasses say which coefficients a step has."""

    order = 1
    init_noise_sigma: Any
    _seen: tuple[Any, ...]
    """What the cached coefficients were made from."""
    _cache: dict[Hashable, Any]

    def _set_schedule(self) -> None:
        c = self.config
        if c.prediction_type not in ("epsilon", "sample", "v_prediction"):
            raise ValueError(f"prediction_type={c.prediction_type!r} must be epsilon, sample or v_prediction")
        self.betas = betas(
            c.beta_schedule, c.num_train_timesteps, c.beta_start, c.beta_end, c.trained_betas, c.rescale_betas_zero_snr
        )
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)
        self.init_noise_sigma = 1.0
        self.num_inference_steps: int | None = None
        self.timesteps = torch.arange(c.num_train_timesteps - 1, -1, -1, dtype=torch.int64)
        self._seen = (None,) * 5
        self._cumulative: NDArray[np.float32] = np.empty(0, np.float32)
        self._cache = {}

    def scale_model_input(self, sample: Tensor, timestep: int | Tensor | None = None) -> Tensor:
        """The sample as it is: these schedulers do not scale the model's input."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = √ᾱ_t·x0 + √(1 − ᾱ_t)·noise for one timestep per sample, [B] (arXiv:2006.11239, equation 4); plain torch."""
        root, rest = self._roots(original_samples, timesteps)
        return root * original_samples + rest * noise

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = √ᾱ_t·noise − √(1 − ᾱ_t)·x0 for one timestep per sample, [B] (arXiv:2202.00512, appendix D); plain torch."""
        root, rest = self._roots(sample, timesteps)
        return root * noise - rest * sample

    def _roots(self, sample: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        cumulative = self.alphas_cumprod.to(device=sample.device, dtype=sample.dtype)[timesteps.to(sample.device)]
        shape = (-1,) + (1,) * (sample.ndim - 1)
        return (cumulative**0.5).reshape(shape), ((1 - cumulative) ** 0.5).reshape(shape)

    def __len__(self) -> int:
        return int(self.config.num_train_timesteps)

    def _fresh(self) -> NDArray[np.float32]:
        """ᾱ on the host, read again (and the cached coefficients dropped) if a caller replaced any part of the schedule."""
        schedule, seen = self.alphas_cumprod, self._seen
        if not (
            schedule is seen[0]
            and writes_to(schedule) == seen[1]
            and self.timesteps is seen[2]
            and self.num_inference_steps == seen[3]
            and self._internal_dict is seen[4]
        ):
            self._seen = (schedule, writes_to(schedule), self.timesteps, self.num_inference_steps, self._internal_dict)
            self._cumulative = schedule.detach().to("cpu", torch.float32).numpy()
            self._cache.clear()
        return self._cumulative

    def _at(self, timestep: int) -> np.float32:
        if not 0 <= timestep < len(self._cumulative):
            raise ValueError(f"timestep={timestep} must be in 0..{len(self._cumulative) - 1}")
        return self._cumulative[timestep]  # type: ignore[no-any-return]

    def _clip(self) -> float | None:
        return self.config.clip_sample_range if self.config.clip_sample and not self.config.thresholding else None

    def _apply(
        self,
        sample: Tensor,
        model_output: Tensor,
        uncond: Tensor | None,
        guidance: float,
        noise: Tensor | None,
        coefficients: Coefficients,
        backend: str | None,
        history: Tensor | None = None,
        rescale: float = 0.0,
    ) -> tuple[Tensor, Tensor | None]:
        """The step in one pass where it can be, else in plain torch."""
        c = self._internal_dict
        if not (rescale or c.get("thresholding")):
            results = ops.plainly(sample, model_output, uncond, noise, history, coefficients, guidance, backend)
            if results is not None:
                return results
        others = [x for x in (model_output, uncond, noise, history) if x is not None]
        if any(x.dtype is not sample.dtype for x in others):
            dtype = torch.promote_types(sample.dtype, model_output.dtype)  # as torch's own arithmetic would
            sample, model_output = sample.to(dtype), model_output.to(dtype)
            uncond, noise, history = (None if x is None else x.to(dtype) for x in (uncond, noise, history))
        grad = torch.is_grad_enabled() and (sample.requires_grad or any(x.requires_grad for x in others))
        if grad:
            if backend is not None:
                raise ValueError(f"backend={backend!r} cannot be forced: gradients go through plain torch")
            return self._plain(sample, model_output, uncond, guidance, noise, coefficients, history, rescale)
        threshold = (c["dynamic_thresholding_ratio"], c["sample_max_value"]) if c.get("thresholding") else None
        return diffusion_step(
            sample, model_output, coefficients, uncond=uncond, guidance=guidance, noise=noise, backend=backend,
            history=history, rescale=rescale, threshold=threshold,
        )  # fmt: skip

    def _plain(
        self,
        sample: Tensor,
        e: Tensor,
        uncond: Tensor | None,
        guidance: float,
        noise: Tensor | None,
        coefficients: Coefficients,
        history: Tensor | None,
        rescale: float,
    ) -> tuple[Tensor, Tensor]:
        """The definition in differentiable torch, with dynamic thresholding; noise not given is torch.randn's."""
        p, q, r, s, t, sigma, clip, h = coefficients
        dtype = sample.dtype
        work = torch.promote_types(dtype, torch.float32)
        x, e = sample.to(work), e.to(work)
        if uncond is not None:
            c, e = e, uncond + guidance * (e - uncond)
            if rescale:
                deviations = rescale * c.flatten(1).std(1) / e.flatten(1).std(1) + (1 - rescale)
                e = e * deviations.view(-1, *[1] * (e.ndim - 1))
        original = p * x + q * e
        if self._internal_dict.get("thresholding"):
            original = self._threshold_sample(original)
        elif clip is not None:
            original = original.clamp(-clip, clip)
        previous = r * original + s * x + t * e
        if history is not None:
            previous = previous + h * history
        if sigma != 0:
            previous = previous + sigma * (torch.randn_like(sample) if noise is None else noise)
        return previous.to(dtype), original.to(dtype)

    def _threshold_sample(self, sample: Tensor) -> Tensor:
        """Dynamic thresholding (arXiv:2205.11487, section 2.3): clip to ±s and divide by s, s a quantile of each sample's |x0|."""
        magnitudes = sample.flatten(1).abs()
        s = torch.quantile(magnitudes, self.config.dynamic_thresholding_ratio, dim=1)
        s = s.clamp(min=1, max=self.config.sample_max_value).view(-1, *[1] * (sample.ndim - 1))
        return sample.clamp(-s, s) / s


def writes_to(x: Tensor) -> int:
    """How often a tensor was written to; torch does not count that of one made in inference mode."""
    return -1 if x.is_inference() else x._version


def draw(like: Tensor, generator: Generators, dtype: torch.dtype | None = None) -> Tensor:
    """Standard normals in the shape and device of ``like``, and its dtype or another: what ``diffusers`` draws from this generator.

    A generator on the CPU draws there; a list has one generator for each sample of the batch.
    """
    generators = generator if isinstance(generator, list) else [generator]
    if len(generators) == 1:
        return _randn(like.shape, generators[0], like, dtype or like.dtype)
    if len(generators) != like.shape[0]:
        raise ValueError(f"generator must be one, or one for each of {like.shape[0]} samples, not {len(generators)}")
    return torch.cat([_randn((1, *like.shape[1:]), g, like, dtype or like.dtype) for g in generators])


def _randn(shape: tuple[int, ...], generator: torch.Generator, like: Tensor, dtype: torch.dtype) -> Tensor:
    device = like.device if generator.device.type == like.device.type else generator.device
    if device.type not in ("cpu", like.device.type):
        raise ValueError(f"generator is on {generator.device}, which cannot draw for a tensor on {like.device}")
    return torch.randn(shape, generator=generator, device=device, dtype=dtype).to(like.device)
