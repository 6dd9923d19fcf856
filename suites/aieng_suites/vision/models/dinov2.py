"""DINOv2: a ViT with layer scale, and the self-distillation that trains it without labels.

Source: Oquab et al., DINOv2, arXiv:2304.07193; the image-level loss, centring and average teacher are those of Caron et al., DINO,
arXiv:2104.14294, algorithm 1; the patch-level loss is that of Zhou et al., iBOT, arXiv:2111.07832, equation 2.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aieng_suites.vision.models.vit import Attention, Block, VisionTransformer

EPSILON = 1e-6


class ScaledBlock(Block):
    """A block whose two branches are scaled per channel. Source: Touvron et al., CaiT, arXiv:2103.17239, equation 3."""

    def __init__(self, width: int, heads: int, attention: Attention, *, scale: float = 1.0, **block: Any) -> None:
        super().__init__(width, heads, attention, **block)
        self.scale_attention = nn.Parameter(torch.full((width,), scale))
        self.scale_mlp = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        x = x + self.scale_attention * self.attention(self.norm_attention(x), **options)
        x = x + self.scale_mlp * self.mlp(self.norm_mlp(x))
        return x


class DinoTransformer(VisionTransformer):
    """Features (B, D) of images: the class token of a ViT of scaled blocks; patches can be hidden behind a learned token."""

    block = ScaledBlock

    def __init__(self, attention: Attention, *, width: int = 64, **vit: Any) -> None:
        super().__init__(attention, width=width, epsilon=EPSILON, classes=1, **vit)
        self.head = nn.Identity()
        self.mask_token = nn.Parameter(torch.zeros(1, width))

    def patches(self, images: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Embedded patches (B, N - 1, D); those where ``hidden`` (B, N - 1) is true are the mask token."""
        found = super().patches(images)
        return found if hidden is None else torch.where(hidden[..., None], self.mask_token, found)


class ProjectionHead(nn.Module):
    """Scores over prototypes (…, K) of features (…, D): MLP, unit vectors, cosines with K learned directions (DINO, appendix C)."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.directions = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, features: Tensor) -> Tensor:
        unit: Tensor = functional.normalize(self.mlp(features), dim=-1)
        scores: Tensor = unit @ functional.normalize(self.directions, dim=-1).T
        return scores


def distillation_loss(
    student: Tensor, teacher: Tensor, centre: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """-sum softmax((teacher - centre) / t_t) log softmax(student / t_s), the mean over other axes; no gradient to the teacher.

    Centring alone makes all outputs even, sharpening alone makes one dominate; together neither happens (DINO, section 3.1).
    """
    target = functional.softmax((teacher.detach() - centre) / teacher_temperature, dim=-1)
    return -(target * functional.log_softmax(student / student_temperature, dim=-1)).sum(-1).mean()


def spread_loss(features: Tensor) -> Tensor:
    """KoLeo: minus the mean logarithm of the distance to the nearest other unit vector (DINOv2, section 4)."""
    unit = functional.normalize(features, dim=-1)
    cosines = unit @ unit.T - 2 * torch.eye(len(unit), device=unit.device)
    distance: Tensor = torch.linalg.vector_norm(unit - unit[cosines.argmax(1)], dim=-1)
    return -(distance + 1e-8).log().mean()


class Network(nn.Module):
    """A backbone with a projection of its class token and one of its patches: what student and teacher are."""

    def __init__(self, backbone: DinoTransformer, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.image, self.patch = (ProjectionHead(width, hidden, bottleneck, prototypes) for _ in range(2))


class SelfDistillation(nn.Module):
    """A student that learns to give one view of an image the scores that its own slow average, the teacher, gives another.

    The state of training is all here: the teacher's weights and the centres of its scores are buffers of the state dict.
    """

    def __init__(
        self,
        backbone: DinoTransformer,
        width: int,
        *,
        hidden: int = 128,
        bottleneck: int = 32,
        prototypes: int = 256,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        centre_momentum: float = 0.9,
        momentum: float = 0.99,
        spread: float = 0.1,
    ) -> None:
        super().__init__()
        self.student = Network(backbone, width, hidden, bottleneck, prototypes)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre_image", torch.zeros(prototypes))
        self.register_buffer("centre_patch", torch.zeros(prototypes))
        self.temperatures = student_temperature, teacher_temperature
        self.centre_momentum, self.momentum, self.spread = centre_momentum, momentum, spread

    def forward(self, images: Tensor) -> Tensor:
        """The teacher's features (B, D), which probes are trained on."""
        features: Tensor = self.teacher.backbone(images)
        return features

    def loss(self, one: Tensor, other: Tensor, hidden: Tensor) -> Tensor:
        """Loss of two views (B, C, S, S) of the same images, each with its patches ``hidden`` (2, B, N - 1) from the student.

        Image level across views; patch level within each, where the student did not see; and the spread of the student's features.
        Moves the centres towards the teacher's mean scores.
        """
        views = (one, other)
        with torch.no_grad():
            taught = [self.teacher.backbone.tokens(view) for view in views]
            image_targets = [self.teacher.image(tokens[:, 0]) for tokens in taught]
            patch_targets = [self.teacher.patch(tokens[:, 1:]) for tokens in taught]
        learned = [self.student.backbone.tokens(view, mask) for view, mask in zip(views, hidden, strict=True)]
        centre_image, centre_patch = self.get_buffer("centre_image"), self.get_buffer("centre_patch")
        loss = torch.zeros((), device=one.device)
        for n, tokens in enumerate(learned):
            scores, target = self.student.image(tokens[:, 0]), image_targets[1 - n]
            loss = loss + distillation_loss(scores, target, centre_image, *self.temperatures) / 2
            loss = loss + self.spread * spread_loss(tokens[:, 0]) / 2
            if hidden[n].any():
                scores, target = self.student.patch(tokens[:, 1:][hidden[n]]), patch_targets[n][hidden[n]]
                loss = loss + distillation_loss(scores, target, centre_patch, *self.temperatures) / 2
        with torch.no_grad():
            centre_image.lerp_(torch.cat(image_targets).mean(0), 1 - self.centre_momentum)
            centre_patch.lerp_(torch.cat(patch_targets).mean((0, 1)), 1 - self.centre_momentum)
        return loss

    @torch.no_grad()
    def update_teacher(self, progress: float) -> None:
        """Teacher = m teacher + (1 - m) student, m rising to 1 by a cosine over the training (DINO, section 3.2)."""
        momentum = 1 - (1 - self.momentum) * (math.cos(math.pi * progress) + 1) / 2
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast, 1 - momentum)
