"""The two halves of torch's ``nn.Transformer`` in the place of our core."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from aieng_suites.vision.peers import Names, Rule


def _block(ours: str, theirs: str, mlp: str) -> tuple[Rule, ...]:
    return (
        (f"{ours}.attention.qkv.{{p}}", f"{theirs}.self_attn.in_proj_{{p}}"),
        (f"{ours}.attention.out.{{p}}", f"{theirs}.self_attn.out_proj.{{p}}"),
        (f"{ours}.norm_attention.{{p}}", f"{theirs}.norm1.{{p}}"),
        (f"{ours}.norm_mlp.{{p}}", f"{theirs}.{mlp}.{{p}}"),
        (f"{ours}.mlp.0.{{p}}", f"{theirs}.linear1.{{p}}"),
        (f"{ours}.mlp.2.{{p}}", f"{theirs}.linear2.{{p}}"),
    )


DECODER = "decoder.layers.{i}"
NAMES = Names(
    *_block("encoder.{i}", "encoder.layers.{i}", "norm2"),
    *_block("decoder.{i}", DECODER, "norm3"),
    ("decoder.{i}.norm_cross.{p}", f"{DECODER}.norm2.{{p}}"),
    (
        ("decoder.{i}.cross.query.{p}", "decoder.{i}.cross.key.{p}", "decoder.{i}.cross.value.{p}"),
        f"{DECODER}.multihead_attn.in_proj_{{p}}",
    ),
    ("decoder.{i}.cross.out.{p}", f"{DECODER}.multihead_attn.out_proj.{{p}}"),
    ("norm_encoder.{p}", "encoder.norm.{p}"),
    ("norm_decoder.{p}", "decoder.norm.{p}"),
)


class TorchCore(nn.Module):
    """``nn.TransformerEncoder`` and ``nn.TransformerDecoder`` with the methods of our ``Core``, and its arguments."""

    def __init__(self, *, width: int, depth: int, heads: int, expand: int = 2) -> None:
        super().__init__()
        how: dict[str, Any] = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        encoder = nn.TransformerEncoderLayer(width, heads, expand * width, **how)
        decoder = nn.TransformerDecoderLayer(width, heads, expand * width, **how)
        # Nested tensors are for padding, which there is none of, and not for layers that normalise first.
        self.encoder = nn.TransformerEncoder(encoder, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, depth, nn.LayerNorm(width))

    def encode(self, source: Tensor) -> Tensor:
        memory: Tensor = self.encoder(source)
        return memory

    def decode(self, target: Tensor, memory: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1], device=target.device, dtype=target.dtype)
        out: Tensor = self.decoder(target, memory, tgt_mask=mask, tgt_is_causal=True)
        return out

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.decode(target, self.encode(source))
