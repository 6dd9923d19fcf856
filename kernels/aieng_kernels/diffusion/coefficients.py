"""The scalars of one sampling step, from the schedule's cumulative products, for every prediction type.

Samplers are ``prev = r·x0 + s·x + t·e + h·y + σ·z`` with ``x0 = clip(p·x + q·e)``, where e is the model's output after guidance
and y a tensor kept from the step before; DDIM and DDPM have none (h = 0).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeVar

import numpy as np

PredictionType = Literal["epsilon", "sample", "v_prediction"]
VarianceType = Literal["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"]

Number = TypeVar("Number", float, np.float32)
"""A Python float, or numpy.float32 to round each intermediate as a float32 schedule does (1 − ᾱ_t/ᾱ_prev loses digits there)."""

SMALLEST_ROOT = 2.0**-100
"""Stands for √ᾱ_t = 0 under epsilon prediction, where x0 is ±∞: a power of two, so the clipped sign is still exact."""


class Coefficients(NamedTuple):
    """Scalars of one step; ``clip`` bounds x0 to ±clip, None leaves it; ``h`` is that of the history, read only with one."""

    p: float
    q: float
    r: float
    s: float
    t: float
    sigma: float
    clip: float | None = None
    h: float = 0.0


def ddim_coefficients(
    alpha_prod: Number,
    alpha_prod_prev: Number,
    *,
    eta: float = 0.0,
    prediction_type: PredictionType = "epsilon",
    clip: float | None = None,
    use_clipped_model_output: bool = False,
) -> Coefficients:
    """Coefficients of DDIM (arXiv:2010.02502, equations 12 and 16).

    ``prev = √ᾱ_prev·x0 + √(1 − ᾱ_prev − σ²)·ε + σ·z`` with ``σ = η·√((1 − ᾱ_prev)/(1 − ᾱ_t))·√(1 − ᾱ_t/ᾱ_prev)``. ε is the
    predicted noise, or with ``use_clipped_model_output`` the noise implied by the clipped x0.

    Raises ValueError naming the argument for cumulative products outside 0 ≤ ᾱ_t ≤ ᾱ_prev ≤ 1 or with ᾱ_t = 1, a negative
    ``eta`` or one that leaves 1 − ᾱ_prev − σ² below zero, and an unknown ``prediction_type``.
    """
    one = _checked(alpha_prod, alpha_prod_prev)
    beta_prod, beta_prod_prev = one - alpha_prod, one - alpha_prod_prev
    variance = (beta_prod_prev / beta_prod) * (one - alpha_prod / alpha_prod_prev)
    sigma = type(one)(eta) * _root(variance)
    rest = beta_prod_prev - sigma * sigma
    if not eta >= 0 or rest < -1e-6:
        raise ValueError(f"eta={eta} must be at least 0 and leave 1 - alpha_prod_prev - sigma**2 = {rest} at or above 0")
    a, b = float(_root(alpha_prod)), float(_root(beta_prod))
    direction = float(_root(max(rest, one - one)))
    p, q = original_from(a, b, prediction_type)
    r, s, t = float(_root(alpha_prod_prev)), 0.0, 0.0
    if use_clipped_model_output:
        r, s = r - direction * a / b, direction / b
    elif prediction_type == "epsilon":
        t = direction
    elif prediction_type == "sample":
        s, t = direction / b, -direction * a / b
    else:
        s, t = direction * b, direction * a
    return Coefficients(p, q, r, s, t, float(sigma), clip)


def ddpm_coefficients(
    alpha_prod: Number,
    alpha_prod_prev: Number,
    *,
    variance_type: VarianceType = "fixed_small",
    prediction_type: PredictionType = "epsilon",
    clip: float | None = None,
    last: bool = False,
) -> Coefficients:
    """Coefficients of the DDPM posterior (arXiv:2006.11239, equations 6 and 7); ``last`` adds no noise (algorithm 2, t = 1).

    ``prev = √ᾱ_prev·β_t/(1 − ᾱ_t)·x0 + √α_t·(1 − ᾱ_prev)/(1 − ᾱ_t)·x + σ·z`` with α_t = ᾱ_t/ᾱ_prev, β_t = 1 − α_t, and
    σ² = β_t·(1 − ᾱ_prev)/(1 − ᾱ_t) (``fixed_small``) or β_t (``fixed_large``); the ``_log`` variants are the same variance,
    taken through its logarithm where they were introduced.

    Raises ValueError naming the argument for cumulative products outside 0 ≤ ᾱ_t ≤ ᾱ_prev ≤ 1 or with ᾱ_t = 1, and for an
    unknown ``variance_type`` or ``prediction_type``.
    """
    one = _checked(alpha_prod, alpha_prod_prev)
    if variance_type not in ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"):
        raise ValueError(f"variance_type={variance_type!r} must be fixed_small, fixed_small_log, fixed_large or fixed_large_log")
    beta_prod, beta_prod_prev = one - alpha_prod, one - alpha_prod_prev
    alpha = alpha_prod / alpha_prod_prev
    beta = one - alpha
    p, q = original_from(float(_root(alpha_prod)), float(_root(beta_prod)), prediction_type)
    r = float(_root(alpha_prod_prev) * beta / beta_prod)
    s = float(_root(alpha) * beta_prod_prev / beta_prod)
    small = max(beta_prod_prev / beta_prod * beta, type(one)(1e-20))
    sigma = 0.0 if last else float(_root(small if variance_type.startswith("fixed_small") else beta))
    return Coefficients(p, q, r, s, 0.0, sigma, clip)


def original_from(a: float, b: float, prediction_type: str) -> tuple[float, float]:
    """p and q of x0 = p·x + q·e for a = √ᾱ_t and b = √(1 − ᾱ_t); v-prediction is arXiv:2202.00512, appendix D."""
    if prediction_type == "epsilon":
        a = max(a, SMALLEST_ROOT)
        return 1.0 / a, -b / a
    if prediction_type == "sample":
        return 0.0, 1.0
    if prediction_type == "v_prediction":
        return a, -b
    raise ValueError(f"prediction_type={prediction_type!r} must be epsilon, sample or v_prediction")


def _checked(alpha_prod: Number, alpha_prod_prev: Number) -> Number:
    """The number 1 in the arguments' type, after their ranges are checked."""
    if not 0 <= alpha_prod < 1:
        raise ValueError(f"alpha_prod={alpha_prod} must be in [0, 1)")
    if not (alpha_prod <= alpha_prod_prev <= 1 and alpha_prod_prev > 0):
        raise ValueError(f"alpha_prod_prev={alpha_prod_prev} must be in (0, 1] and not under alpha_prod={alpha_prod}")
    return type(alpha_prod)(1)


def _root(x: Number) -> Number:
    """Square root in x's own type: rounding a double's root once more to float32 gives float32's own root."""
    return type(x)(math.sqrt(x))
