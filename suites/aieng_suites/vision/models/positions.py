"""Where a token is: learned, sinusoidal, 2-D sinusoidal, rotary, and relative-bias encodings of a square grid of patches.

An encoding may act at three places, of which each kind uses one: it adds to the tokens at the input, it rotates queries and keys,
or it adds a bias to their products. Shapes: s side of the grid, N tokens (s^2 patches after a class token, which has no place),
D width, H heads. ``over`` is the side of a coarser grid that covers the same picture and whose unit places are told in.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Positions(nn.Module):
    """No encoding, and the form of all: a transformer with it cannot tell patches in one order from the same in another."""

    def add(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) as the first block sees them."""
        return tokens

    def rotate(self, x: Tensor) -> Tensor:
        """Queries or keys (B, H, N, D / H) as their products are taken."""
        return x

    def bias(self) -> Tensor | None:
        """What is added to the scaled products (1, H, N, N), if anything."""
        return None

    def enlarged(self, side: int) -> Positions:
        """The encoding of an enlarged picture in ``side``^2 patches: a part of it has the place it had, between those known."""
        return self


def stretched(table: Tensor, side: int) -> Tensor:
    """A table (s^2, D) of a grid at ``side``^2 places, bicubic between its own. Source: arXiv:2010.11929, section 3.2."""
    before = math.isqrt(len(table))
    maps = table.T.reshape(1, -1, before, before)
    return functional.interpolate(maps, size=(side, side), mode="bicubic").flatten(2)[0].T


class Learned(Positions):
    """A learned vector per token. Source: Dosovitskiy et al., arXiv:2010.11929, equation 1."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        # Unit variance where the paper draws from 0.02: a few hundred steps on small images go on learning where a token is.
        self.table = nn.Parameter(torch.randn(1, tokens, width))

    def add(self, tokens: Tensor) -> Tensor:
        return tokens + self.table

    @torch.no_grad()
    def enlarged(self, side: int) -> Learned:
        first = self.table.shape[1] - math.isqrt(self.table.shape[1] - 1) ** 2
        found = Learned(first + side * side, self.table.shape[2])
        found.table.copy_(torch.cat([self.table[0, :first], stretched(self.table[0, first:], side)]))
        return found.to(self.table.device)


def sinusoids(places: Tensor, width: int) -> Tensor:
    """[sin(p w_k), cos(p w_k)] with w_k = 10000^(-2k / width), k < width / 2: (N,) places to (N, width).

    Source: Vaswani et al., arXiv:1706.03762, section 3.5, with sines before cosines. Raises ValueError for an odd width.
    """
    if width % 2:
        raise ValueError(f"width={width} must be even")
    angles = torch.outer(places, frequencies(width))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def frequencies(width: int) -> Tensor:
    """10000^(-2k / width) for k < width / 2."""
    return 10000.0 ** (-torch.arange(0, width, 2) / width)


def grid(side: int, over: int | None = None) -> tuple[Tensor, Tensor]:
    """Row and column (N,) of each patch's centre, in the order of the tokens."""
    centres = (torch.arange(float(side)) + 0.5) * ((over or side) / side) - 0.5
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    return rows.flatten(), columns.flatten()


class Sinusoidal(Positions):
    """Fixed sinusoids of the patch's number in reading order; the class token's place is zero.

    On an enlarged picture the number is that of the place between the patches known, as in Chen et al., arXiv:2306.15595.
    """

    def __init__(self, side: int, width: int, *, over: int | None = None) -> None:
        super().__init__()
        self.side, self.width = side, width
        self.register_buffer("table", after_class_token(self.encoded(*grid(side, over), over or side)), persistent=False)

    def encoded(self, rows: Tensor, columns: Tensor, side: int) -> Tensor:
        """Vectors (N, D) of places in a grid of ``side``."""
        return sinusoids(rows * side + columns, self.width)

    def add(self, tokens: Tensor) -> Tensor:
        return tokens + self.get_buffer("table")

    def enlarged(self, side: int) -> Sinusoidal:
        return type(self)(side, self.width, over=self.side).to(self.get_buffer("table").device)


class Sinusoidal2d(Sinusoidal):
    """Fixed sinusoids of the column in half of the width and of the row in the other. Source: He et al., arXiv:2111.06377, A.1."""

    def encoded(self, rows: Tensor, columns: Tensor, side: int) -> Tensor:
        return torch.cat([sinusoids(places, self.width // 2) for places in (columns, rows)], dim=1)


def after_class_token(table: Tensor) -> Tensor:
    """The table (N - 1, ...) with a row of zeros before it, the class token's."""
    return torch.cat([torch.zeros_like(table[:1]), table])


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Each pair (x_k, x_(k+d/2)) of the last dimension d turned by angle k: (..., N, d) and (N, d / 2).

    Products of a rotated query and a rotated key depend on the difference of their angles alone.
    Source: Su et al., RoFormer, arXiv:2104.09864, equation 34, with the halves as pairs instead of neighbours.
    """
    cos, sin = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Rotary(Positions):
    """Queries and keys turned by the row in half of their pairs and by the column in the other; the class token is not turned."""

    def __init__(self, side: int, head_width: int, *, over: int | None = None) -> None:
        super().__init__()
        if head_width % 4:
            raise ValueError(f"head_width={head_width} must be a multiple of 4")
        self.side, self.head_width = side, head_width
        rows, columns = (torch.outer(places, frequencies(head_width // 2)) for places in grid(side, over))
        self.register_buffer("angles", after_class_token(torch.cat([rows, columns], dim=1)), persistent=False)

    def rotate(self, x: Tensor) -> Tensor:
        return rotated(x, self.get_buffer("angles"))

    def enlarged(self, side: int) -> Rotary:
        return Rotary(side, self.head_width, over=self.side).to(self.get_buffer("angles").device)


def relative_index(side: int) -> Tensor:
    """For each pair of patches (s^2, s^2), the number of their difference among (2s - 1)^2.

    Source: Liu et al., Swin Transformer, arXiv:2103.14030, section 3.2.
    """
    rows, columns = (places.long() for places in grid(side))
    down, right = (places[:, None] - places[None, :] + side - 1 for places in (rows, columns))
    return down * (2 * side - 1) + right


class RelativeBias(Positions):
    """A learned bias per head and difference of places, and three more where a class token attends or is attended to.

    Source: Liu et al., arXiv:2103.14030, equation 4; for the class token Bao et al., BEiT, arXiv:2106.08254.
    """

    def __init__(self, side: int, heads: int, *, class_token: bool = True) -> None:
        super().__init__()
        self.class_token = class_token
        index = relative_index(side)
        kinds = (2 * side - 1) ** 2
        if class_token:
            padded = torch.full((side * side + 1,) * 2, kinds + 1)
            padded[0, :], padded[:, 0] = kinds, kinds + 1  # the class token to a patch, a patch to it, and it to itself
            padded[0, 0], padded[1:, 1:] = kinds + 2, index
            index, kinds = padded, kinds + 3
        self.table = nn.Parameter(torch.zeros(kinds, heads))
        self.register_buffer("index", index, persistent=False)

    def bias(self) -> Tensor:
        return self.table[self.get_buffer("index")].permute(2, 0, 1).unsqueeze(0)

    @torch.no_grad()
    def enlarged(self, side: int) -> RelativeBias:
        """Bicubic between the differences known, as the source of equation 4 proposes; the class token's biases stay."""
        found = RelativeBias(side, self.table.shape[1], class_token=self.class_token)
        kinds = len(self.table) - 3 * self.class_token
        found.table.copy_(torch.cat([stretched(self.table[:kinds], 2 * side - 1), self.table[kinds:]]))
        return found.to(self.table.device)
