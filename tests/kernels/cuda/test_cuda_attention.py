"""The CUDA attention kernels through the shim: output, log-sum-exp and every gradient against the definition in float64."""

from __future__ import annotations

import pytest
import torch
from aieng_kernels.attention import cuda
from aieng_kernels.attention.options import UNLIMITED, Options
from aieng_kernels.attention.reference import Reference, attention_gradients
from cuda_attention_cases import Shape, hold, made

pytestmark = pytest.mark.usefixtures("on_cpu")


SHAPES = [
    Shape(1, 1, 1, 1, 1, 8, False),
    Shape(2, 4, 2, 113, 203, 64, True),
    Shape(1, 3, 1, 239, 1, 32, False),
    Shape(2, 2, 2, 33, 97, 96, True),
    Shape(1, 2, 1, 130, 70, 128, True),
    Shape(1, 1, 1, 65, 129, 120, False),
    Shape(1, 2, 1, 66, 65, 192, True),
    Shape(1, 1, 1, 70, 34, 256, False),
    Shape(1, 2, 1, 200, 420, 64, True),
    Shape(1, 1, 1, 130, 560, 128, False),
    Shape(1, 2, 1, 300, 500, 128, True),
    Shape(1, 2, 1, 9, 0, 64, False),
    Shape(1, 2, 1, 0, 9, 64, True),
    Shape(0, 2, 1, 5, 9, 64, True),
]
KERNELS = [
    (cuda.CudaSm80, torch.bfloat16),
    (cuda.CudaSm80, torch.float16),
    (cuda.CudaSm90, torch.bfloat16),
    (cuda.CudaSm90, torch.float16),
    (cuda.CudaSm90Polynomial, torch.bfloat16),
    (cuda.CudaSm90Polynomial, torch.float16),
    (cuda.CudaSimt, torch.float32),
]
NAMES = [f"{kernel.__name__}-{str(dtype).removeprefix('torch.')}" for kernel, dtype in KERNELS]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, map(int, s))))
@pytest.mark.parametrize(("kernel", "dtype"), KERNELS, ids=NAMES)
def test_output_and_gradients(kernel: type[cuda.CudaSm80], dtype: torch.dtype, shape: Shape) -> None:
    q, k, v, dout = made(shape, dtype)
    how = Options(scale=0.7 / shape.d**0.5, right=0 if shape.causal else UNLIMITED)
    if kernel is cuda.CudaSm90Polynomial and shape.d > 64:
        assert kernel.supports(q, k, v, how) == f"head dim {shape.d} is over 64"
    else:
        hold(kernel, q, k, v, dout, how)


@pytest.mark.parametrize(("kernel", "dtype"), KERNELS, ids=NAMES)
def test_negative_scale_and_extreme_scores(kernel: type[cuda.CudaSm80], dtype: torch.dtype) -> None:
    q, k, v, _ = made(Shape(1, 1, 1, 17, 80, 64, False), dtype)
    out, lse = kernel.forward(q * 30, k * 30, v, Options(scale=-1.0))
    exact, exact_lse = Reference.forward((q * 30).double(), (k * 30).double(), v.double(), Options(scale=-1.0))
    torch.testing.assert_close(out.double(), exact, rtol=0.02, atol=0.02)
    torch.testing.assert_close(lse.double(), exact_lse.double(), rtol=1e-5, atol=1e-2)


def test_float32_gradients_at_scores_of_several_hundred() -> None:
    """What rounding a score costs, the largest error here, is no more than the framework's: in base 2 it is 1.9 times as much."""
    q, k, v, dout = made(Shape(1, 2, 1, 64, 520, 64, False), torch.float32)
    out, lse = cuda.CudaSimt.forward(q, k, v, Options(scale=8.0))
    gradients = cuda.CudaSimt.backward(dout, q, k, v, out, lse, Options(scale=8.0))
    leaves = [x.contiguous().requires_grad_() for x in (q, k, v)]
    framework = torch.nn.functional.scaled_dot_product_attention(*leaves, scale=8.0, enable_gqa=True)
    theirs = torch.autograd.grad(framework, leaves, dout)
    exact = attention_gradients(dout.double(), q.double(), k.double(), v.double(), Options(scale=8.0))
    for name, got, due, truth in zip(("dq", "dk", "dv"), gradients, theirs, exact, strict=True):
        ours, allowed = (got.double() - truth).norm(), (due.double() - truth).norm()
        assert ours <= 1.6 * allowed, f"{name}: {ours:.3g} over 1.6 x {allowed:.3g}"


def test_rows_off_sixteen_bytes_are_copied_first() -> None:
    wide = torch.randn(1, 1, 20, 73, generator=torch.Generator().manual_seed(1)).bfloat16()
    q = wide[..., 1:65]
    out, lse = cuda.CudaSm80.forward(q, q, q, Options(scale=0.1, right=0))
    again, lse_again = cuda.CudaSm80.forward(*[q.contiguous()] * 3, Options(scale=0.1, right=0))
    assert torch.equal(out, again)
    assert torch.equal(lse, lse_again)


def test_what_is_not_taken_is_said() -> None:
    q = torch.empty(1, 1, 4, 12, dtype=torch.bfloat16)
    assert "multiple of 8" in str(cuda.CudaSm80.supports(q, q, q, Options()))
    q = torch.empty(1, 1, 4, 264, dtype=torch.bfloat16)
    assert "256" in str(cuda.CudaSm80.supports(q, q, q, Options()))
    assert "256" in str(cuda.CudaSimt.supports(q, q, q, Options()))
    for kernel in (cuda.CudaSm90, cuda.CudaSm90Polynomial):
        assert "softcap" in str(kernel.supports(q[..., :8], q[..., :8], q[..., :8], Options(softcap=1.0)))
    long = torch.empty(1).expand(1, 1, 2**30 + 1, 64)
    assert "keys" in str(cuda.CudaSimt.supports(long, long, long, Options()))
