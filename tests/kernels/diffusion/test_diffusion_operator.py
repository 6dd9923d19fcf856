"""The operator and the public functions: torch's own checks, compilation, and what is said of wrong arguments."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from aieng_kernels.diffusion import Coefficients, ddim_coefficients, ddim_step, ddpm_coefficients, ddpm_step, diffusion_step

K = ddim_coefficients(0.3, 0.5, eta=0.5, clip=1.0)
PACKED = [*K[:6], 1.0, 0.0]


def tensors(n: int, *shape: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape or (2, 3, 5), generator=generator).to(dtype) for _ in range(n)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_opcheck(dtype: torch.dtype) -> None:
    x, c, u, z, out, x0 = tensors(6, dtype=dtype)
    scalars = (PACKED, 2.0, 7, 0, None)
    for uncond, noise in ((u, z), (None, None)):
        for original in (True, False):
            torch.library.opcheck(torch.ops.aieng.diffusion_step.default, (x, c, uncond, noise, *scalars, original))
        for target in (x0, None):
            torch.library.opcheck(torch.ops.aieng.diffusion_step.out, (x, c, uncond, noise, *scalars), {"out": out, "x0": target})


@pytest.mark.parametrize("noise", ["given", "philox"])
def test_compiles_without_a_graph_break(noise: str) -> None:
    x, c, u, z = tensors(4)

    def step(x: torch.Tensor, c: torch.Tensor, u: torch.Tensor, z: torch.Tensor) -> Any:
        given: dict[str, Any] = {"noise": z} if noise == "given" else {"seed": 5}
        return ddim_step(x, c, alpha_prod=0.3, alpha_prod_prev=0.5, eta=0.5, uncond=u, guidance=2.0, **given)

    def into(x: torch.Tensor, c: torch.Tensor, u: torch.Tensor, z: torch.Tensor) -> Any:
        out = torch.empty_like(x)
        diffusion_step(x, c, K, noise=z, out=(out, None))
        return out * 2, u

    for function in (step, into):
        for got, want in zip(
            torch.compile(function, fullgraph=True, backend="aot_eager")(x, c, u, z), function(x, c, u, z), strict=True
        ):
            assert torch.equal(got, want)


def test_any_strides_are_taken_and_results_are_contiguous() -> None:
    x, c, u, z = (t.permute(0, 2, 3, 1) for t in tensors(4, 2, 3, 4, 5))
    want = diffusion_step(*(t.contiguous() for t in (x, c)), K, uncond=u.contiguous(), guidance=3.0, noise=z.contiguous())
    got = diffusion_step(x, c.contiguous(), K, uncond=u, guidance=3.0, noise=z)
    for a, b in zip(got, want, strict=True):
        assert a is not None
        assert b is not None
        assert a.is_contiguous()
        assert torch.equal(a, b)


def test_ddim_and_ddpm_steps_are_their_coefficients() -> None:
    x, c, z = tensors(3)
    ddim = ddim_step(x, c, alpha_prod=0.3, alpha_prod_prev=0.5, eta=0.5, clip=1.0, noise=z)
    assert torch.equal(ddim.prev_sample, diffusion_step(x, c, K, noise=z).prev_sample)
    ddpm = ddpm_step(x, c, alpha_prod=0.3, alpha_prod_prev=0.5, variance_type="fixed_large", noise=z)
    k = ddpm_coefficients(0.3, 0.5, variance_type="fixed_large")
    assert torch.equal(ddpm.prev_sample, diffusion_step(x, c, k, noise=z).prev_sample)


def test_ddim_at_eta_one_is_ddpm() -> None:
    """arXiv:2010.02502, section 4.1: σ(1) makes the generative process a DDPM."""
    x, c, z = tensors(3, dtype=torch.float64)
    a = ddim_step(x, c, alpha_prod=0.3, alpha_prod_prev=0.5, noise=z, eta=1.0)
    b = ddpm_step(x, c, alpha_prod=0.3, alpha_prod_prev=0.5, noise=z)
    assert torch.allclose(a.prev_sample, b.prev_sample, rtol=1e-12)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_prediction_types_agree(prediction: Any) -> None:
    """From one x0 and ε, each kind of output leads to the same sample."""
    x0, noise = tensors(2, dtype=torch.float64)
    a, b = math.sqrt(0.3), math.sqrt(0.7)
    output = {"epsilon": noise, "sample": x0, "v_prediction": a * noise - b * x0}[prediction]
    got = ddim_step(a * x0 + b * noise, output, alpha_prod=0.3, alpha_prod_prev=0.5, prediction_type=prediction)
    assert got.pred_original_sample is not None
    assert torch.allclose(got.pred_original_sample, x0, rtol=1e-9, atol=1e-12)
    assert torch.allclose(got.prev_sample, math.sqrt(0.5) * (x0 + noise), rtol=1e-9, atol=1e-12)


def test_a_seed_not_given_comes_from_the_default_generator() -> None:
    x, c = tensors(2)
    torch.manual_seed(3)
    first, second = (diffusion_step(x, c, K).prev_sample for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(diffusion_step(x, c, K).prev_sample, first)
    assert not torch.equal(first, second)


def test_the_original_can_be_left_out() -> None:
    x, c = tensors(2)
    whole, part = (diffusion_step(x, c, K, seed=1, return_original=r) for r in (True, False))
    assert part.pred_original_sample is None
    assert torch.equal(part.prev_sample, whole.prev_sample)


X, C = tensors(2)
WRONG = [
    (TypeError, "sample must be a Tensor", {"sample": [1.0]}),
    (TypeError, "sample must be one of", {"sample": X.int()}),
    (TypeError, "sample must be a dense tensor", {"sample": X.to_sparse()}),
    (TypeError, "model_output must be a Tensor", {"model_output": None}),
    (TypeError, "model_output must be a dense tensor", {"model_output": C.to_sparse()}),
    (TypeError, "coefficients must be", {"coefficients": (1.0, 2.0)}),
    (TypeError, "guidance must be a number", {"guidance": "x"}),
    (TypeError, "seed must be an int", {"seed": 1.5}),
    (TypeError, "offset must be an int", {"offset": "1"}),
    (ValueError, "model_output must have sample's shape", {"model_output": C[:1]}),
    (TypeError, "model_output must have sample's dtype", {"model_output": C.half()}),
    (ValueError, "uncond must have sample's shape", {"uncond": C[..., :1]}),
    (TypeError, "noise must have sample's dtype", {"noise": C.double()}),
    (ValueError, "noise must be on sample's device", {"noise": C.to("meta")}),
    (ValueError, "seed=-1", {"seed": -1}),
    (ValueError, "offset=", {"offset": 2**63}),
    (ValueError, "backend='nothing'", {"backend": "nothing"}),
    (TypeError, r"out\[0\] must be a Tensor", {"out": (None, None)}),
    (TypeError, "out must be a tuple of two", {"out": C.clone()}),
    (TypeError, "out must be a tuple of two", {"out": (C.clone(),)}),
    (ValueError, r"out\[0\] must have sample's shape, dtype and device", {"out": (C.to("meta"), None)}),
    (ValueError, r"out\[1\] must have sample's shape", {"out": (C.clone(), C[:1].clone())}),
    (ValueError, r"out\[0\] must be contiguous", {"out": (torch.empty(5, 3, 2).permute(2, 1, 0), None)}),
    (ValueError, r"out\[1\] overlaps", {"out": (shared := torch.empty(2, 3, 5), shared)}),
    (RuntimeError, "not differentiable", {"sample": X.clone().requires_grad_()}),
]


@pytest.mark.parametrize(("kind", "message", "change"), WRONG)
def test_wrong_arguments_are_named(kind: type[Exception], message: str, change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"sample": X, "model_output": C, "coefficients": K, **change}
    with pytest.raises(kind, match=message):
        diffusion_step(**arguments)


def test_a_result_over_part_of_an_input_is_refused() -> None:
    memory = torch.randn(45)
    x, out = memory[:30].view(2, 3, 5), memory[15:].view(2, 3, 5)
    with pytest.raises(ValueError, match=r"out\[0\] overlaps"):
        diffusion_step(x, C, K, out=(out, None))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("alpha_prod=", lambda: ddim_coefficients(1.0, 1.0)),
        ("alpha_prod=", lambda: ddpm_coefficients(math.nan, 0.5)),
        ("alpha_prod_prev=", lambda: ddpm_coefficients(0.5, 0.3)),
        ("alpha_prod_prev=", lambda: ddim_coefficients(0.5, 1.1)),
        ("eta=", lambda: ddim_coefficients(0.3, 0.5, eta=-0.1)),
        ("eta=", lambda: ddim_coefficients(0.3, 0.5, eta=9.0)),
        ("prediction_type=", lambda: ddim_coefficients(0.3, 0.5, prediction_type="x")),  # type: ignore[arg-type]
        ("prediction_type=", lambda: ddpm_coefficients(0.3, 0.5, prediction_type="x")),  # type: ignore[arg-type]
        ("variance_type=", lambda: ddpm_coefficients(0.3, 0.5, variance_type="learned")),  # type: ignore[arg-type]
    ],
)
def test_wrong_schedules_are_named(message: str, call: Any) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_zero_signal_clips_to_the_sign() -> None:
    """At ᾱ_t = 0 an ε prediction leaves x0 = ±∞, and clipping its sign."""
    x = torch.tensor([1.0, -1.0, 3.0])
    e = torch.tensor([0.5, -0.5, 4.0])
    x0 = ddpm_step(x, e, alpha_prod=0.0, alpha_prod_prev=0.1, clip=1.0, noise=x).pred_original_sample
    assert x0 is not None
    assert x0.tolist() == [1.0, -1.0, -1.0]


def test_coefficients_are_what_the_kernel_reads() -> None:
    assert Coefficients._fields == ("p", "q", "r", "s", "t", "sigma", "clip", "h")
