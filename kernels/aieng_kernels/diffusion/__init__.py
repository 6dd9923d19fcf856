"""Diffusion sampling steps: any sampler and prediction type, with classifier-free guidance, in one pass over memory.

One step is, for every element, with scalars from :mod:`~aieng_kernels.diffusion.coefficients`::

    e    = u + g·(c − u)                 g: guidance, c, u: outputs with and without the condition; e = c if u is not given
    x0   = p·x + q·e, clipped to ±clip if asked
    prev = r·x0 + s·x + t·e + h·y + σ·z  y: history, a tensor kept from the step before, if given

Noise z is given, or made in the kernel, the same numbers from every backend to rounding: element i of the flattened tensor takes
lane i % 4 of the Philox-4×32-10 block with counter (i/4 low, i/4 high, offset low, offset high), low and high being 32-bit halves,
and key (seed low, seed high). A word w becomes ``u = float32(w)·2⁻³² + 2⁻³³``, rounded to nearest, in [2⁻³³, 1]. The block's
words as u0..u3 give ``√(−2 ln u0)·cos 2πu1``, ``√(−2 ln u0)·sin 2πu1``, ``√(−2 ln u2)·cos 2πu3``, ``√(−2 ln u2)·sin 2πu3``.
In C++ and CUDA this is ``csrc/common/philox.h``; in plain torch, ``reference.py``.

An implementation is a class under ``@implementation("diffusion", name, device=…, requires=…, dtypes=…, priority=…)`` with static

- ``supports(sample) -> str | None``: why it does not take this tensor (its size, say), or None. Dtype, device and what the
  machine has are settled by the decorator.
- ``step(sample, cond, uncond, noise, out, x0, *, coefficients, guidance, seed, offset, history=None) -> None``: ``sample``,
  ``cond`` and ``out`` are contiguous tensors of one shape and dtype on one device; ``uncond``, ``noise``, ``history`` and ``x0``
  (where the predicted original goes) are such tensors or None. ``coefficients`` is a :class:`Coefficients`; ``seed`` and ``offset``
  are in [0, 2⁶³). Arithmetic is in float32, memory is read and written once; σ = 0 reads no noise; NaN passes through clipping.
  Any count of elements, 0 included, is taken, and ``out`` or ``x0`` may be one of the inputs (never partly overlapping one).
- with ``whole_samples = True``, also the keywords ``rescale`` and ``threshold`` of :func:`diffusion_step`, for a contiguous batch.

Papers: DDPM arXiv:2006.11239, DDIM arXiv:2010.02502, v-prediction arXiv:2202.00512, classifier-free guidance arXiv:2207.12598.
"""

from aieng_kernels.diffusion.coefficients import Coefficients, ddim_coefficients, ddpm_coefficients
from aieng_kernels.diffusion.step import StepOutput, ddim_step, ddpm_step, diffusion_step

__all__ = ["Coefficients", "StepOutput", "ddim_coefficients", "ddim_step", "ddpm_coefficients", "ddpm_step", "diffusion_step"]
