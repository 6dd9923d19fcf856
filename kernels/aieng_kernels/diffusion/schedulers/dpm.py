"""DPM-Solver (arXiv:2206.00927), DPM-Solver++ (arXiv:2211.01095) and their SDE forms with the interface of ``diffusers``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

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
Level = TypeVar("Level", float, Tensor)
_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas")
"""Arguments that each choose the levels of a run, instead of a spacing of its timesteps."""


class DPMSolverMultistepScheduler(levels.NoiseLevelScheduler):
    """A multistep solver in the half log signal-to-noise ratio λ. The arguments are ``diffusers.DPMSolverMultistepScheduler``'s.

    ``use_beta_sigmas`` needs scipy. A step of third order adds its two older estimates in a pass of its own, in plain torch; in the
    SDE form its last term has the sign that ``diffusers`` gives it, not the one that makes it small with the step.
    ``algorithm_type`` sde-dpmsolver has no third order, there or here.
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
            solver_order=(1, 2) if algorithm_type == "sde-dpmsolver" else (1, 2, 3),
            algorithm_type=("dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver"),
            solver_type=("midpoint", "heun"),
            time_shift_type=("exponential",),
        )
        self._of_noise = self.config.algorithm_type in ("dpmsolver", "sde-dpmsolver")
        predictions = ("epsilon", "sample", "v_prediction", *(() if self._of_noise else ("flow_prediction",)))
        if prediction_type not in predictions:
            raise ValueError(f"prediction_type={prediction_type!r} must be {', '.join(predictions)} with {algorithm_type}")
        if self._of_noise and final_sigmas_type == "zero":
            raise ValueError(f"final_sigmas_type='zero' must be sigma_min with {algorithm_type}, which cannot reach it")
        levels.one_of(self.config, *_SPACINGS)
        if use_beta_sigmas:
            levels.beta(1.0, 0.0, 1)  # says here, not in a run, if scipy is missing
        self._flow_shift = flow_shift
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
        """Choose a run: so many timesteps, or just these; ValueError by argument.

        ``mu`` is the logarithm of ``flow_shift`` from now on, where ``use_dynamic_shifting`` allows it.
        """
        c = self.config
        if mu is not None:
            if not c.use_dynamic_shifting:
                raise ValueError("mu must not be given without use_dynamic_shifting")
            self._flow_shift = math.exp(mu)
        if (num_inference_steps is None) == (timesteps is None):
            raise ValueError("give one of num_inference_steps and timesteps")
        own = [name for name in _SPACINGS if c[name]]
        if timesteps is not None and own:
            raise ValueError(f"timesteps cannot be given with {own[0]}")
        every = self._levels()
        chosen: levels.Array | NDArray[np.int64]
        if own:
            assert num_inference_steps is not None
            run, chosen = self._own_levels(own[0], num_inference_steps, every)
        else:
            chosen = np.array(timesteps).astype(np.int64) if timesteps is not None else self._spaced(num_inference_steps or 0)
            run = np.interp(chosen, np.arange(len(every)), every)
        self.sigmas = torch.from_numpy(np.concatenate([run, [self._last_level()]]).astype(np.float32))
        self.timesteps = torch.from_numpy(chosen.copy()).to(device=device, dtype=torch.int64)
        self.num_inference_steps = len(chosen)
        self._restart()

    def _own_levels(self, spacing: str, count: int, every: levels.Array) -> tuple[levels.Array, levels.Array]:
        """``count`` levels, falling, and their timesteps, which may lie between two."""
        if spacing == "use_flow_sigmas":
            run = 1 - np.linspace(1, 1 / self.config.num_train_timesteps, count + 1)
            run = (self._flow_shift * run / (1 + (self._flow_shift - 1) * run))[:0:-1]
            return run, run * self.config.num_train_timesteps
        if spacing == "use_lu_lambdas":
            logs = np.log(every)
            run = np.exp(logs[-1].item() + np.linspace(0, 1, count) * (logs[0].item() - logs[-1].item()))
        else:
            make = {"use_karras_sigmas": levels.karras, "use_beta_sigmas": levels.beta}.get(spacing, levels.exponential)
            run = make(every[-1].item(), every[0].item(), count)
        found = levels.timesteps_of(run, every)
        rounded = spacing in ("use_karras_sigmas", "use_lu_lambdas") and self.config.beta_schedule != "squaredcos_cap_v2"
        return run, found.round() if rounded else found

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
        place = self._place(timestep)
        if c.prediction_type == "epsilon" and c.variance_type in ("learned", "learned_range"):
            model_output = model_output[:, :3]
            uncond_output = None if uncond_output is None else uncond_output[:, :3]
        noise = None
        if c.algorithm_type.startswith("sde"):
            noise = variance_noise
            if noise is None and generator is not None:
                noise = draw(model_output, generator, torch.float32)
            noise = None if noise is None else noise.to(device=sample.device, dtype=model_output.dtype)
        order = self._order(place)
        coefficients, older = self._coefficients(place, order)
        history = self.model_outputs[-1] if order > 1 else None
        if history is not None and order == 3:
            history = torch.add(history, self.model_outputs[-2], alpha=older)  # type: ignore[arg-type]
        previous, estimate = self._apply(
            sample, model_output, uncond_output, guidance_scale, noise, coefficients, backend,
            history=history, rescale=guidance_rescale,
        )  # fmt: skip
        if self._of_noise and c.thresholding and estimate is not None:
            alpha, sigma = self._at_place(place)
            estimate = (sample - alpha * estimate) / sigma
        self.model_outputs = [*self.model_outputs[1:], estimate]
        self.lower_order_nums = min(self.lower_order_nums + 1, c.solver_order)
        self._step_index = place + 1
        previous = previous.to(model_output.dtype)
        return SchedulerOutput(previous) if return_dict else (previous,)

    def _order(self, place: int) -> int:
        """Of the step at a place: low at the start, for want of estimates, and at the end, where few steps are unstable."""
        c, steps = self.config, self.timesteps.shape[0]
        left, few = steps - 1 - place, c.lower_order_final and steps < 15
        if left == 0 and (few or c.euler_at_final or c.final_sigmas_type == "zero"):
            return 1
        return int(min(c.solver_order, self.lower_order_nums + 1, 2 if left == 1 and few else 3))

    def _signal_and_noise(self, level: Level) -> tuple[Level, Level]:
        """α and σ of a level, which is σ/α; of flows it is σ, and α = 1 − σ."""
        if self.config.use_flow_sigmas:
            return 1 - level, level
        alpha = 1 / ((level**2 + 1) ** 0.5)
        return alpha, level * alpha

    def _at_place(self, place: int) -> tuple[float, float]:
        return self._signal_and_noise(self._run()[place])

    def _lambda(self, place: int) -> float:
        alpha, sigma = self._at_place(place)
        return math.log(alpha / sigma) if sigma > 0 else math.inf

    def _coefficients(self, place: int, order: int) -> tuple[Coefficients, float]:
        """Of the step from s to t; its history is the estimate before it, and so much of the one before that."""
        self._run()
        found: tuple[Coefficients, float] | None = self._cache.get((place, order))
        if found is None:
            found = self._cache[place, order] = self._made_coefficients(place, order)
        return found

    def _made_coefficients(self, place: int, order: int) -> tuple[Coefficients, float]:
        """Estimates m are of x0 (arXiv:2211.01095, section 4.2), or of the noise in DPM-Solver (arXiv:2206.00927, section 3.2)."""
        (alpha_s, sigma_s), (alpha_t, sigma_t) = self._at_place(place), self._at_place(place + 1)
        h = self._lambda(place + 1) - self._lambda(place)
        sde = self.config.algorithm_type.startswith("sde")
        if self._of_noise:
            r, before, older = self._multistep(place, order, h, sigma_t * (2 if sde else 1))
            s = alpha_t / alpha_s
            sigma = sigma_t * math.sqrt(math.expm1(2 * h)) if sde else 0.0
        else:
            r, before, older = self._multistep(place, order, -2 * h if sde else -h, alpha_t)
            s = sigma_t / sigma_s * (math.exp(-h) if sde else 1.0)
            sigma = sigma_t * math.sqrt(-math.expm1(-2 * h)) if sde else 0.0
        p, q = self._estimate(self._run()[place], alpha_s, sigma_s)
        if self._of_noise and self.config.thresholding:  # x0 is estimated, from which the noise follows: ε = (x − α·x0)/σ
            r, s = -r * alpha_s / sigma_s, s + r / sigma_s
        return Coefficients(p, q, r, s, 0.0, sigma, None, before), older / before if older else 0.0

    def _multistep(self, place: int, order: int, x: float, k: float) -> tuple[float, float, float]:
        """Weights of the newest estimate and of the two before it.

        −k(eˣ − 1)·m − k((eˣ − 1)/x − 1)·m′ − k((eˣ − 1 − x)/x² − ½)·m″, where m′ and m″ are differences of estimates over h and h²,
        by λ; ``midpoint`` gives m′ half the weight of m in a step of second order.
        """
        grown = math.expm1(x)
        zeroth = -k * grown
        if order == 1:
            return zeroth, 0.0, 0.0
        c = self.config
        first = zeroth / 2 if order == 2 and c.solver_type == "midpoint" else -k * (grown / x - 1)
        after, now, before = (self._lambda(i) for i in (place + 1, place, place - 1))
        r0 = (now - before) / (after - now)
        if order == 2:
            return zeroth + first / r0, -first / r0, 0.0
        r1 = (before - self._lambda(place - 2)) / (after - now)
        second = -k * ((grown - x) / x**2 + (0.5 if c.algorithm_type.startswith("sde") else -0.5))
        change = (first * r0 + second) / (r0 + r1)
        newest, older = (first + change) / r0, change / r1
        return zeroth + newest, -newest - older, older

    def _estimate(self, level: float, alpha: float, sigma: float) -> tuple[float, float]:
        """p and q of the estimate p·x + q·e, of x0 or of the noise."""
        kind = self.config.prediction_type
        if kind == "flow_prediction":
            return 1.0, -level
        if not self._of_noise or self.config.thresholding:
            return original_from(alpha, sigma, kind)
        if kind == "epsilon":
            return 0.0, 1.0
        return (1 / sigma, -alpha / sigma) if kind == "sample" else (sigma, alpha)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = α·x0 + σ·noise for one timestep per sample, [B]; plain torch. α and σ follow from its level."""
        alpha, sigma = self._signal_and_noise(self._levels_of(original_samples, timesteps))
        return alpha * original_samples + sigma * noise
