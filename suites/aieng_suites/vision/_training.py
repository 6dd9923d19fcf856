"""The one training loop of the studies' networks, what a task replaces of it, and how training and inference are measured."""

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
import torch._dynamo  # which an optimizer imports, and which is nothing to be timed
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from aieng_bench.measure.memory import peak_growth
from aieng_bench.record.exhibits import Exhibit
from aieng_suites.vision import _exhibits
from aieng_suites.vision.data import Dataset, Part

THROUGHPUT_BATCH, THROUGHPUT_REPEATS = 256, 5
LATENCY_CALLS, LATENCY_WARMUP = 200, 20
MANY, MANY_CALLS = 64, 100
"""A batch whose latency is measured too, and how often."""
PATIENCE_S, FEWEST_CALLS = 0.5, 20
"""Calls that take so long all together end there, if they are enough."""
PROBE_STEPS = 3
PICTURED = 5
"""Test images that pictures are shown of."""


@dataclass(frozen=True)
class Recipe:
    """AdamW (arXiv:1711.05101), linear warm-up, then a cosine to zero (arXiv:1608.03983)."""

    learning_rate: float
    weight_decay: float = 0.05
    batch: int = 32
    warmup: float = 0.1
    """Share of all steps."""

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of ``step`` (from 0) of ``steps``."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


Figure = float | Exhibit


class Task:
    """What is learnt, and how well: classification with smoothed labels (arXiv:1512.00567), unless a study's task says otherwise.

    A task holds no state: what training changes beside weights (a teacher's average, say) is a buffer of the model.
    """

    quality = "accuracy"
    things = "images"
    """What speed counts."""
    label_smoothing = 0.1

    def __init__(self, data: Dataset, target: float = 0.95) -> None:
        """``target`` is the validation quality whose first reaching is timed."""
        self.data, self.target = data, target

    def further(self, model: nn.Module, device: str) -> dict[str, float]:
        """Other figures of a trained model that the study declares."""
        return {}

    def loss(self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Mean loss of a batch as the data set gives it; what is random comes from ``generator`` (on the CPU)."""
        scores = model(self.data.augmented(images, generator))
        return functional.cross_entropy(scores, labels, label_smoothing=self.label_smoothing)

    def stepped(self, model: nn.Module, progress: float) -> None:
        """What follows a step of the optimizer; ``progress`` is the share of all steps that are done."""

    def predictor(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """What inference runs: scores of standardised images."""
        return model

    def score(self, predict: Callable[[Tensor], Tensor], part: Part, device: str) -> float:
        """Quality of predictions on a part: the share of its images that get the highest score for their label."""
        counts = self.confusion(predict, part, device)
        return float(counts.diag().sum() / counts.sum())

    def confusion(self, predict: Callable[[Tensor], Tensor], part: Part, device: str) -> Tensor:
        """How many labels of each class were taken for each: counts (classes, classes), true by found."""
        images, labels = tensors(part, device)
        found = in_batches(predict, self.data.standardised(images)).argmax(1)
        return _exhibits.counted(self.truth(labels), found, self.data.classes)

    def truth(self, labels: Tensor) -> Tensor:
        """The class in labels as the data set gives them."""
        return labels

    def names(self) -> Sequence[str]:
        """Of the classes that inference scores; none where a task has a score of its own, unless it names them."""
        return [str(label) for label in range(self.data.classes)] if type(self).score is Task.score else []

    def judge(self, model: nn.Module, part: Part, device: str) -> float:
        """Quality of the model on a part."""
        model.eval()
        with torch.inference_mode():
            return self.score(self.predictor(model), part, device)

    def exhibits(self, fit: Fit, seed: int, device: str) -> dict[str, Figure]:
        """What is shown of a trained model: its learning curve, the confusion of the test part and, of the first seed, pictures."""
        predict, names = self.predictor(fit.model), self.names()
        shown: dict[str, Figure] = {"learning": _exhibits.learning(fit.validation, self.quality)}
        if names:
            shown["confusion"] = _exhibits.confusion(self.confusion(predict, self.data.test, device), names)
        return shown if seed else shown | self.pictures(fit.model, predict, device)

    def pictures(self, model: nn.Module, predict: Callable[[Tensor], Tensor], device: str) -> dict[str, Figure]:
        """A transformer's attention to one test image of each of the first classes; none where the data are no images."""
        images, labels = tensors(self.data.test, device)
        if images.ndim != 4:
            return {}
        truth, names = self.truth(labels), self.names()
        chosen = _exhibits.one_of_each(truth, PICTURED)
        seen = self.data.standardised(images[chosen])
        captions = [names[label] if names else str(label) for label in truth[chosen].tolist()]
        if names:
            guesses = [names[found] for found in predict(seen).argmax(1).tolist()]
            captions = [a if a == b else f"{a}, taken for {b}" for a, b in zip(captions, guesses, strict=True)]
        maps = _exhibits.attention(model, predict, images[chosen], seen, captions)
        return {} if maps is None else {"attention": maps}


@dataclass(frozen=True)
class Fit:
    """A trained model. Times are of training alone, without validation."""

    model: nn.Module
    seconds: float
    seconds_to_target: float | None
    images_per_s: float
    """Of the median epoch."""
    validation: tuple[float, ...]
    """Quality after each epoch."""
    loss: float
    """Mean over the batches of the last epoch."""


class Training:
    """A new model and what its training needs. Weights, order and augmentation come from ``seed``; torch's own state is kept."""

    def __init__(self, build: Callable[[], nn.Module], recipe: Recipe, task: Task, epochs: int, seed: int, device: str) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = build().to(device)
        self.recipe, self.task, self.epochs, self.device = recipe, task, epochs, device
        self.images, self.labels = tensors(task.data.train, device)
        self.generator = torch.Generator().manual_seed(seed)
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(learned, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
        self.steps, self.step = epochs * math.ceil(len(self.labels) / recipe.batch), 0
        self.losses: list[Tensor] = []
        """Of the steps of this epoch."""
        self.times: list[float] = []
        self.validation: list[float] = []

    def batches(self) -> tuple[Tensor, ...]:
        """Indices of one epoch's batches, in a new order."""
        shuffled: Tensor = torch.randperm(len(self.labels), generator=self.generator)
        return torch.split(shuffled, self.recipe.batch)

    def advance(self, chosen: Tensor) -> Tensor:
        """One step on the chosen images; returns the loss."""
        self.optimizer.param_groups[0]["lr"] = self.recipe.rate(self.step, self.steps)
        chosen = chosen.to(self.device)
        loss = self.task.loss(self.model, self.images[chosen], self.labels[chosen], self.generator)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        self.task.stepped(self.model, self.step / self.steps)
        return loss.detach()

    def first(self, steps: int) -> None:
        """The first ``steps`` alone, as :meth:`run` would begin."""
        for chosen in self.batches()[:steps]:
            self.advance(chosen)

    def run(self) -> Fit:
        """All epochs, with the validation quality after each."""
        for _ in range(self.epochs):
            self.begin_epoch()
            self.losses = [self.advance(chosen) for chosen in self.batches()]
            self.end_epoch()
        return self.fit()

    def begin_epoch(self) -> None:
        self.model.train()
        self.losses = []
        self.begin = now(self.device)

    def end_epoch(self) -> None:
        """Note the mean loss and the time that the epoch took, and then how good the model is."""
        self.loss = float(torch.stack(self.losses).mean())
        self.times.append(now(self.device) - self.begin)
        self.validation.append(self.task.judge(self.model, self.task.data.validation, self.device))

    def fit(self) -> Fit:
        reached = [n for n, quality in enumerate(self.validation) if quality >= self.task.target]
        return Fit(
            model=self.model,
            seconds=sum(self.times),
            seconds_to_target=sum(self.times[: reached[0] + 1]) if reached else None,
            images_per_s=len(self.labels) / median(self.times),
            validation=tuple(self.validation),
            loss=self.loss,
        )


def figures(
    build: Callable[[], nn.Module],
    recipe: Recipe,
    task: Task,
    *,
    epochs: int,
    seed: int,
    device: str,
    loop: type[Training] = Training,
) -> dict[str, Figure]:
    """Every figure and exhibit of one seed: train with the memory watched, judge on the test part, time inference.

    ``loop`` is what trains.
    """

    def training() -> Training:
        return loop(build, recipe, task, epochs, seed, device)

    deterministic = is_deterministic(training)
    fits: list[Fit] = []
    peak = peak_bytes(lambda: fits.append(training().run()), device)
    (fit,) = fits
    images = task.data.standardised(tensors(task.data.test, device)[0][:THROUGHPUT_BATCH])
    fit.model.eval()
    with torch.inference_mode():
        predict = task.predictor(fit.model)
        speed = inference(predict, images[:1], images, device, task.things)
        flops = operations(predict, images[:1])
        shown = task.exhibits(fit, seed, device)
    return {
        task.quality: task.judge(fit.model, task.data.test, device),
        **time_to(task.target, fit.seconds_to_target),
        f"train_{task.things}_per_s": fit.images_per_s,
        **task.further(fit.model, device),
        **speed,
        "parameters": float(sum(p.numel() for p in fit.model.parameters())),
        "flops": flops,
        "peak_bytes": peak,
        f"_validation_{task.quality}": fit.validation[-1],
        "_training_s": fit.seconds,
        "_final_loss": fit.loss,
        "_deterministic": float(deterministic),
        "_weights_digest": float(digest(fit.model)),
        **shown,
    }


def peak_bytes(call: Callable[[], Any], device: str) -> float:
    """Bytes by which ``call`` raises the peak of the process or the CUDA allocator; off Linux, beyond its earlier peak."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    growth = peak_growth(call, device)
    if growth is None:
        unit = 1 if sys.platform == "darwin" else 1024
        growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    return float(growth)


def time_to(target: float, seconds: float | None) -> dict[str, Figure]:
    """The figure of the time to a validation quality; a run that never got there has none."""
    return {} if seconds is None else {f"time_to_{round(100 * target)}_s": seconds}


def now(device: str) -> float:
    """Seconds, once everything asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def tensors(part: Part, device: str) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and labels on the device."""
    return torch.from_numpy(part.images).to(device), torch.from_numpy(part.labels).to(device)


def in_batches(predict: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """``predict`` of all images, a batch of ``THROUGHPUT_BATCH`` at a time, so that judging needs little memory."""
    return torch.cat([predict(some) for some in torch.split(images, THROUGHPUT_BATCH)])


def inference(predict: Callable[[Any], Any], one: Any, many: Any, device: str = "cpu", things: str = "images") -> dict[str, float]:
    """Latency of ``predict(one)`` and of a batch of ``MANY``, throughput of ``predict(many)``, a batch of ``THROUGHPUT_BATCH``.

    Each call is waited for.
    """
    for _ in range(LATENCY_WARMUP):
        predict(one)
    p50, p99 = np.percentile(timed(predict, one, LATENCY_CALLS, device), [50, 99])
    predict(some := many[:MANY])
    many_p50, many_p99 = np.percentile(timed(predict, some, MANY_CALLS, device), [50, 99])
    predict(many)
    return {
        "latency_p50_us": float(p50) * 1e6,
        "latency_p99_us": float(p99) * 1e6,
        f"latency_{MANY}_p50_us": float(many_p50) * 1e6,
        f"latency_{MANY}_p99_us": float(many_p99) * 1e6,
        f"inference_{things}_per_s": THROUGHPUT_BATCH / median(timed(predict, many, THROUGHPUT_REPEATS, device)),
    }


def operations(predict: Callable[[Any], Any], one: Any) -> float:
    """Floating-point operations of the products and convolutions of ``predict(one)``, as torch counts them: 2 a multiplication."""
    import aieng_kernels.attention.ops  # noqa: F401 - defines our operator

    aten, ours = torch.ops.aten, torch.ops.aieng
    # torch knows those of its attention on a GPU alone.
    uncounted = (aten._scaled_dot_product_flash_attention_for_cpu, ours.attention_forward)

    def products(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(q, k, v))  # type: ignore[no-untyped-call]

    with FlopCounterMode(display=False, custom_mapping=dict.fromkeys(uncounted, products)) as counter:
        predict(one)
    return float(counter.get_total_flops())


def timed(predict: Callable[[Any], Any], argument: Any, calls: int, device: str) -> list[float]:
    """Seconds of each call; fewer than ``calls`` if they are slow (``PATIENCE_S``)."""
    times: list[float] = []
    while len(times) < calls and (len(times) < FEWEST_CALLS or sum(times) < PATIENCE_S):
        begin = now(device)
        predict(argument)
        times.append(now(device) - begin)
    return times


def is_deterministic(training: Callable[[], Training]) -> bool:
    """Whether the first steps, made twice from one seed, give bit-equal weights."""
    pair = [training(), training()]
    for each in pair:
        each.first(PROBE_STEPS)
    return digest(pair[0].model) == digest(pair[1].model)


def digest(model: nn.Module) -> int:
    """48 bits of the SHA-256 of all weights and buffers, which a float holds exactly."""
    whole = hashlib.sha256()
    for tensor in model.state_dict().values():
        whole.update(tensor.cpu().contiguous().numpy().tobytes())
    return int.from_bytes(whole.digest()[:6], "big")
