"""The sampling loop: both schedulers end where the definition in float64 does, and one that does not is told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from aieng_suites.kernels import sampling
from torch import Tensor, nn

from aieng_bench.define import Case


class Network(nn.Module):
    """A convolution that hears the timestep and the class, in the place of one that takes long."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.Conv2d(shape[1], shape[1], 3, padding=1)
        self.classes = nn.Embedding(sampling.CLASSES + 1, shape[1])

    def forward(self, x: Tensor, times: Tensor, class_labels: Tensor) -> SimpleNamespace:
        shift = self.classes(class_labels)[..., None, None] * (times / 1000)[:, None, None, None].to(x.dtype)
        return SimpleNamespace(sample=torch.tanh(self.layer(x) + shift))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sampling.NETWORKS, "dit", Network)


def case(scheduler: str) -> Case:
    return Case({"network": "dit", "scheduler": scheduler, "shape": "2x3x8x8", "device": "cpu"})


@pytest.mark.parametrize("scheduler", sampling.SCHEDULERS)
@pytest.mark.parametrize("contender", ["scheduler_aieng", "diffusers"])
def test_a_loop_ends_where_the_definition_does(contender: str, scheduler: str) -> None:
    if contender == "diffusers":
        pytest.importorskip("diffusers")
    figures = sampling.benchmark.contenders[contender].setup(case(scheduler))(3)
    assert figures["difference"] < 1e-4
    assert 0 < figures["step_share_percent"] < 100
    assert {metric.name for metric in sampling.benchmark.metrics} <= figures.keys()


def test_another_guidance_is_told() -> None:
    def bind(name: str) -> tuple[Tensor, sampling.Step]:
        timesteps, step = sampling.bind_definition(name)
        return timesteps, lambda c, u, t, x, generator: step(c, c, t, x, generator).float()

    assert sampling.loop(case("DDIMScheduler"), bind)(3)["difference"] > sampling.LARGEST_DIFFERENCE


def test_the_networks_are_what_they_are_said_to_be() -> None:
    pytest.importorskip("diffusers")
    for build in (sampling.dit, sampling.unet):
        network, x = build((1, 4, 16, 16)), torch.randn(2, 4, 16, 16)
        labels = torch.tensor([1, sampling.CLASSES])
        assert network(x, torch.tensor([5, 5]), class_labels=labels).sample.shape == x.shape
        assert 1e6 < sum(p.numel() for p in network.parameters()) < 1e7
