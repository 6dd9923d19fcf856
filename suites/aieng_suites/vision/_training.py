"""The one training loop of a study's networks, and how training and inference are measured."""

from __future__ import annotations

import hashlib
import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from aieng_bench.measure.memory import peak_growth
from aieng_suites.vision._data import Digits, Part, augment, standardised

TARGET = 0.95
"""Validation accuracy whose first reaching is timed."""
THROUGHPUT_BATCH, THROUGHPUT_REPEATS = 256, 20
LATENCY_CALLS, LATENCY_WARMUP = 400, 20
PROBE_STEPS = 3


@dataclass(frozen=True)
class Recipe:
    """AdamW (arXiv:1711.05101), linear warm-up, then a cosine to zero (arXiv:1608.03983); smoothed labels (arXiv:1512.00567)."""

    learning_rate: float
    weight_decay: float = 0.05
    batch: int = 32
    label_smoothing: float = 0.1
    warmup: float = 0.1
    """Share of all steps."""

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of ``step`` (from 0) of ``steps``."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


@dataclass(frozen=True)
class Fit:
    """A trained model. Times are of training alone, without validation."""

    model: nn.Module
    seconds: float
    seconds_to_target: float | None
    images_per_s: float
    """Of the median epoch."""
    validation: tuple[float, ...]
    """Accuracy after each epoch."""
    loss: float
    """Mean over the batches of the last epoch."""


class Training:
    """A new model and what its training needs. Weights, order and augmentation come from ``seed``; torch's own state is kept."""

    def __init__(self, build: Callable[[], nn.Module], recipe: Recipe, data: Digits, epochs: int, seed: int, device: str) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = build().to(device)
        self.recipe, self.data, self.epochs, self.device = recipe, data, epochs, device
        self.images, self.labels = tensors(data.train, device)
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.steps, self.step = epochs * math.ceil(len(self.labels) / recipe.batch), 0

    def batches(self) -> tuple[Tensor, ...]:
        """Indices of one epoch's batches, in a new order."""
        shuffled: Tensor = torch.randperm(len(self.labels), generator=self.generator)
        return torch.split(shuffled, self.recipe.batch)

    def advance(self, chosen: Tensor) -> Tensor:
        """One step on the chosen images; returns the loss."""
        self.optimizer.param_groups[0]["lr"] = self.recipe.rate(self.step, self.steps)
        chosen = chosen.to(self.device)
        scores = self.model(standardised(augment(self.images[chosen], self.generator)))
        loss: Tensor = functional.cross_entropy(scores, self.labels[chosen], label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        return loss.detach()

    def run(self) -> Fit:
        """All epochs, with the validation accuracy after each."""
        times: list[float] = []
        validation: list[float] = []
        loss = math.nan
        to_target: float | None = None
        for _ in range(self.epochs):
            self.model.train()
            begin = now(self.device)
            loss = float(torch.stack([self.advance(chosen) for chosen in self.batches()]).mean())
            times.append(now(self.device) - begin)
            validation.append(accuracy(self.model, self.data.validation, self.device))
            if to_target is None and validation[-1] >= TARGET:
                to_target = sum(times)
        return Fit(
            model=self.model,
            seconds=sum(times),
            seconds_to_target=to_target,
            images_per_s=len(self.labels) / median(times),
            validation=tuple(validation),
            loss=loss,
        )


def figures(
    build: Callable[[], nn.Module], recipe: Recipe, data: Digits, *, epochs: int, seed: int, device: str
) -> dict[str, float]:
    """Every figure of one seed: train with the memory watched, judge on the test part, time inference.

    Raises RuntimeError if the validation accuracy never reached ``TARGET``.
    """

    def training() -> Training:
        return Training(build, recipe, data, epochs, seed, device)

    deterministic = is_deterministic(training)
    fits: list[Fit] = []
    peak = peak_bytes(lambda: fits.append(training().run()), device)
    (fit,) = fits
    images = standardised(tensors(data.test, device)[0])
    fit.model.eval()
    with torch.inference_mode():
        speed = inference(fit.model, images[:1], images[:THROUGHPUT_BATCH], device)
    return {
        "accuracy": accuracy(fit.model, data.test, device),
        "time_to_95_s": reached(fit.seconds_to_target, fit.validation),
        "train_images_per_s": fit.images_per_s,
        **speed,
        "parameters": float(sum(p.numel() for p in fit.model.parameters())),
        "peak_bytes": peak,
        "_validation_accuracy": fit.validation[-1],
        "_training_s": fit.seconds,
        "_final_loss": fit.loss,
        "_deterministic": float(deterministic),
        "_weights_digest": float(digest(fit.model)),
    }


def peak_bytes(call: Callable[[], Any], device: str) -> float:
    """Bytes by which ``call`` raises the peak of the process or the CUDA allocator; off Linux, beyond its earlier peak."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    growth = peak_growth(call, device)
    if growth is None:
        unit = 1 if sys.platform == "darwin" else 1024
        growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    return float(growth)


def reached(seconds: float | None, validation: Sequence[float]) -> float:
    """The time to the target; a run that never got there has none, and says how far it came."""
    if seconds is None:
        raise RuntimeError(f"validation accuracy never reached {TARGET}; the best was {max(validation):.4f}")
    return seconds


def now(device: str) -> float:
    """Seconds, once everything asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def tensors(part: Part, device: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 8, 8) and labels (N,) on the device."""
    return torch.from_numpy(part.images).unsqueeze(1).to(device), torch.from_numpy(part.labels).to(device)


def accuracy(model: nn.Module, part: Part, device: str) -> float:
    """Share of the part's images that get the highest score for their label."""
    images, labels = tensors(part, device)
    model.eval()
    with torch.inference_mode():
        return float((model(standardised(images)).argmax(1) == labels).double().mean())


def inference(predict: Callable[[Any], Any], one: Any, many: Any, device: str = "cpu") -> dict[str, float]:
    """Latency of ``predict(one)`` and throughput of ``predict(many)``, a batch of ``THROUGHPUT_BATCH``; each call waited for."""
    for _ in range(LATENCY_WARMUP):
        predict(one)
    latencies = timed(predict, one, LATENCY_CALLS, device)
    predict(many)
    batches = timed(predict, many, THROUGHPUT_REPEATS, device)
    p50, p99 = np.percentile(latencies, [50, 99])
    return {
        "latency_p50_us": float(p50) * 1e6,
        "latency_p99_us": float(p99) * 1e6,
        "inference_images_per_s": THROUGHPUT_BATCH / median(batches),
    }


def timed(predict: Callable[[Any], Any], argument: Any, calls: int, device: str) -> list[float]:
    """Seconds of each call."""
    times = []
    for _ in range(calls):
        begin = now(device)
        predict(argument)
        times.append(now(device) - begin)
    return times


def is_deterministic(training: Callable[[], Training]) -> bool:
    """Whether the first steps, made twice from one seed, give bit-equal weights."""
    pair = [training(), training()]
    for each in pair:
        for chosen in each.batches()[:PROBE_STEPS]:
            each.advance(chosen)
    return digest(pair[0].model) == digest(pair[1].model)


def digest(model: nn.Module) -> int:
    """48 bits of the SHA-256 of all weights and buffers, which a float holds exactly."""
    whole = hashlib.sha256()
    for tensor in model.state_dict().values():
        whole.update(tensor.cpu().contiguous().numpy().tobytes())
    return int.from_bytes(whole.digest()[:6], "big")
