"""Euler's method and its ancestral form (arXiv:2206.00364, algorithm 2) with the interface of ``diffusers``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aieng_kernels.diffusion.coefficients import Coefficients
from aieng_kernels.diffusion.schedulers import noise_levels as levels
from aieng_kernels.diffusion.schedulers.base import Generators, draw
from aieng_kernels.diffusion.schedulers.output import SchedulerOutput

_SPACINGS = {"use_karras_sigmas": levels.karras, "use_exponential_sigmas": levels.exponential, "use_beta_sigmas": levels.beta}
"""Arguments that each choose how the levels of a run are spaced."""


class _Euler(levels.NoiseLevelScheduler):
    """prev = x + d·(σ_to − σ) with the derivative d = (x − x0)/σ."""

    is_scale_input_called = False

    @property
    def init_noise_sigma(self) -> Any:
        """Standard deviation of the noise that a run starts from."""
        most = self.sigmas.max()
        return most if self.config.timestep_spacing in ("linspace", "trailing") else (most**2 + 1) ** 0.5

    @init_noise_sigma.setter
    def init_noise_sigma(self, value: float) -> None:
        raise AttributeError("init_noise_sigma follows from the noise levels")

    def scale_model_input(self, sample: Tensor, timestep: float | Tensor | None = None) -> Tensor:
        """x/√(σ² + 1), which has the variance of the data."""
        assert timestep is not None
        sigma = self.sigmas[self._place(timestep)]
        self.is_scale_input_called = True
        return sample / ((sigma**2 + 1) ** 0.5)

    def _start(self, timesteps: Tensor, sigmas: Tensor) -> None:
        self.sigmas = sigmas.to("cpu")
        self.timesteps = timesteps
        self._step_index = self._begin_index = None

    def _coefficients(self, sigma: float, derivative_sigma: float, to: float, noise: float) -> Coefficients:
        """From level σ, the derivative taken at ``derivative_sigma``, to the level ``to``, and noise of that deviation."""
        kind = self.config.prediction_type
        share = to / derivative_sigma
        if kind == "epsilon":
            return Coefficients(1.0, -derivative_sigma, 0.0, 1.0, to - derivative_sigma, noise)
        if kind == "v_prediction":
            square = sigma * sigma + 1
            return Coefficients(1 / square, -sigma / math.sqrt(square), 1 - share, share, 0.0, noise)
        return Coefficients(0.0, 1.0, 1 - share, share, 0.0, noise)

    def _finish(
        self, previous: Tensor, original: Tensor | None, model_output: Tensor, return_dict: bool
    ) -> SchedulerOutput | tuple[Tensor, Tensor | None]:
        assert self._step_index is not None
        self._step_index += 1
        previous = previous.to(model_output.dtype)
        return SchedulerOutput(previous, original) if return_dict else (previous, original)

    @staticmethod
    def _check_timestep(timestep: float | Tensor) -> None:
        if isinstance(timestep, int) or (isinstance(timestep, Tensor) and not timestep.is_floating_point()):
            raise ValueError("timestep must be one of the scheduler's timesteps, which are floats, not a place in them")


class EulerDiscreteScheduler(_Euler):
    """Euler's method, with Karras et al.'s churn. The arguments are those of ``diffusers.EulerDiscreteScheduler``.

    ``use_beta_sigmas`` needs scipy. Churn (``s_churn`` > 0) adds its noise in a pass of its own, in plain torch.
    """

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: NDArray[np.floating] | Sequence[float] | None = None,
        prediction_type: str = "epsilon",
        interpolation_type: str = "linear",
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        use_beta_sigmas: bool | None = False,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        timestep_spacing: str = "linspace",
        timestep_type: str = "discrete",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
        final_sigmas_type: str = "zero",
    ) -> None:
        levels.one_of(self.config, *_SPACINGS)
        if use_beta_sigmas:
            levels.beta(1.0, 0.0, 1)  # says here, not in a run, if scipy is missing
        if prediction_type not in ("epsilon", "sample", "original_sample", "v_prediction"):
            raise ValueError(f"prediction_type={prediction_type!r} must be epsilon, sample or v_prediction")
        self._set_levels()
        self.use_karras_sigmas, self.use_exponential_sigmas = use_karras_sigmas, use_exponential_sigmas
        self.use_beta_sigmas = use_beta_sigmas
        falling = torch.from_numpy(self._levels()).flip(0)
        timesteps = torch.arange(num_train_timesteps - 1, -1, -1, dtype=torch.float32)
        self._start(0.25 * falling.log() if self._continuous() else timesteps, torch.cat([falling, torch.zeros(1)]))

    def _continuous(self) -> bool:
        return bool(self.config.timestep_type == "continuous" and self.config.prediction_type == "v_prediction")

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> None:
        """Choose a run: so many timesteps, or just these, or these levels (one more than timesteps); ValueError by argument."""
        c = self.config
        if sum(x is not None for x in (num_inference_steps, timesteps, sigmas)) != 1:
            raise ValueError("give one of num_inference_steps, timesteps and sigmas")
        make = next((make for name, make in _SPACINGS.items() if c[name]), None)
        if timesteps is not None and (make is not None or self._continuous()):
            raise ValueError(f"timesteps cannot be given with {', '.join(_SPACINGS)} or continuous timesteps")
        every = self._levels()
        if sigmas is not None:
            run: levels.Array = np.array(sigmas).astype(np.float32)
            chosen = levels.timesteps_of(run[:-1], every)
        else:
            if timesteps is not None:
                chosen = np.array(timesteps).astype(np.float32)
            else:
                assert num_inference_steps is not None
                chosen = levels.spaced_floats(c.timestep_spacing, c.num_train_timesteps, num_inference_steps, c.steps_offset)
            if c.interpolation_type == "linear":
                run = np.interp(chosen, np.arange(len(every)), every)
            elif c.interpolation_type == "log_linear":
                run = torch.linspace(np.log(every[-1]), np.log(every[0]), len(chosen) + 1).exp().numpy()
            else:
                raise ValueError(f"interpolation_type={c.interpolation_type!r} must be linear or log_linear")
            if make is not None:
                high = run[0].item() if c.sigma_max is None else c.sigma_max
                low = run[-1].item() if c.sigma_min is None else c.sigma_min
                run = make(high, low, len(chosen))
                chosen = levels.timesteps_of(run, every)
            run = np.concatenate([run, [self._last_level()]]).astype(np.float32)
        self.num_inference_steps = len(run) - 1 if num_inference_steps is None else num_inference_steps
        places = torch.from_numpy(run)
        times = 0.25 * places[:-1].log() if self._continuous() else torch.from_numpy(chosen.astype(np.float32))
        self._start(times.to(device), places)

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = math.inf,
        s_noise: float = 1.0,
        generator: Generators | None = None,
        return_dict: bool = True,
        *,
        backend: str | None = None,
    ) -> SchedulerOutput | tuple[Tensor, Tensor | None]:
        """From one level to the next: arXiv:2206.00364, algorithm 2 without its second-order correction.

        Returns (prev_sample, pred_original_sample), as an object or a tuple. Raises ValueError by argument's name.
        """
        return self.guided_step(
            model_output, None, 1.0, timestep, sample, s_churn, s_tmin, s_tmax, s_noise, generator, return_dict, backend=backend
        )

    def guided_step(
        self,
        model_output: Tensor,
        uncond_output: Tensor | None,
        guidance_scale: float,
        timestep: float | Tensor,
        sample: Tensor,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = math.inf,
        s_noise: float = 1.0,
        generator: Generators | None = None,
        return_dict: bool = True,
        *,
        guidance_rescale: float = 0.0,
        backend: str | None = None,
    ) -> SchedulerOutput | tuple[Tensor, Tensor | None]:
        """:meth:`step` on u + g·(c − u), in the same pass: arXiv:2207.12598, equation 6, with g = ``guidance_scale`` = 1 + w."""
        self._check_timestep(timestep)
        place = self._place(timestep)
        sigma, to = self._run()[place : place + 2]
        gamma = min(s_churn / (len(self.sigmas) - 1), 2**0.5 - 1) if s_tmin <= sigma <= s_tmax else 0.0
        higher = sigma * (gamma + 1)
        if gamma > 0:
            noise = torch.randn_like(model_output) if generator is None else draw(model_output, generator)
            sample = sample + noise * (s_noise * math.sqrt(higher**2 - sigma**2))
        coefficients = self._coefficients(sigma, higher, to, 0.0)
        result = self._apply(
            sample, model_output, uncond_output, guidance_scale, None, coefficients, backend, rescale=guidance_rescale
        )
        return self._finish(*result, model_output, return_dict)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = √ᾱ·noise − √(1 − ᾱ)·x0 with ᾱ at each timestep's place in the run, as ``diffusers`` takes it; plain torch."""
        self._check_timestep(timesteps)
        schedule = self.timesteps.to(sample.device)
        places = [self.index_for_timestep(t, schedule) for t in timesteps.to(sample.device)]
        cumulative = self.alphas_cumprod.to(sample)[places].reshape(-1, *[1] * (sample.ndim - 1))
        return cumulative**0.5 * noise - (1 - cumulative) ** 0.5 * sample


class EulerAncestralDiscreteScheduler(_Euler):
    """A step of Euler's method further down, and noise back up; arguments of ``diffusers.EulerAncestralDiscreteScheduler``."""

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: NDArray[np.floating] | Sequence[float] | None = None,
        prediction_type: str = "epsilon",
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
    ) -> None:
        levels.refuse(self.config, prediction_type=("epsilon", "v_prediction"))
        self._set_levels()
        falling = torch.from_numpy(self._levels()).flip(0)
        timesteps = torch.arange(num_train_timesteps - 1, -1, -1, dtype=torch.float64)
        self._start(timesteps, torch.cat([falling, torch.zeros(1)]))

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Choose the timesteps of a run."""
        c = self.config
        self.num_inference_steps = num_inference_steps
        chosen = levels.spaced_floats(c.timestep_spacing, c.num_train_timesteps, num_inference_steps, c.steps_offset)
        every = self._levels()
        run = np.concatenate([np.interp(chosen, np.arange(len(every)), every), [0.0]]).astype(np.float32)
        self._start(torch.from_numpy(chosen).to(device), torch.from_numpy(run))

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generators | None = None,
        return_dict: bool = True,
        *,
        backend: str | None = None,
    ) -> SchedulerOutput | tuple[Tensor, Tensor | None]:
        """From one level to the next: down to σ_down, then noise of deviation σ_up, σ_up² + σ_down² = σ_to².

        Returns (prev_sample, pred_original_sample), as an object or a tuple. Raises ValueError by argument's name.
        """
        return self.guided_step(model_output, None, 1.0, timestep, sample, generator, return_dict, backend=backend)

    def guided_step(
        self,
        model_output: Tensor,
        uncond_output: Tensor | None,
        guidance_scale: float,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generators | None = None,
        return_dict: bool = True,
        *,
        guidance_rescale: float = 0.0,
        backend: str | None = None,
    ) -> SchedulerOutput | tuple[Tensor, Tensor | None]:
        """:meth:`step` on u + g·(c − u), in the same pass: arXiv:2207.12598, equation 6, with g = ``guidance_scale`` = 1 + w."""
        self._check_timestep(timestep)
        place = self._place(timestep)
        sigma, to = self._run()[place : place + 2]
        up = math.sqrt(max(to**2 * (sigma**2 - to**2) / sigma**2, 0.0))
        down = math.sqrt(max(to**2 - up**2, 0.0))
        noise = None if generator is None else draw(model_output, generator)
        coefficients = self._coefficients(sigma, sigma, down, up)
        result = self._apply(
            sample, model_output, uncond_output, guidance_scale, noise, coefficients, backend, rescale=guidance_rescale
        )
        return self._finish(*result, model_output, return_dict)
