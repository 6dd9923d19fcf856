"""What others call the weights of our models, and their models of the same sizes.

One file per peer: ``build`` makes the library's own model, untrained, and ``NAMES`` says which of its weights is which of ours.
With equal weights the two give equal outputs, which the tests hold in both directions; the studies train the peer anew beside ours.
No weight is downloaded: a model is built from a configuration alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]
Rule = tuple[str | tuple[str, ...], str | tuple[str, ...]]
FIELDS = {"i": r"\d+", "j": r"\d+", "p": r"[^.]+", "m": r".+"}


class Names:
    """Rules ``(ours, theirs)``. A side may be several names, whose tensors are one of the other side, joined along the first axis.

    In a name ``{i}`` and ``{j}`` stand for numbers, ``{p}`` for one part of a name, ``{m}`` for any number of parts.
    The same names stand on both sides.
    """

    def __init__(self, *rules: Rule) -> None:
        self.rules = [(_several(ours), _several(theirs)) for ours, theirs in rules]

    def to_peer(self, ours: nn.Module, peer: nn.Module) -> None:
        """Give the peer our weights. Raises KeyError for a weight without a rule, RuntimeError for one that is missing."""
        load(peer, translated(ours.state_dict(), self.rules))

    def from_peer(self, peer: nn.Module, ours: nn.Module) -> None:
        """Give ours the peer's weights; raises as :meth:`to_peer`."""
        load(ours, translated(peer.state_dict(), [(theirs, mine) for mine, theirs in self.rules]))


def _several(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def translated(state: State, rules: list[tuple[tuple[str, ...], tuple[str, ...]]]) -> dict[str, Tensor]:
    """The state dict under the names of the rules' other side."""
    left, found = dict(state), {}
    for sources, targets in rules:
        pattern = re.compile(re.sub(r"\\{(\w)\\}", lambda m: f"(?P<{m[1]}>{FIELDS[m[1]]})", re.escape(sources[0])))
        for match in filter(None, map(pattern.fullmatch, list(left))):
            fields = match.groupdict()
            tensors = [left.pop(source.format(**fields)) for source in sources]
            whole = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
            pieces = [whole] if len(targets) == 1 else whole.chunk(len(targets))
            found.update({target.format(**fields): piece for target, piece in zip(targets, pieces, strict=True)})
    if left:
        raise KeyError(f"no rule names {', '.join(left)}")
    return found


def begun(ours: nn.Module, peer: Any, names: Names) -> Any:
    """The peer with the weights of ours: a study lets both begin alike, so that what differs is the code."""
    names.to_peer(ours, peer)
    return peer


def block(ours: str, theirs: str, *, norms: tuple[str, str], attention: str = "attention", out: str = "o_proj") -> tuple[Rule, ...]:
    """Rules of a transformer block of ours: two normalisations, one layer for queries, keys and values, one after them, an MLP."""
    return (
        (f"{ours}.norm_attention.{{p}}", f"{theirs}.{norms[0]}.{{p}}"),
        (f"{ours}.norm_mlp.{{p}}", f"{theirs}.{norms[1]}.{{p}}"),
        (f"{ours}.attention.qkv.{{p}}", tuple(f"{theirs}.{attention}.{name}_proj.{{p}}" for name in "qkv")),
        (f"{ours}.attention.out.{{p}}", f"{theirs}.{attention}.{out}.{{p}}"),
        (f"{ours}.mlp.0.{{p}}", f"{theirs}.mlp.fc1.{{p}}"),
        (f"{ours}.mlp.2.{{p}}", f"{theirs}.mlp.fc2.{{p}}"),
    )


def load(module: nn.Module, state: State) -> None:
    """Load every weight; axes of length one may differ. Raises RuntimeError for what is missing, too much or of another shape."""
    wanted = module.state_dict()
    fitting = {}
    for name, tensor in state.items():
        alike = name in wanted and tensor.squeeze().shape == wanted[name].squeeze().shape
        fitting[name] = tensor.reshape(wanted[name].shape) if alike else tensor
    module.load_state_dict(fitting)


class Scores(nn.Module):
    """A peer under our form: images in, its scores out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.model(pixel_values=images).logits
        return scores
