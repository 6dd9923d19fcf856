"""From pixels to patches: a linear map of each patch, a stem of small convolutions, overlapping patches.

All take images (B, C, S, S) to maps (B, D, s, s) with s = S / patch, so that a transformer can have any of them.
"""

from __future__ import annotations

from torch import Tensor, nn


class LinearPatches(nn.Conv2d):
    """One linear map of every patch, as a convolution whose stride is its size. Source: arXiv:2010.11929, equation 1."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__(channels, width, kernel_size=patch, stride=patch)


class ConvStem(nn.Sequential):
    """3 x 3 convolutions, halving the size and doubling the channels until a patch is one pixel, then a 1 x 1 to the width.

    Source: Xiao et al., Early Convolutions Help Transformers See Better, arXiv:2106.14881, section 4. Raises ValueError unless
    ``patch`` is a power of two and divides ``width``.
    """

    def __init__(self, channels: int, width: int, patch: int) -> None:
        if patch < 2 or patch & (patch - 1) or width % patch:
            raise ValueError(f"patch={patch} must be a power of two that divides width={width}")
        layers: list[nn.Module] = []
        while patch > 1:
            wider = 2 * width // patch
            layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
            channels, patch = wider, patch // 2
        super().__init__(*layers, nn.Conv2d(channels, width, 1))


class OverlappingPatches(nn.Module):
    """Patches of 2 ``patch`` - 1 pixels every ``patch`` pixels, normalised. Source: SegFormer, arXiv:2105.15203, section 3.1."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, 2 * patch - 1, stride=patch, padding=patch - 1)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.norm(self.project(images).permute(0, 2, 3, 1))
        return out.permute(0, 3, 1, 2)
