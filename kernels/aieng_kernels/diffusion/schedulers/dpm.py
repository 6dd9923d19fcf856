"""DPM-Solver++ and its SDE form, of first and second order (arXiv:2211.01095), with the interface of ``diffusers``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aieng_kernels.diffusion.coefficients import Coefficients, original_from
from aieng_kernels.diffusion.schedulers import noise_levels as levels
from aieng_kernels.diffusion.schedulers.base import Generators, draw
from aieng_kernels.diffusion.schedulers.config import Config
from aieng_kernels.diffusion.schedulers.output import SchedulerOutput

_RENAMED = {"algorithm_type": {"deis": "dpmsolver++"}, "solver_type": dict.fromkeys(("logrho", "bh1", "bh2"), "midpoint")}
"""Values of other solvers' configurations, and what they become here, as in ``diffusers``."""


class DPMSolverMultistepScheduler(levels.NoiseLevelScheduler):
    """A multistep solver in the half log signal-to-noise ratio λ. The arguments are ``diffusers.DPMSolverMultistepScheduler``'s.

    Refused: ``solver_order`` 3, ``algorithm_type`` dpmsolver and sde-dpmsolver, ``use_beta_sigmas``, ``use_flow_sigmas``,
    ``use_dynamic_shifting``, flow prediction.
    """

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: NDArray[np.floating] | Sequence[float] | None = None,
        solver_order: int = 2,
        prediction_type: str = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        algorithm_type: str = "dpmsolver++",
        solver_type: str = "midpoint",
        lower_order_final: bool = True,
        euler_at_final: bool = False,
        use_karras_sigmas: bool = False,
        use_exponential_sigmas: bool = False,
        use_beta_sigmas: bool = False,
        use_lu_lambdas: bool = False,
        use_flow_sigmas: bool = False,
        flow_shift: float = 1.0,
        final_sigmas_type: str = "zero",
        lambda_min_clipped: float = -math.inf,
        variance_type: str | None = None,
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
        use_dynamic_shifting: bool = False,
        time_shift_type: str = "exponential",
    ) -> None:
        renamed = {name: values[self.config[name]] for name, values in _RENAMED.items() if self.config[name] in values}
        self._internal_dict = Config({**self._internal_dict, **renamed})
        levels.refuse(
            self.config,
            solver_order=(1, 2),
            algorithm_type=("dpmsolver++", "sde-dpmsolver++"),
            solver_type=("midpoint", "heun"),
            prediction_type=("epsilon", "sample", "v_prediction"),
            use_beta_sigmas=(False, None),
            use_flow_sigmas=(False, None),
            use_dynamic_shifting=(False, None),
        )
        levels.one_of(self.config, "use_karras_sigmas", "use_exponential_sigmas", "use_lu_lambdas")
        self._set_levels()
        self.alpha_t = torch.sqrt(self.alphas_cumprod)
        self.sigma_t = torch.sqrt(1 - self.alphas_cumprod)
        self.lambda_t = torch.log(self.alpha_t) - torch.log(self.sigma_t)
        self.sigmas = torch.from_numpy(self._levels())
        self.init_noise_sigma = 1.0
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1, dtype=torch.float32)
        self._restart()

    def _restart(self) -> None:
        self.model_outputs: list[Tensor | None] = [None] * self.config.solver_order
        self.lower_order_nums = 0
        self._step_index = self._begin_index = None

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        mu: float | None = None,
        timesteps: Sequence[int] | None = None,
    ) -> None:
        """Choose a run: so many timesteps, or just these; ValueError by argument (``mu`` is for dynamic shifting, refused)."""
        c = self.config
        if mu is not None:
            raise ValueError("mu is for use_dynamic_shifting, which is not supported here")
        if (num_inference_steps is None) == (timesteps is None):
            raise ValueError("give one of num_inference_steps and timesteps")
        own = c.use_karras_sigmas or c.use_exponential_sigmas or c.use_lu_lambdas
        if timesteps is not None and own:
            raise ValueError("timesteps cannot be given with use_karras_sigmas, use_exponential_sigmas or use_lu_lambdas")
        every = self._levels()
        chosen = np.array(timesteps).astype(np.int64) if timesteps is not None else self._spaced(num_inference_steps or 0)
        if own:
            assert num_inference_steps is not None
            high, low = every[-1].item(), every[0].item()
            if c.use_karras_sigmas:
                run = levels.karras(high, low, num_inference_steps)
            elif c.use_lu_lambdas:
                logs = np.log(every)
                most, least = logs[-1].item(), logs[0].item()
                run = np.exp(most + np.linspace(0, 1, num_inference_steps) * (least - most))
            else:
                run = levels.exponential(high, low, num_inference_steps)
            found = levels.timesteps_of(run, every)
            rounded = not c.use_exponential_sigmas and c.beta_schedule != "squaredcos_cap_v2"
            chosen = (found.round() if rounded else found).astype(np.int64)
        else:
            run = np.interp(chosen, np.arange(len(every)), every)
        self.sigmas = torch.from_numpy(np.concatenate([run, [self._last_level()]]).astype(np.float32))
        self.timesteps = torch.from_numpy(chosen.copy()).to(device=device, dtype=torch.int64)
        self.num_inference_steps = len(chosen)
        self._restart()

    def _spaced(self, count: int) -> NDArray[np.int64]:
        """``count`` timesteps, falling, from the first whose λ is above ``lambda_min_clipped``."""
        c = self.config
        clipped = int(torch.searchsorted(torch.flip(self.lambda_t, [0]), c.lambda_min_clipped))
        last = c.num_train_timesteps - clipped
        chosen: NDArray[np.int64]
        if c.timestep_spacing == "linspace":
            chosen = np.linspace(0, last - 1, count + 1).round()[::-1][:-1].astype(np.int64)
        elif c.timestep_spacing == "leading":
            chosen = (np.arange(count + 1) * (last // (count + 1)))[::-1][:-1].astype(np.int64) + c.steps_offset
        elif c.timestep_spacing == "trailing":
            chosen = np.arange(last, 0, -c.num_train_timesteps / count).round().astype(np.int64) - 1
        else:
            raise ValueError(f"timestep_spacing={c.timestep_spacing!r} must be linspace, leading or trailing")
        return chosen

    def _index_of_none(self, timestep: float | Tensor) -> int:
        return len(self.timesteps) - 1

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        generator: Generators | None = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
        *,
        backend: str | None = None,
    ) -> SchedulerOutput | tuple[Tensor]:
        """From one timestep to the next: arXiv:2211.01095, algorithm 2; its SDE form in appendix A.

        Returns prev_sample, as an object or a tuple of one. Raises ValueError before ``set_timesteps`` and by argument's name.
        """
        return self.guided_step(model_output, None, 1.0, timestep, sample, generator, variance_noise, return_dict, backend=backend)

    def guided_step(
        self,
        model_output: Tensor,
        uncond_output: Tensor | None,
        guidance_scale: float,
        timestep: int | Tensor,
        sample: Tensor,
        generator: Generators | None = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
        *,
        guidance_rescale: float = 0.0,
        backend: str | None = None,
    ) -> SchedulerOutput | tuple[Tensor]:
        """:meth:`step` on u + g·(c − u), in the same pass: arXiv:2207.12598, equation 6, with g = ``guidance_scale`` = 1 + w."""
        c = self.config
        if self.num_inference_steps is None:
            raise ValueError("num_inference_steps is not set: call set_timesteps first")
        place, count = self._place(timestep), len(self.timesteps)
        if c.prediction_type == "epsilon" and c.variance_type in ("learned", "learned_range"):
            model_output = model_output[:, :3]
            uncond_output = None if uncond_output is None else uncond_output[:, :3]
        noise = None
        if c.algorithm_type == "sde-dpmsolver++":
            noise = variance_noise
            if noise is None and generator is not None:
                noise = draw(model_output, generator, torch.float32)
            noise = None if noise is None else noise.to(device=sample.device, dtype=model_output.dtype)
        final = place == count - 1 and (c.euler_at_final or (c.lower_order_final and count < 15) or c.final_sigmas_type == "zero")
        first_order = c.solver_order == 1 or self.lower_order_nums < 1 or final
        history = None if first_order else self.model_outputs[-1]
        previous, original = self._apply(
            sample, model_output, uncond_output, guidance_scale, noise, self._coefficients(place, first_order), backend,
            history=history, rescale=guidance_rescale,
        )  # fmt: skip
        self.model_outputs = [*self.model_outputs[1:], original]
        self.lower_order_nums = min(self.lower_order_nums + 1, c.solver_order)
        self._step_index = place + 1
        previous = previous.to(model_output.dtype)
        return SchedulerOutput(previous) if return_dict else (previous,)

    def _coefficients(self, place: int, first_order: bool) -> Coefficients:
        """Of the step from level σ_s to σ_t, h = λ_t − λ_s; D1 = (x0 − y)/r, r the step before over this one."""
        c = self.config
        before, now, after = (float(self.sigmas[i]) for i in (place - 1, place, place + 1))
        alpha_s, alpha_t = 1 / math.sqrt(now**2 + 1), 1 / math.sqrt(after**2 + 1)
        sigma_s, sigma_t = now * alpha_s, after * alpha_t
        p, q = original_from(alpha_s, sigma_s, c.prediction_type)
        h = math.log(now / after) if after > 0 else math.inf  # λ = −ln σ
        sde = c.algorithm_type == "sde-dpmsolver++"
        step = 2 * h if sde else h
        gain = -alpha_t * math.expm1(-step)  # α_t (1 − e^−step)
        s = sigma_t / sigma_s * (math.exp(-h) if sde else 1.0)
        sigma = sigma_t * math.sqrt(-math.expm1(-2 * h)) if sde else 0.0
        if first_order:
            return Coefficients(p, q, gain, s, 0.0, sigma)
        ratio = math.log(before / now) / h
        slope = gain / 2 if c.solver_type == "midpoint" else alpha_t * (1 + math.expm1(-step) / step)
        return Coefficients(p, q, gain + slope / ratio, s, 0.0, sigma, None, -slope / ratio)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = α·x0 + α·σ·noise with α = 1/√(σ² + 1), for one timestep per sample, [B]; plain torch."""
        sigma = self._levels_of(original_samples, timesteps)
        alpha = 1 / ((sigma**2 + 1) ** 0.5)
        return alpha * original_samples + sigma * alpha * noise
