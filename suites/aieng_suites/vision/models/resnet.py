"""Residual network for small images. Source: He et al., Deep Residual Learning, arXiv:1512.03385, section 4.2.

Shapes: B images, C channels; a stage after the first halves height and width and doubles the channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def convolution(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias (the normalisation has one), then batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(channels_out)
    )


class Residual(nn.Module):
    """relu(F(x) + x), F two 3 x 3 convolutions (figure 2); where the shape changes, a 1 x 1 convolution projects x (option B)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(channels_in, channels_out, 3, stride)
        self.second = convolution(channels_out, channels_out, 3)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if same else convolution(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(functional.relu(self.first(x)))
        return functional.relu(inner + self.shortcut(x))


class ResNet(nn.Module):
    """Class scores (B, classes) of images (B, C, H, W): stem, stages of ``blocks`` residual blocks, mean over pixels, linear."""

    def __init__(self, *, channels: int = 1, classes: int = 10, width: int = 16, stages: int = 2, blocks: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution(channels, width, 3), nn.ReLU()]
        now = width
        for stage in range(stages):
            for block in range(blocks):
                wider = width << stage
                layers.append(Residual(now, wider, stride=2 if stage and not block else 1))
                now = wider
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(now, classes)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.mean(self.features(images), dim=(2, 3)))
        return scores
