"""Encoder-decoder transformer over sequences of symbols. Source: Vaswani et al., Attention Is All You Need, arXiv:1706.03762.

Normalisation goes before each branch, as in Xiong et al., arXiv:2002.04745, which trains without a long warm-up.
Shapes: B sequences, S symbols read, T symbols written, D width, H heads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aieng_suites.vision.models.positions import sinusoids
from aieng_suites.vision.models.vit import Attention, Block, SelfAttention


class CrossAttention(nn.Module):
    """Queries of one sequence (B, T, D) attend to keys and values of another (B, S, D) (section 3.2.3)."""

    def __init__(self, width: int, heads: int, attention: Attention) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width={width} must be a multiple of heads={heads}")
        self.heads, self.attention = heads, attention
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        q, k, v = (
            layer(of).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, of in ((self.query, x), (self.key, memory), (self.value, memory))
        )
        out: Tensor = self.out(self.attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class DecoderBlock(nn.Module):
    """x + causal MSA(LN(x)), x + cross-attention(LN(x), memory), x + MLP(LN(x))."""

    def __init__(self, width: int, heads: int, attention: Attention, *, expand: int = 2) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, attention)
        self.norm_cross = nn.LayerNorm(width)
        self.cross = CrossAttention(width, heads, attention)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU(), nn.Linear(expand * width, width))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x), is_causal=True)
        x = x + self.cross(self.norm_cross(x), memory)
        x = x + self.mlp(self.norm_mlp(x))
        return x


class Core(nn.Module):
    """Embedded sequences (B, S, D) and (B, T, D) to the decoder's output (B, T, D): what ``nn.Transformer`` is."""

    def __init__(self, attention: Attention, *, width: int, depth: int, heads: int, **block: Any) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(Block(width, heads, attention, **block) for _ in range(depth))
        self.norm_encoder = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(DecoderBlock(width, heads, attention, **block) for _ in range(depth))
        self.norm_decoder = nn.LayerNorm(width)

    def encode(self, source: Tensor) -> Tensor:
        for block in self.encoder:
            source = block(source)
        memory: Tensor = self.norm_encoder(source)
        return memory

    def decode(self, target: Tensor, memory: Tensor) -> Tensor:
        for block in self.decoder:
            target = block(target, memory)
        out: Tensor = self.norm_decoder(target)
        return out

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.decode(target, self.encode(source))


class EncoderDecoder(nn.Module):
    """Scores (B, T, symbols) of each next symbol, given the sequence read (B, S) and those written so far (B, T).

    ``core`` is a :class:`Core`, or another module with its methods.
    """

    def __init__(self, core: Any, *, symbols: int, length: int, width: int) -> None:
        super().__init__()
        self.core = core
        self.embed = nn.Embedding(symbols, width)
        self.head = nn.Linear(width, symbols)
        self.register_buffer("places", sinusoids(torch.arange(float(length)), width), persistent=False)

    def embedded(self, symbols: Tensor) -> Tensor:
        placed: Tensor = self.embed(symbols) + self.get_buffer("places")[: symbols.shape[1]]
        return placed

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        scores: Tensor = self.head(self.core(self.embedded(source), self.embedded(target)))
        return scores

    @torch.no_grad()
    def greedy(self, source: Tensor, start: int, length: int) -> Tensor:
        """The ``length`` symbols (B, length) written after ``start``, each the best after those before it."""
        memory = self.core.encode(self.embedded(source))
        written = torch.full((len(source), 1), start, device=source.device)
        for _ in range(length):
            last = self.core.decode(self.embedded(written), memory)[:, -1]
            written = torch.cat([written, self.head(last).argmax(-1, keepdim=True)], dim=1)
        return written[:, 1:]
