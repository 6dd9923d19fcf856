"""Our models equal the peers' on copied weights, outputs and every gradient, and the weights go there and back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from aieng_suites.vision._study import our_attention
from aieng_suites.vision.models import clip, convnext, deit, dinov2, encoder_decoder, lora, patches, resnet, swin, vit
from aieng_suites.vision.peers import Names, translated
from aieng_suites.vision.peers import clip as clip_peer
from aieng_suites.vision.peers import convnext as convnext_peer
from aieng_suites.vision.peers import deit as deit_peer
from aieng_suites.vision.peers import dinov2 as dinov2_peer
from aieng_suites.vision.peers import encoder_decoder as encoder_decoder_peer
from aieng_suites.vision.peers import lora as lora_peer
from aieng_suites.vision.peers import patches as patches_peer
from aieng_suites.vision.peers import resnet as resnet_peer
from aieng_suites.vision.peers import swin as swin_peer
from aieng_suites.vision.peers import vit as vit_peer
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as torch_attention

from aieng_bench.define import Case

os.environ["HF_HUB_OFFLINE"] = "1"

Outputs = tuple[Tensor, ...]


@dataclass
class Pair:
    """A model of ours, the peer's of the same sizes, their weights' names, inputs, and how each gives its outputs."""

    ours: nn.Module
    peer: nn.Module
    names: Names
    inputs: tuple[Tensor, ...]
    run_ours: Callable[..., Outputs]
    run_peer: Callable[..., Outputs]


def images(channels: int = 1, size: int = 8) -> Tensor:
    return torch.randn(3, channels, size, size)


def logits(model: Any) -> Callable[[Tensor], Outputs]:
    return lambda x: (model(pixel_values=x).logits,)


def vit_pair(attention: vit.Attention) -> Pair:
    """With other sizes than the study's, three channels and the peer's own epsilon."""
    shape: dict[str, Any] = {"size": 12, "patch": 3, "channels": 3, "classes": 5, "width": 24, "depth": 2, "heads": 3, "expand": 4}
    ours, peer = vit.VisionTransformer(attention, **shape, epsilon=1e-12), vit_peer.build(**shape, epsilon=1e-12)
    return Pair(
        ours,
        peer,
        vit_peer.NAMES,
        (images(3, 12),),
        lambda x: (ours.tokens(x), ours(x)),
        lambda x: (peer.vit(pixel_values=x).last_hidden_state, *logits(peer)(x)),
    )


def enlarged_pair(attention: vit.Attention) -> Pair:
    """On images half as large again, with the positions brought to their grid."""
    ours, peer = vit.VisionTransformer(attention, width=16, depth=2), vit_peer.build(width=16, depth=2)
    larger = lambda x: (ours.placed(ours.positions.enlarged(6).to(x.dtype))(x),)  # noqa: E731
    enlarged = vit_peer.Enlarged(peer)
    return Pair(ours, peer, vit_peer.NAMES, (images(1, 12),), larger, lambda x: (enlarged(x),))


def linear_patches_pair(attention: vit.Attention) -> Pair:
    ours, peer = patches.LinearPatches(3, 8, 2), patches_peer.linear(8, 3, 8, 2)
    return Pair(ours, peer, patches_peer.LINEAR, (images(3),), lambda x: (ours(x),), lambda x: (peer(x),))


def overlapping_patches_pair(attention: vit.Attention) -> Pair:
    ours, peer = patches.OverlappingPatches(3, 8, 2), patches_peer.overlapping(3, 8, 2)
    return Pair(ours, peer, patches_peer.OVERLAPPING, (images(3),), lambda x: (ours(x),), lambda x: (peer(x),))


def deit_pair(attention: vit.Attention) -> Pair:
    shape = {"width": 16, "depth": 2}
    ours, peer = deit.DistilledVisionTransformer(attention, **shape), deit_peer.build(**shape)

    def theirs(x: Tensor) -> Outputs:
        out = peer(pixel_values=x)
        return out.logits, out.cls_logits, out.distillation_logits

    return Pair(ours, peer, deit_peer.NAMES, (images(),), lambda x: (ours(x), *ours.both(x)), theirs)


def swin_pair(attention: vit.Attention) -> Pair:
    """Three stages of two blocks, so that windows shift in a map that has four of them, and in one that has but one."""
    shape: dict[str, Any] = {"size": 16, "patch": 1, "width": 8, "depths": (2, 3, 2), "heads": (1, 2, 4), "window": 4}
    ours, peer = swin.Swin(attention, **shape), swin_peer.build(**shape)
    return Pair(
        ours,
        peer,
        swin_peer.NAMES,
        (images(1, 16),),
        lambda x: (ours.features(x).flatten(1, 2), ours(x)),
        lambda x: (peer.swin(pixel_values=x).last_hidden_state, *logits(peer)(x)),
    )


def clip_pair(attention: vit.Attention) -> Pair:
    image = clip.ImageTower(attention, size=8, patch=4, channels=3, width=16, depth=2, heads=2)
    text = clip.TextTower(attention, vocabulary=20, length=9, end=19, width=16, depth=2, heads=2)
    ours = clip.CLIP(image, text, width=16, common=12)
    peer = clip_peer.build(ours, size=8)
    captions = torch.tensor([[1, 5, 9, 19, 0, 0, 0], [1, 7, 19, 0, 0, 0, 0], [1, 2, 4, 3, 8, 6, 19]])
    return Pair(
        ours,
        peer,
        clip_peer.NAMES,
        (images(3, 8), captions),
        lambda x, words: (ours(x, words), ours.encode_images(x), ours.encode_texts(words), clip.contrastive_loss(ours(x, words))),
        lambda x, words: (lambda out: (out.logits_per_image, out.image_embeds, out.text_embeds, out.loss))(
            peer(input_ids=words, pixel_values=x, return_loss=True)
        ),
    )


def dinov2_pair(attention: vit.Attention) -> Pair:
    shape = {"width": 16, "depth": 2, "expand": 4}
    ours, peer = dinov2.DinoTransformer(attention, **shape), dinov2_peer.build(**shape)
    hidden = torch.rand(3, 16) < 0.4
    return Pair(
        ours,
        peer,
        dinov2_peer.NAMES,
        (images(),),
        lambda x: (ours.tokens(x), ours(x), ours.tokens(x, hidden)),
        lambda x: (
            peer(pixel_values=x).last_hidden_state,
            peer(pixel_values=x).pooler_output,
            peer(pixel_values=x, bool_masked_pos=hidden).last_hidden_state,
        ),
    )


def convnext_pair(attention: vit.Attention) -> Pair:
    shape: dict[str, Any] = {"channels": 3, "classes": 7, "patch": 2, "widths": (8, 12, 16), "depths": (1, 2, 1)}
    ours, peer = convnext.ConvNeXt(**shape), convnext_peer.build(**shape)
    return Pair(ours, peer, convnext_peer.NAMES, (images(3, 16),), lambda x: (ours(x),), logits(peer))


def resnet_pair(attention: vit.Attention) -> Pair:
    """Behind the stems, which differ: the stages alone."""
    ours, whole = resnet.ResNet(width=8, stages=3), resnet_peer.build(width=8, stages=3)
    stages, peer = ours.features[resnet_peer.FIRST :], whole.resnet.encoder
    named = nn.ModuleDict({str(n): ours.features[n] for n in range(resnet_peer.FIRST, len(ours.features))})
    run = lambda x: (peer(x).last_hidden_state,)  # noqa: E731
    return Pair(named, peer, resnet_peer.names(2), (torch.randn(3, 8, 8, 8),), lambda x: (stages(x),), run)


def encoder_decoder_pair(attention: vit.Attention) -> Pair:
    shape = {"width": 16, "depth": 2, "heads": 2}
    ours, peer = encoder_decoder.Core(attention, **shape), encoder_decoder_peer.TorchCore(**shape)
    sequences = torch.randn(3, 7, 16), torch.randn(3, 5, 16)
    return Pair(ours, peer, encoder_decoder_peer.NAMES, sequences, lambda *x: (ours(*x),), lambda *x: (peer(*x),))


def lora_pair(attention: vit.Attention) -> Pair:
    mine = lora.adapt(small_vit(attention), 3, 6.0, where=lambda name: name.endswith("qkv"), trained=lambda name: False)
    peer = lora_peer.build(small_vit(attention), 3, 6.0, targets=["qkv"])
    return Pair(mine, peer, lora_peer.NAMES, (images(),), lambda x: (mine(x),), lambda x: (peer(x),))


def small_vit(attention: vit.Attention) -> vit.VisionTransformer:
    return vit.VisionTransformer(attention, width=16, depth=2)


WITHOUT_ATTENTION = [convnext_pair, resnet_pair, linear_patches_pair, overlapping_patches_pair]
PAIRS = [vit_pair, deit_pair, swin_pair, clip_pair, dinov2_pair, encoder_decoder_pair, lora_pair, *WITHOUT_ATTENTION]
each = pytest.mark.parametrize("make", PAIRS, ids=lambda make: make.__name__.removesuffix("_pair"))


def scramble(model: nn.Module, seed: int) -> None:
    """Change every weight and statistic, so that none keeps a value in which a mistake could not be seen (zero scales, say)."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = 0.2 * torch.randn(tensor.shape, generator=generator)
            tensor.add_(noise.abs() if "running_var" in name else noise)


def prepared(make: Callable[[vit.Attention], Pair], attention: vit.Attention, dtype: torch.dtype) -> Pair:
    torch.manual_seed(0)
    pair = make(attention)
    scramble(pair.ours, 1)
    scramble(pair.peer, 2)
    pair.names.to_peer(pair.ours, pair.peer)
    for model in (pair.ours, pair.peer):
        model.to(dtype).eval()
    pair.inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in pair.inputs)
    return pair


@each
def test_outputs_and_gradients_are_the_peers(make: Callable[[vit.Attention], Pair]) -> None:
    """In float64, where sums in another order differ by some 1e-15 of their terms: a mistake would be a million times that."""
    pair = prepared(make, torch_attention, torch.float64)
    found, wanted = pair.run_ours(*pair.inputs), pair.run_peer(*pair.inputs)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
        assert theirs.abs().max() > 1e-3
    for outputs in (found, wanted):
        sum(out.square().sum() for out in outputs).backward()  # type: ignore[union-attr]
    gradients = {name: p.grad for name, p in pair.ours.named_parameters() if p.grad is not None}
    expected = {name: p.grad for name, p in pair.peer.named_parameters() if p.grad is not None}
    renamed = translated(gradients, pair.names.rules)
    assert renamed.keys() == expected.keys()
    assert len(gradients) == sum(p.requires_grad for p in pair.ours.parameters())
    for name, gradient in expected.items():
        torch.testing.assert_close(
            renamed[name].reshape(gradient.shape), gradient, rtol=1e-8, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(
    "make",
    [*(pair for pair in PAIRS if pair not in WITHOUT_ATTENTION), enlarged_pair],
    ids=lambda make: make.__name__.removesuffix("_pair"),
)
def test_on_our_attention_outputs_are_the_peers(make: Callable[[vit.Attention], Pair]) -> None:
    """In float32: a few layers round sums of up to 64 terms of about 1, some 1e-6 in all, and norms may enlarge it tenfold."""
    pair = prepared(make, our_attention(Case({"device": "cpu"})), torch.float32)
    for mine, theirs in zip(pair.run_ours(*pair.inputs), pair.run_peer(*pair.inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-5)


@each
def test_weights_go_there_and_back(make: Callable[[vit.Attention], Pair]) -> None:
    torch.manual_seed(0)
    pair = make(torch_attention)
    scramble(pair.peer, 3)
    before = {name: tensor.clone() for name, tensor in pair.peer.state_dict().items()}
    pair.names.from_peer(pair.peer, pair.ours)
    scramble(pair.peer, 4)
    pair.names.to_peer(pair.ours, pair.peer)
    for name, tensor in pair.peer.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_weight_without_a_rule_is_named() -> None:
    with pytest.raises(KeyError, match=r"extra\.weight"):
        translated({"a.weight": torch.ones(1), "extra.weight": torch.ones(1)}, Names(("a.{p}", "b.{p}")).rules)


def test_a_missing_weight_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="bias"):
        Names(("weight", "weight")).to_peer(nn.Linear(2, 2, bias=False), nn.Linear(2, 2))


def test_parts_are_joined_and_split() -> None:
    rules = Names((("q.{p}", "k.{p}"), "qk.{p}"), ("x.{i}", "y.{i}.z")).rules
    state = {"q.w": torch.zeros(2, 3), "k.w": torch.ones(2, 3), "x.7": torch.ones(1)}
    there = translated(state, rules)
    assert there.keys() == {"qk.w", "y.7.z"}
    assert torch.equal(there["qk.w"], torch.tensor([0.0, 0.0, 1.0, 1.0])[:, None].expand(4, 3))
    back = translated(there, [(b, a) for a, b in rules])
    assert all(torch.equal(back[name], state[name]) for name in state)
