"""The launches of the Hopper kernels, from tensors to gradients: each runs in the simulator, in its first configuration."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("triton.experimental.gluon")
import numpy as np
import torch
from aieng_kernels.attention import triton_hopper
from aieng_kernels.attention.options import UNLIMITED, Options
from aieng_kernels.attention.reference import attention_gradients, attention_reference
from aieng_kernels.attention.triton_hopper_configs import KERNELS, configurations
from gluon_simulator import Descriptor, Pointer, run
from torch import Tensor
from triton_guards import amid_nan


def simulated(name: str, width: int) -> Any:
    """Stands for the tuned kernel: subscripted by a grid, then called."""
    kernel, config = KERNELS[name].kernel, configurations(name, width)[0]

    class Launch:
        def __getitem__(self, grid: Any) -> Callable[..., None]:
            (programs,) = grid(config.kwargs) if callable(grid) else grid

            def launch(*positional: Any, **constants: Any) -> None:
                arguments = {**dict(zip(kernel.arg_names, positional)), **constants, **config.kwargs}
                assert set(arguments) == set(kernel.arg_names)
                config.pre_hook(arguments)
                run(kernel, programs, **{key: taken(x) for key, x in arguments.items()})

            return launch

    return Launch()


def taken(x: Any) -> Any:
    """An argument as the simulator takes it; a descriptor reads and writes the tensor that it was made of."""
    if isinstance(x, Tensor):
        return Pointer(x.numpy())
    if hasattr(x, "block_shape"):
        assert x.base.data_ptr() % 16 == 0
        assert all(s > 0 and s * x.base.itemsize % 16 == 0 for s in x.strides[:-1])
        view = x.base.as_strided(x.shape, x.strides) if 1 not in x.shape else x.base
        return Descriptor(view.numpy(), x.block_shape)
    return np.float32(x) if isinstance(x, float) else x


def statistics(out: Tensor, dout: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    S = out.shape[2]
    padding = (0, -S % 128)
    delta = torch.nn.functional.pad((out.float() * dout.float()).sum(-1), padding)
    return delta, torch.nn.functional.pad(lse * math.log2(math.e), padding, value=math.inf)


@pytest.fixture(autouse=True)
def on_no_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_hopper, "tuned", simulated)
    monkeypatch.setattr(triton_hopper, "statistics", statistics)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=3))


def check(q: Tensor, k: Tensor, v: Tensor, dout: Tensor, causal: bool, scale: float, stays: bool = False) -> None:
    """All results within two roundings of the definition's; by three blocks that stay, or one for each tile."""
    o = Options(scale=scale, right=0 if causal else UNLIMITED)
    hopper = triton_hopper.TritonHopperPersistent if stays else triton_hopper.TritonHopper
    out, lse = hopper.forward(q, k, v, o)
    wide = [x.double() for x in (q, k, v, dout)]
    due, due_lse = attention_reference(*wide[:3], o)
    assert out.stride() == torch.empty_like(q).stride()
    found, expected = [out], [due]
    if scale > 0:  # others are handed to triton_flash
        found += hopper.backward(dout, q, k, v, out, lse, o)
        expected += attention_gradients(wide[3], *wide[:3], o)
    for x, y in zip(found, expected, strict=True):
        assert (x - y).abs().max() <= 3 * torch.finfo(q.dtype).eps * max(1.0, y.abs().max().item())
    assert (lse - due_lse).abs().max() <= 4e-6


def inputs(B: int, H: int, Hkv: int, S: int, T: int, D: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((B, H, S, D), (B, Hkv, T, D), (B, Hkv, T, D), (B, H, S, D))
    return [torch.randn(shape, generator=generator).half() for shape in shapes]


@pytest.mark.parametrize("stays", [False, True], ids=["blocks", "stays"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("shape", [(2, 4, 2, 150, 203, 64), (1, 2, 1, 203, 150, 104), (1, 1, 1, 1, 1, 8)], ids=str)
def test_values(shape: tuple[int, ...], causal: bool, stays: bool) -> None:
    check(*inputs(*shape), causal, shape[-1] ** -0.5, stays)


@pytest.mark.parametrize("scale", [-0.2, 0.0])
def test_scales_that_are_not_positive(scale: float) -> None:
    check(*inputs(1, 2, 1, 70, 90, 40), True, scale)


def test_strides() -> None:
    """Sliced and transposed amid NaN; rows off 16 bytes; keys shared by a stride of 0."""
    check(*(amid_nan(x) for x in inputs(2, 2, 1, 70, 45, 40)), True, 0.2)
    q, k, v, dout = inputs(1, 2, 2, 37, 41, 40)
    shifted = torch.zeros(q.numel() + 1, dtype=q.dtype)[1:].view(q.shape).copy_(q)
    odd = torch.zeros((*k.shape[:3], 41), dtype=k.dtype)[..., :40].copy_(k)
    check(shifted, odd, v[:, :1].expand(-1, 2, -1, -1), dout, True, 0.2)


def test_what_it_refuses() -> None:
    x = torch.empty((1, 1, 4, 136), dtype=torch.float16, device="meta")
    assert "up to 128, not 136" in (triton_hopper.TritonHopper.supports(x, x, x, Options()) or "")
    x = x[..., :128]
    assert triton_hopper.TritonHopper.supports(x, x, x, Options()) is None
    assert "softcap is not fused" in (triton_hopper.TritonHopper.supports(x, x, x, Options(softcap=1.0)) or "")
