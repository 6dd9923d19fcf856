"""DDPM (arXiv:2006.11239) with the interface of ``diffusers.DDPMScheduler``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aieng_kernels.diffusion.coefficients import Coefficients, ddpm_coefficients
from aieng_kernels.diffusion.schedulers.base import Generators, Scheduler, draw
from aieng_kernels.diffusion.schedulers.output import SchedulerOutput
from aieng_kernels.diffusion.schedulers.schedule import spaced_timesteps

_FIXED = ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log")
_LEARNED = ("learned", "learned_range")


class DDPMScheduler(Scheduler):
    """Ancestral sampling from the posterior. The arguments are those of ``diffusers.DDPMScheduler``."""

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: NDArray[np.floating] | Sequence[float] | None = None,
        variance_type: str = "fixed_small",
        clip_sample: bool = True,
        prediction_type: str = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        clip_sample_range: float = 1.0,
        sample_max_value: float = 1.0,
        timestep_spacing: str = "leading",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
    ) -> None:
        self._set_schedule()
        if variance_type not in (*_FIXED, *_LEARNED):
            raise ValueError(f"variance_type={variance_type!r} must be one of {', '.join((*_FIXED, *_LEARNED))}")
        self.one = torch.tensor(1.0)
        self.custom_timesteps = False
        self.variance_type = variance_type

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[int] | None = None,
    ) -> None:
        """Choose the timesteps of a run: so many of them, or just these, falling. ValueError that names the argument."""
        c = self.config
        if (num_inference_steps is None) == (timesteps is None):
            raise ValueError("give one of num_inference_steps and timesteps")
        if timesteps is not None:
            chosen = np.array(timesteps, dtype=np.int64)
            if chosen.size == 0 or (np.diff(chosen) >= 0).any() or chosen[0] >= c.num_train_timesteps or chosen[-1] < 0:
                raise ValueError(f"timesteps must fall, from under num_train_timesteps={c.num_train_timesteps} to 0 at the lowest")
        else:
            assert num_inference_steps is not None
            chosen = spaced_timesteps(c.timestep_spacing, c.num_train_timesteps, num_inference_steps, c.steps_offset)
            self.num_inference_steps = num_inference_steps
        self.custom_timesteps = timesteps is not None
        self.timesteps = torch.from_numpy(chosen.copy()).to(device)

    def previous_timestep(self, timestep: int | Tensor) -> int:
        """The timestep after this one in the run, −1 after the last; ValueError if this one is not in the run."""
        t = int(timestep)
        if not (self.custom_timesteps or self.num_inference_steps):
            return t - 1
        run = self.timesteps.tolist()
        if t not in run:
            raise ValueError(f"timestep={t} is not one of the scheduler's timesteps")
        return [*run, -1][run.index(t) + 1]  # type: ignore[no-any-return]

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        generator: Generators | None = None,
        return_dict: bool = True,
        *,
        backend: str | None = None,
    ) -> SchedulerOutput | tuple[Tensor, Tensor | None]:
        """From x_t to the previous timestep: equations 7 and 15; noise is added at every timestep but 0.

        ``model_output`` and ``sample`` have one shape, or for a learned variance twice the channels in ``model_output``.
        Returns (prev_sample, pred_original_sample), as an object or a tuple. Raises ValueError by argument's name.
        """
        return self.guided_step(model_output, None, 1.0, timestep, sample, generator, return_dict, backend=backend)

    def guided_step(
        self,
        model_output: Tensor,
        uncond_output: Tensor | None,
        guidance_scale: float,
        timestep: int | Tensor,
        sample: Tensor,
        generator: Generators | None = None,
        return_dict: bool = True,
        *,
        backend: str | None = None,
    ) -> SchedulerOutput | tuple[Tensor, Tensor | None]:
        """:meth:`step` on u + g·(c − u), in the same pass: arXiv:2207.12598, equation 6, with g = ``guidance_scale`` = 1 + w.

        ``model_output`` c is the output with the condition, ``uncond_output`` u the one without (None: no guidance).
        """
        t = int(timestep)
        coefficients = self._coefficients(t)
        if self.variance_type in _LEARNED:
            return self._learned(
                model_output, uncond_output, guidance_scale, t, sample, coefficients, generator, return_dict, backend
            )
        noise = draw(model_output, generator) if t > 0 and generator is not None else None
        result = self._apply(sample, model_output, uncond_output, guidance_scale, noise, coefficients, backend)
        return SchedulerOutput(*result) if return_dict else result

    def _learned(
        self,
        model_output: Tensor,
        uncond_output: Tensor | None,
        guidance_scale: float,
        t: int,
        sample: Tensor,
        coefficients: Coefficients,
        generator: Generators | None,
        return_dict: bool,
        backend: str | None,
    ) -> SchedulerOutput | tuple[Tensor, Tensor | None]:
        """The posterior mean in one pass, then the learned variance (arXiv:2102.09672, equation 15) in plain torch."""
        channels = sample.shape[1]
        if model_output.shape[1] != 2 * channels:
            raise ValueError(
                f"model_output must have {2 * channels} channels, twice sample's, for variance_type={self.variance_type!r}"
            )
        if uncond_output is not None:
            model_output = uncond_output + guidance_scale * (model_output - uncond_output)
        mean, learned = model_output[:, :channels], model_output[:, channels:]
        previous, original = self._apply(sample, mean, None, 1.0, None, coefficients._replace(sigma=0.0), backend)
        if t > 0:
            noise = torch.randn_like(mean) if generator is None else draw(mean, generator)
            previous = previous + self._deviation(t, learned) * noise
        return SchedulerOutput(previous, original) if return_dict else (previous, original)

    def _deviation(self, t: int, learned: Tensor) -> Tensor:
        """σ of a learned variance: the variance itself, or its logarithm's place between those of the two fixed ones."""
        if self.variance_type == "learned":
            return learned**0.5
        small, large = (self._fixed(t, kind).sigma for kind in ("fixed_small", "fixed_large"))
        share = (learned + 1) / 2
        return torch.exp(share * float(np.log(large)) + (1 - share) * float(np.log(small)))

    def _coefficients(self, timestep: int) -> Coefficients:
        return self._fixed(timestep, "fixed_small" if self.variance_type in _LEARNED else self.variance_type)

    def _fixed(self, timestep: int, variance_type: str) -> Coefficients:
        self._fresh()
        found = self._cache.get((timestep, variance_type))
        if found is None:
            previous = self.previous_timestep(timestep)
            found = self._cache[timestep, variance_type] = ddpm_coefficients(
                self._at(timestep),
                self._at(previous) if previous >= 0 else np.float32(1.0),
                variance_type=variance_type,  # type: ignore[arg-type]
                prediction_type=self.config.prediction_type,
                clip=self._clip(),
                last=timestep == 0,
            )
        return found
