"""What goes beyond DDPM and DDIM: a history, rescaled guidance and dynamic thresholding, against their definitions in float64."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from aieng_kernels._family import Implementation, declared
from aieng_kernels.diffusion import Coefficients, diffusion_step
from aieng_kernels.diffusion.reference import philox_normal
from torch import Tensor

HERE = [i for i in declared("diffusion") if i.unsupported() is None and (i.device == "cpu" or torch.cuda.is_available())]
WHOLE = [i for i in HERE if getattr(i.load(), "whole_samples", False)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
K = Coefficients(1.3, -0.8, 0.6, 0.3, -0.2, 0.4, None, -0.7)
SEED, OFFSET, GUIDANCE = 2**40 + 3, 2**33 + 9, 5.0
SHAPES = [(1, 1), (2, 1, 3), (3, 5), (3, 3, 7, 11), (2, 4, 33, 17), (5, 1030)]

implementations = pytest.mark.parametrize("implementation", HERE, ids=lambda i: f"{i.name}-{i.device}")
with_samples = pytest.mark.parametrize("implementation", WHOLE, ids=lambda i: f"{i.name}-{i.device}")
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def made(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    names = ("sample", "model_output", "uncond", "noise", "history")
    return {n: torch.randn(shape, generator=generator).to(device, dtype) for n in names}


def definition(
    k: Coefficients, x: Tensor, c: Tensor, u: Tensor | None, y: Tensor | None, z: Tensor, rescale: float, threshold: Any
) -> tuple[Tensor, Tensor]:
    """In the inputs' dtype: a sample at a time, as the papers write it."""
    previous, original = [], []
    for n in range(x.shape[0]):
        e = c[n]
        if u is not None:
            e = u[n] + GUIDANCE * (c[n] - u[n])
            if rescale:
                e = rescale * (e * (c[n].std() / e.std())) + (1 - rescale) * e
        x0 = k.p * x[n] + k.q * e
        if k.clip is not None:
            x0 = x0.clamp(-k.clip, k.clip)
        if threshold is not None:
            s = torch.quantile(x0.abs().flatten(), threshold[0]).clamp(1, threshold[1])
            x0 = x0.clamp(-s, s) / s
        previous.append(k.r * x0 + k.s * x[n] + k.t * e + (0 if y is None else k.h * y[n]) + k.sigma * z[n])
        original.append(x0)
    return torch.stack(previous), torch.stack(original)


def check(
    implementation: Implementation,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    noise: str = "given",
    guided: bool = True,
    k: Coefficients = K,
    history: bool = True,
    rescale: float = 0.0,
    threshold: tuple[float, float] | None = None,
    target: str | None = None,
) -> None:
    t = made(shape, dtype, implementation.device)
    z = t["noise"].double()
    if noise == "philox":
        z = philox_normal(z.numel(), SEED, OFFSET, torch.float64, z.device).view(shape)
    u, y = t["uncond"] if guided else None, t["history"] if history else None
    wide_u, wide_y = (None if v is None else v.double() for v in (u, y))
    exact = definition(k, t["sample"].double(), t["model_output"].double(), wide_u, wide_y, z, rescale, threshold)
    given = {"uncond": u, "history": y, "noise": t["noise"] if noise == "given" else None, "rescale": rescale}
    how: dict[str, Any] = {"guidance": GUIDANCE, "seed": SEED, "offset": OFFSET, "threshold": threshold, **given}
    out = (torch.empty_like(t["sample"]) if target is None else t[target], torch.empty_like(t["sample"]))
    diffusion_step(t["sample"], t["model_output"], k, **how, out=out, backend=implementation.name)
    for got, want in zip(out, exact, strict=True):
        # Terms stay under 100, some fifteen float32 operations each; then one rounding to the dtype.
        torch.testing.assert_close(got.double(), want, atol=100 * 15 * 2.0**-24, rtol=torch.finfo(dtype).eps / 2 + 2.0**-22)


@implementations
@dtypes
@pytest.mark.parametrize("shape", [(1,), *SHAPES], ids=str)
def test_history(implementation: Implementation, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    for noise, guided, clip in itertools.product(("given", "philox"), (False, True), (None, 0.9)):
        check(implementation, dtype, shape, noise, guided, K._replace(clip=clip))
    check(implementation, dtype, shape, k=K._replace(sigma=0.0))


@implementations
def test_without_a_history_its_coefficient_is_not_read(implementation: Implementation) -> None:
    t = made((3, 70), torch.float32, implementation.device)
    with_h, without = (
        diffusion_step(t["sample"], t["model_output"], k, noise=t["noise"], backend=implementation.name)
        for k in (K._replace(h=float("nan")), K._replace(h=0.0))
    )
    assert torch.equal(with_h.prev_sample, without.prev_sample)


@with_samples
@dtypes
@pytest.mark.parametrize("shape", SHAPES[2:], ids=str)
def test_rescaled_guidance(implementation: Implementation, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    for noise, rescale in itertools.product(("given", "philox"), (0.7, 1.0)):
        check(implementation, dtype, shape, noise, k=K._replace(clip=2.0), rescale=rescale)
    check(implementation, dtype, shape, guided=False, rescale=0.7)


@with_samples
def test_rescaling_does_not_lose_a_small_deviation_from_a_large_mean(implementation: Implementation) -> None:
    c, u = 1000 + torch.randn(2, 4000, dtype=torch.float64), 1000 + torch.randn(2, 4000, dtype=torch.float64)
    c, u = (x.to(implementation.device, torch.float32) for x in (c, u))
    only_e = Coefficients(0.0, 1.0, 1.0, 0.0, 0.0, 0.0)
    got = diffusion_step(c, c, only_e, uncond=u, guidance=2.0, rescale=1.0, backend=implementation.name).prev_sample
    e = u.double() + 2 * (c.double() - u.double())
    want = e * (c.double().std(1) / e.std(1))[:, None]
    torch.testing.assert_close(got.double(), want, atol=0, rtol=1e-5)


@with_samples
@dtypes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.995, 1.0])
def test_thresholding(implementation: Implementation, dtype: torch.dtype, shape: tuple[int, ...], ratio: float) -> None:
    for noise, most in itertools.product(("given", "philox"), (1.0, 1.5, 1000.0)):
        check(implementation, dtype, shape, noise, history=noise == "given", threshold=(ratio, most))
    if torch.Size(shape).numel() > 6:
        check(implementation, dtype, shape, rescale=0.5, threshold=(ratio, 10.0))


@with_samples
def test_quantiles_between_equal_and_neighbouring_magnitudes(implementation: Implementation) -> None:
    """Every rank and between, of numbers that tie and that differ in the last bit."""
    x = torch.tensor([[2.0, -2.0, 2.0, 3.0, -3.0, 3.0 + 2**-22, 0.0, -7.0, 1e-40, 5.0, 5.0]], device=implementation.device)
    only_x = Coefficients(1.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    for ratio in torch.linspace(0.05, 1, 41).tolist():
        got = diffusion_step(x, x, only_x, threshold=(ratio, 1e30), backend=implementation.name).prev_sample
        s = torch.quantile(x.double().abs(), ratio, dim=1).clamp(min=1)
        torch.testing.assert_close(got.double(), x.double().clamp(-s, s) / s, atol=1e-7, rtol=1e-6)


@with_samples
@pytest.mark.parametrize("ratio", [0.5, 0.99, 0.995, 1.0])
@pytest.mark.parametrize("large", ["anywhere", "every twelfth", "all but every twelfth", "first", "none"])
def test_quantiles_of_large_samples(implementation: Implementation, ratio: float, large: str) -> None:
    """Wherever the largest lie: the CPU probes a sample at even distances, here of twelve, to leave most of it out."""
    x = torch.randn(2, 12288, generator=torch.Generator().manual_seed(0))
    if large == "none":
        x[:] = x.sign() * 3
    elif large != "anywhere":
        places = torch.arange(12288)
        x[:, {"every twelfth": places % 12 == 0, "all but every twelfth": places % 12 != 0, "first": places < 400}[large]] *= 100
    x = x.to(implementation.device)
    got = diffusion_step(x, x, Coefficients(1.0, 0.0, 1.0, 0.0, 0.0, 0.0), threshold=(ratio, 1e30), backend=implementation.name)
    # torch's own, the definition's, has its rank in float32; a rank beside it would be a thousandth away
    s = torch.quantile(x.double().abs(), ratio, dim=1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(got.prev_sample.double(), x.double().clamp(-s, s) / s, atol=1e-6, rtol=1e-5)


@with_samples
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("size", [50, 5000])
def test_a_sample_with_no_quantile_spoils_itself_alone(implementation: Implementation, bad: float, size: int) -> None:
    """NaN makes its sample NaN, as torch.quantile does; an infinity is one large number, held by the bound."""
    x = torch.randn(3, size, device=implementation.device)
    x[1, 7] = bad
    only_x = Coefficients(1.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    got = diffusion_step(x, torch.zeros_like(x), only_x, threshold=(1 - 4.5 / size, 4.0), backend=implementation.name)[1]
    assert got is not None
    assert not got[[0, 2]].isnan().any()
    if bad != bad:
        assert got[1].isnan().all()
    else:
        assert got[1, 7] == (1.0 if bad > 0 else -1.0)
        assert not got[1].isnan().any()


@implementations
@dtypes
@pytest.mark.parametrize("target", ["sample", "model_output", "history"])
def test_in_place(implementation: Implementation, dtype: torch.dtype, target: str) -> None:
    check(implementation, dtype, (3, 171), target=target)
    if implementation in WHOLE:
        check(implementation, dtype, (3, 171), rescale=0.7, threshold=(0.9, 3.0), target=target)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_change_the_numbers(threads: int) -> None:
    before = torch.get_num_threads()
    t = made((3, 4099), torch.float32, "cpu")
    how: dict[str, Any] = {"uncond": t["uncond"], "guidance": 5.0, "seed": 1, "rescale": 0.7, "threshold": (0.99, 3.0)}
    try:
        torch.set_num_threads(1)
        want = diffusion_step(t["sample"], t["model_output"], K, **how).prev_sample
        torch.set_num_threads(threads)
        assert torch.equal(diffusion_step(t["sample"], t["model_output"], K, **how).prev_sample, want)
    finally:
        torch.set_num_threads(before)


def test_no_samples_and_empty_samples() -> None:
    for shape in ((0, 5), (3, 0)):
        x = torch.empty(shape)
        for how in ({"rescale": 0.5, "uncond": x}, {"threshold": (0.9, 2.0)}):
            if shape == (3, 0) and "threshold" in how:
                continue  # an empty sample has no quantile
            assert diffusion_step(x, x, K, noise=x, **how).prev_sample.shape == shape


X = torch.randn(2, 3, 5)


@pytest.mark.parametrize(
    ("kind", "message", "change"),
    [
        (ValueError, "history must have sample's shape", {"history": X[:1]}),
        (TypeError, "history must be a Tensor", {"history": 1.0}),
        (TypeError, "rescale must be a number", {"rescale": "x"}),
        (ValueError, "rescale=1.5", {"rescale": 1.5}),
        (TypeError, "threshold must be a tuple", {"threshold": 0.9}),
        (ValueError, "threshold=", {"threshold": (0.0, 1.0)}),
        (ValueError, "threshold takes the place of a clip", {"threshold": (0.9, 1.0), "coefficients": K._replace(clip=1.0)}),
        (ValueError, "batch dimension", {"sample": X[0, 0], "model_output": X[0, 0], "noise": X[0, 0], "threshold": (0.9, 1.0)}),
    ],
)
def test_wrong_arguments_are_named(kind: type[Exception], message: str, change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"sample": X, "model_output": X, "coefficients": K, "noise": X, **change}
    with pytest.raises(kind, match=message):
        diffusion_step(**arguments)


def test_opcheck() -> None:
    t = made((2, 3, 5), torch.float32, "cpu")
    scalars = ([*K[:6], torch.inf, K.h], 2.0, 7, 0, None)
    tensors = (t["sample"], t["model_output"], t["uncond"], t["noise"])
    more = (t["history"], 0.5, [0.9, 2.0])
    torch.library.opcheck(torch.ops.aieng.diffusion_step.default, (*tensors, *scalars, True, *more))
    out = {"out": torch.empty(2, 3, 5), "x0": torch.empty(2, 3, 5)}
    torch.library.opcheck(torch.ops.aieng.diffusion_step.out, (*tensors, *scalars, *more), out)
