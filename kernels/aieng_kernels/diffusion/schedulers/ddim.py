"""DDIM (arXiv:2010.02502) with the interface of ``diffusers.DDIMScheduler``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aieng_kernels.diffusion.coefficients import Coefficients, ddim_coefficients
from aieng_kernels.diffusion.schedulers.base import Generators, Scheduler, draw
from aieng_kernels.diffusion.schedulers.output import SchedulerOutput
from aieng_kernels.diffusion.schedulers.schedule import spaced_timesteps


class DDIMScheduler(Scheduler):
    """Deterministic sampling at ``eta`` 0, DDPM's variance at 1. The arguments are those of ``diffusers.DDIMScheduler``."""

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: NDArray[np.floating] | Sequence[float] | None = None,
        clip_sample: bool = True,
        set_alpha_to_one: bool = True,
        steps_offset: int = 0,
        prediction_type: str = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        clip_sample_range: float = 1.0,
        sample_max_value: float = 1.0,
        timestep_spacing: str = "leading",
        rescale_betas_zero_snr: bool = False,
    ) -> None:
        self._set_schedule()
        self.final_alpha_cumprod = torch.tensor(1.0) if set_alpha_to_one else self.alphas_cumprod[0]

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Choose the timesteps of a run; ValueError if there are more than the schedule has."""
        c = self.config
        chosen = spaced_timesteps(c.timestep_spacing, c.num_train_timesteps, num_inference_steps, c.steps_offset)
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.from_numpy(chosen.copy()).to(device)

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: Generators | None = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
        *,
        backend: str | None = None,
    ) -> SchedulerOutput | tuple[Tensor, Tensor | None]:
        """From x_t to the previous timestep: equation 12 with σ(η) of equation 16.

        ``model_output`` and ``sample`` have one shape. Returns (prev_sample, pred_original_sample), as an object or a tuple.
        Raises ValueError before ``set_timesteps``, for both ``generator`` and ``variance_noise``, and by argument's name.
        """
        return self.guided_step(
            model_output, None, 1.0, timestep, sample, eta, use_clipped_model_output, generator, variance_noise, return_dict,
            backend=backend,
        )  # fmt: skip

    def guided_step(
        self,
        model_output: Tensor,
        uncond_output: Tensor | None,
        guidance_scale: float,
        timestep: int | Tensor,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: Generators | None = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
        *,
        backend: str | None = None,
    ) -> SchedulerOutput | tuple[Tensor, Tensor | None]:
        """:meth:`step` on u + g·(c − u), in the same pass: arXiv:2207.12598, equation 6, with g = ``guidance_scale`` = 1 + w.

        ``model_output`` c is the output with the condition, ``uncond_output`` u the one without (None: no guidance).
        """
        if self.num_inference_steps is None:
            raise ValueError("num_inference_steps is not set: call set_timesteps first")
        noise = None
        if eta > 0:
            if generator is not None and variance_noise is not None:
                raise ValueError("generator and variance_noise cannot both be given")
            noise = draw(model_output, generator) if generator is not None else variance_noise
        coefficients = self._coefficients(int(timestep), float(eta), use_clipped_model_output)
        result = self._apply(sample, model_output, uncond_output, guidance_scale, noise, coefficients, backend)
        return SchedulerOutput(*result) if return_dict else result

    def _coefficients(self, timestep: int, eta: float, clipped: bool) -> Coefficients:
        self._fresh()
        found = self._cache.get((timestep, eta, clipped))
        if found is None:
            assert self.num_inference_steps is not None
            previous = timestep - self.config.num_train_timesteps // self.num_inference_steps
            found = self._cache[timestep, eta, clipped] = ddim_coefficients(
                self._at(timestep),
                self._at(previous) if previous >= 0 else np.float32(self.final_alpha_cumprod.item()),
                eta=eta,
                prediction_type=self.config.prediction_type,
                clip=self._clip(),
                use_clipped_model_output=clipped,
            )
        return found
