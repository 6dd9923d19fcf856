"""The public functions of the family: their checks, and nothing of how a step is computed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aieng_kernels.diffusion import ops
from aieng_kernels.diffusion.coefficients import Coefficients, PredictionType, VarianceType, ddim_coefficients, ddpm_coefficients


class StepOutput(NamedTuple):
    """The previous, less noisy sample, and the predicted original (None where it was not asked for)."""

    prev_sample: Tensor
    pred_original_sample: Tensor | None


def diffusion_step(
    sample: Tensor,
    model_output: Tensor,
    coefficients: Coefficients,
    *,
    uncond: Tensor | None = None,
    guidance: float = 1.0,
    noise: Tensor | None = None,
    seed: int | None = None,
    offset: int = 0,
    return_original: bool = True,
    history: Tensor | None = None,
    rescale: float = 0.0,
    threshold: tuple[float, float] | None = None,
    out: tuple[Tensor, Tensor | None] | None = None,
    backend: str | None = None,
) -> StepOutput:
    """One sampling step in one pass over memory; not differentiable.

    ``e = u + g·(c − u)``, ``x0 = clip(p·x + q·e)``, ``prev = r·x0 + s·x + t·e + h·y + σ·z`` (arXiv:2207.12598, equation 6, with
    guidance g = 1 + w; the samplers' equations are at their coefficients).

    ``sample`` x, ``model_output`` c, ``uncond`` u, ``noise`` z, ``history`` y (what a multistep sampler keeps of the step before;
    without it h is not read): one shape and device, one dtype of float16, bfloat16, float32 and
    float64, any strides. Without ``uncond`` there is no guidance. Without ``noise``, and with σ ≠ 0, z comes from the Philox stream
    (``seed``, ``offset``), both in [0, 2⁶³); the seed is drawn from torch's default generator if not given. ``out``: contiguous
    tensors for the two results (the second may be None), which may be the inputs themselves; otherwise results are new.

    Two options look at each whole sample of the first dimension before its step. ``rescale`` φ in [0, 1] multiplies e by
    ``φ·std(c)/std(e) + 1 − φ`` after guidance (arXiv:2305.08891, equations 15 and 16). ``threshold`` (ratio, most) clips x0 to
    ±s and divides it by s, the quantile ``ratio`` of the sample's |x0|, at least 1 and at most ``most`` (arXiv:2205.11487,
    section 2.3). Each backend has them; one pass over every sample comes before the step.
    ``backend`` forces an implementation by name.

    Raises TypeError or ValueError that names the argument; RuntimeError where a gradient would be needed.
    """
    _check(sample, model_output, uncond, noise, history)
    _check_samples(sample, coefficients, rescale, threshold)
    if not isinstance(coefficients, Coefficients):
        raise TypeError(f"coefficients must be Coefficients, not {type(coefficients).__name__}")
    if not hasattr(guidance, "__float__"):
        raise TypeError(f"guidance must be a number, not {type(guidance).__name__}")
    if noise is None and coefficients.sigma != 0 and seed is None:
        seed = draw_seed()
    seed = 0 if seed is None else seed
    for name, number in (("seed", seed), ("offset", offset)):
        if not isinstance(number, (int, torch.SymInt)):
            raise TypeError(f"{name} must be an int, not {type(number).__name__}")
        if not 0 <= number < 2**63:
            raise ValueError(f"{name}={number} must be in [0, 2**63)")
    scalars = (ops.pack(coefficients), float(guidance), seed, offset, backend)
    more = (history, float(rescale), None if threshold is None else [float(x) for x in threshold])
    if out is not None:
        _check_out(out, sample)
        torch.ops.aieng.diffusion_step.out(sample, model_output, uncond, noise, *scalars, *more, out=out[0], x0=out[1])
        return StepOutput(*out)
    results = ops.step(sample, model_output, uncond, noise, *scalars, return_original, *more)
    return StepOutput(results[0], results[1] if return_original else None)


def ddim_step(
    sample: Tensor,
    model_output: Tensor,
    *,
    alpha_prod: float,
    alpha_prod_prev: float,
    eta: float = 0.0,
    prediction_type: PredictionType = "epsilon",
    clip: float | None = None,
    use_clipped_model_output: bool = False,
    uncond: Tensor | None = None,
    guidance: float = 1.0,
    noise: Tensor | None = None,
    seed: int | None = None,
    offset: int = 0,
    return_original: bool = True,
    backend: str | None = None,
) -> StepOutput:
    """One DDIM step from cumulative product ᾱ_t to ᾱ_prev: arXiv:2010.02502, equations 12 and 16.

    The schedule's arguments are those of :func:`~aieng_kernels.diffusion.coefficients.ddim_coefficients`, the tensors and the
    rest those of :func:`diffusion_step`, and so are the exceptions.
    """
    coefficients = ddim_coefficients(
        alpha_prod,
        alpha_prod_prev,
        eta=eta,
        prediction_type=prediction_type,
        clip=clip,
        use_clipped_model_output=use_clipped_model_output,
    )
    return diffusion_step(
        sample,
        model_output,
        coefficients,
        uncond=uncond,
        guidance=guidance,
        noise=noise,
        seed=seed,
        offset=offset,
        return_original=return_original,
        backend=backend,
    )


def ddpm_step(
    sample: Tensor,
    model_output: Tensor,
    *,
    alpha_prod: float,
    alpha_prod_prev: float,
    variance_type: VarianceType = "fixed_small",
    prediction_type: PredictionType = "epsilon",
    clip: float | None = None,
    last: bool = False,
    uncond: Tensor | None = None,
    guidance: float = 1.0,
    noise: Tensor | None = None,
    seed: int | None = None,
    offset: int = 0,
    return_original: bool = True,
    backend: str | None = None,
) -> StepOutput:
    """One DDPM ancestral step from ᾱ_t to ᾱ_prev: arXiv:2006.11239, equations 6, 7 and 15, algorithm 2.

    The schedule's arguments are those of :func:`~aieng_kernels.diffusion.coefficients.ddpm_coefficients`, the tensors and the
    rest those of :func:`diffusion_step`, and so are the exceptions.
    """
    coefficients = ddpm_coefficients(
        alpha_prod, alpha_prod_prev, variance_type=variance_type, prediction_type=prediction_type, clip=clip, last=last
    )
    return diffusion_step(
        sample,
        model_output,
        coefficients,
        uncond=uncond,
        guidance=guidance,
        noise=noise,
        seed=seed,
        offset=offset,
        return_original=return_original,
        backend=backend,
    )


def draw_seed() -> int:
    """A seed for the in-kernel noise from torch's default generator, so that ``torch.manual_seed`` fixes a run."""
    return int(torch.empty((), dtype=torch.int64).random_())


def _check(sample: Tensor, model_output: Tensor, uncond: Tensor | None, noise: Tensor | None, history: Tensor | None) -> None:
    if not isinstance(sample, Tensor):
        raise TypeError(f"sample must be a Tensor, not {type(sample).__name__}")
    if sample.is_nested or sample.layout is not torch.strided:
        raise TypeError(f"sample must be a dense tensor, not {'nested' if sample.is_nested else sample.layout}")
    if sample.dtype not in ops.DTYPES:
        raise TypeError(f"sample must be one of {', '.join(ops.DTYPES.values())}, not {sample.dtype}")
    shape, dtype, device = sample.shape, sample.dtype, sample.device
    grad = sample.requires_grad
    for name, x in (("model_output", model_output), ("uncond", uncond), ("noise", noise), ("history", history)):
        if x is None and name != "model_output":
            continue
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a Tensor, not {type(x).__name__}")
        if x.is_nested or x.layout is not torch.strided:
            raise TypeError(f"{name} must be a dense tensor, not {'nested' if x.is_nested else x.layout}")
        if x.shape != shape:
            raise ValueError(f"{name} must have sample's shape {tuple(shape)}, not {tuple(x.shape)}")
        if x.dtype != dtype:
            raise TypeError(f"{name} must have sample's dtype {dtype}, not {x.dtype}")
        if x.device != device:
            raise ValueError(f"{name} must be on sample's device {device}, not {x.device}")
        grad = grad or x.requires_grad
    if grad and torch.is_grad_enabled():
        raise RuntimeError("a diffusion step is not differentiable: call it under torch.no_grad(), or detach its inputs")


def _check_samples(sample: Tensor, coefficients: Coefficients, rescale: float, threshold: tuple[float, float] | None) -> None:
    if not hasattr(rescale, "__float__"):
        raise TypeError(f"rescale must be a number, not {type(rescale).__name__}")
    if not 0 <= rescale <= 1:
        raise ValueError(f"rescale={rescale} must be in [0, 1]")
    if (rescale or threshold is not None) and sample.ndim < 2:
        raise ValueError("sample must have a batch dimension and others for rescale and threshold")
    if threshold is None:
        return
    if not isinstance(threshold, tuple) or len(threshold) != 2 or not all(hasattr(x, "__float__") for x in threshold):
        raise TypeError("threshold must be a tuple of two numbers: the quantile and the largest bound")
    if not (0 < threshold[0] <= 1 and threshold[1] > 0):
        raise ValueError(f"threshold={threshold} must be a quantile in (0, 1] and a bound above 0")
    if isinstance(coefficients, Coefficients) and coefficients.clip is not None:
        raise ValueError("threshold takes the place of a clip: coefficients.clip must be None")


def _check_out(out: tuple[Tensor, Tensor | None], sample: Tensor) -> None:
    if not isinstance(out, tuple) or len(out) != 2:
        raise TypeError("out must be a tuple of two: the previous sample, and the original or None")
    for n, x in enumerate(out):
        if x is None and n == 1:
            continue
        if not isinstance(x, Tensor):
            raise TypeError(f"out[{n}] must be a Tensor, not {type(x).__name__}")
        if (x.shape, x.dtype, x.device) != (sample.shape, sample.dtype, sample.device):
            raise ValueError(
                f"out[{n}] must have sample's shape, dtype and device: {tuple(sample.shape)}, {sample.dtype}, {sample.device}"
            )
        if not x.is_contiguous():
            raise ValueError(f"out[{n}] must be contiguous")
