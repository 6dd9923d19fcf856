"""What features are worth: the labels of the nearest, and a linear layer, both learned on the features of labelled images.

Shapes: N labelled features, M others, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from aieng_suites.vision import _training
from aieng_suites.vision.data import Part


def nearest(features: Tensor, labels: Tensor, others: Tensor, *, neighbours: int = 5, classes: int = 10) -> Tensor:
    """Scores (M, K) of ``others`` (M, D): each of the ``neighbours`` features (N, D) of greatest cosine c votes exp(c / 0.07).

    Source: Wu et al., arXiv:1805.01978, section 3.4, which DINO's evaluation follows.
    """
    cosines = functional.normalize(others, dim=1) @ functional.normalize(features, dim=1).T
    found = cosines.topk(neighbours, dim=1)
    votes = functional.one_hot(labels[found.indices], classes) * ((found.values - 1) / 0.07).exp()[..., None]
    scores: Tensor = votes.sum(1)
    return scores


class LinearProbe(nn.Module):
    """Softmax regression on features of zero mean and unit variance, with a penalty on its squared weights.

    It minimises mean cross entropy + ``penalty`` / 2 |W|^2, which is convex, so that nothing depends on where it begins: by L-BFGS
    (Liu and Nocedal, 1989) in double precision from zero.
    """

    def __init__(self, features: Tensor, labels: Tensor, *, classes: int = 10, penalty: float = 1e-3, steps: int = 200) -> None:
        super().__init__()
        self.register_buffer("mean", features.double().mean(0))
        self.register_buffer("deviation", features.double().std(0).clamp_min(1e-6))
        self.weight = nn.Parameter(torch.zeros(classes, features.shape[1], dtype=torch.float64, device=features.device))
        self.bias = nn.Parameter(torch.zeros(classes, dtype=torch.float64, device=features.device))
        optimizer = torch.optim.LBFGS(self.parameters(), max_iter=steps, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            optimizer.zero_grad()
            value = functional.cross_entropy(self(features), labels) + penalty / 2 * self.weight.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(objective)  # type: ignore[no-untyped-call]

    def forward(self, features: Tensor) -> Tensor:
        """Scores (M, K)."""
        standardised = (features - self.get_buffer("mean")) / self.get_buffer("deviation")
        return functional.linear(standardised, self.weight, self.bias)


def share(scores: Tensor, labels: Tensor) -> float:
    """Share of the scores (M, K) that are highest for the label (M,)."""
    return float((scores.argmax(1) == labels).double().mean())


class FeatureTask(_training.Task):
    """A task whose quality is what the features are worth that its predictor gives: by the nearest, and then by a linear probe."""

    def labelled(self, predict: Callable[[Tensor], Tensor], part: Part, device: str) -> tuple[Tensor, Tensor]:
        """Features (N, D) of a part, and its labels."""
        images, labels = _training.tensors(part, device)
        return _training.in_batches(predict, self.data.standardised(images)), labels

    def score(self, predict: Callable[[Tensor], Tensor], part: Part, device: str) -> float:
        known, asked = (self.labelled(predict, which, device) for which in (self.data.train, part))
        return share(nearest(*known, asked[0]), asked[1])

    def further(self, model: nn.Module, device: str) -> dict[str, float]:
        model.eval()
        with torch.no_grad():
            known, asked = (self.labelled(self.predictor(model), which, device) for which in (self.data.train, self.data.test))
        return {"probe_accuracy": share(LinearProbe(*known)(asked[0]), asked[1])}
