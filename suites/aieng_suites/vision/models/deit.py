"""Data-efficient image transformer: a ViT that learns from a teacher through a token of its own.

Source: Touvron et al., Training data-efficient image transformers and distillation through attention, arXiv:2012.12877.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aieng_suites.vision.models.positions import Learned
from aieng_suites.vision.models.vit import Attention, VisionTransformer


class DistilledVisionTransformer(VisionTransformer):
    """A ViT with a distillation token after the class token, and a head for each (section 4, figure 2).

    In evaluation the scores (B, classes) are the mean of both heads' scores; :meth:`both` gives them apart.
    """

    def __init__(
        self, attention: Attention, *, size: int = 8, patch: int = 2, width: int = 64, classes: int = 10, **vit: Any
    ) -> None:
        positions = Learned((size // patch) ** 2 + 2, width)
        super().__init__(attention, size=size, patch=patch, width=width, classes=classes, positions=positions, **vit)
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, width))
        self.distillation_head = nn.Linear(width, classes)

    def first_tokens(self) -> Tensor:
        return torch.cat([self.class_token, self.distillation_token], dim=1)

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the class token, and of the distillation token."""
        tokens = self.tokens(images)
        return self.head(tokens[:, 0]), self.distillation_head(tokens[:, 1])

    def forward(self, images: Tensor) -> Tensor:
        by_label, by_teacher = self.both(images)
        return (by_label + by_teacher) / 2


def hard_distillation(scores: tuple[Tensor, Tensor], labels: Tensor, teacher: Tensor, smoothing: float = 0.1) -> Tensor:
    """CE(class token, label) / 2 + CE(distillation token, the teacher's choice) / 2 (equation 3); ``teacher`` are its scores."""
    by_label, by_teacher = scores
    own = functional.cross_entropy(by_label, labels, label_smoothing=smoothing)
    return (own + functional.cross_entropy(by_teacher, teacher.argmax(1))) / 2


def soft_distillation(
    scores: tuple[Tensor, Tensor],
    labels: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 3.0,
    share: float = 0.1,
    smoothing: float = 0.1,
) -> Tensor:
    """(1 - share) CE + share t^2 KL(softmax(teacher / t) || softmax(distillation token / t)) (equation 2)."""
    by_label, by_teacher = scores
    own = functional.cross_entropy(by_label, labels, label_smoothing=smoothing)
    student, target = (functional.log_softmax(x / temperature, dim=1) for x in (by_teacher, teacher))
    divergence = functional.kl_div(student, target, reduction="batchmean", log_target=True)
    return (1 - share) * own + share * temperature**2 * divergence
