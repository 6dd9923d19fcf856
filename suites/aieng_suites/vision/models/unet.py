"""U-Net: a convolutional network that segments. Source: Ronneberger, Fischer and Brox, arXiv:1505.04597, figure 1.

Convolutions keep the size by padding and are normalised by batch, as is usual since; the paper has neither.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aieng_suites.vision.models.resnet import convolution


def double_convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    """Twice: 3 x 3 convolution, normalisation, relu."""
    return nn.Sequential(
        convolution(channels_in, channels_out, 3), nn.ReLU(), convolution(channels_out, channels_out, 3), nn.ReLU()
    )


class UNet(nn.Module):
    """Class scores per pixel (B, classes, H, W) of images (B, C, H, W), H and W multiples of 2^depth.

    Going down, ``depth`` times the size halves and the channels double; going up, each level also sees what it was on the way down.
    """

    def __init__(self, *, channels: int = 3, classes: int = 5, width: int = 16, depth: int = 2) -> None:
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.first = double_convolution(channels, width)
        self.downs = nn.ModuleList(nn.Sequential(nn.MaxPool2d(2), double_convolution(narrow, 2 * narrow)) for narrow in widths[:-1])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * narrow, narrow, 2, stride=2) for narrow in widths[:-1])
        self.joins = nn.ModuleList(double_convolution(2 * narrow, narrow) for narrow in widths[:-1])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        levels = [self.first(images)]
        for down in self.downs:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up, join in zip(reversed(self.ups), reversed(self.joins), strict=True):
            x = join(torch.cat([levels.pop(), up(x)], dim=1))
        scores: Tensor = self.head(x)
        return scores
