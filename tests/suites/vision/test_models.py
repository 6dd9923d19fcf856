"""What the vision models do beside equalling their peers: positions, patches, losses, teachers, adapters, segmentation."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from aieng_suites.vision.models import clip, deit, dinov2, encoder_decoder, lora, patches, positions, segmenter, swin, unet, vit
from torch import Tensor, nn
from torch.nn import functional

SDPA = functional.scaled_dot_product_attention


def test_sinusoids_are_their_formula() -> None:
    found = positions.sinusoids(torch.arange(5.0), 8)
    for place in range(5):
        for k in range(4):
            angle = place * 10000 ** (-2 * k / 8)
            assert found[place, k].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[place, 4 + k].item() == pytest.approx(math.cos(angle), abs=1e-6)
    with pytest.raises(ValueError, match="width=7"):
        positions.sinusoids(torch.arange(5.0), 7)


def test_2d_sinusoids_are_the_peers() -> None:
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    table = positions.Sinusoidal2d(4, 16).get_buffer("table")
    wanted = get_2d_sincos_pos_embed(16, 4, base_size=4, cls_token=True, extra_tokens=1, output_type="pt")
    torch.testing.assert_close(table, wanted.float(), atol=1e-6, rtol=0)


def test_rotation_is_the_peers() -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k, angles = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8), torch.randn(5, 4)
    full = torch.cat([angles, angles], dim=1)[None]
    wanted = apply_rotary_pos_emb(q, k, full.cos(), full.sin())
    for mine, theirs in zip((positions.rotated(q, angles), positions.rotated(k, angles)), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-6)


def test_rotated_products_depend_on_the_difference_of_places() -> None:
    rotary = positions.Rotary(4, 16)
    q, k = torch.randn(16), torch.randn(16)
    products = rotary.rotate(q.expand(1, 1, 17, 16)) @ rotary.rotate(k.expand(1, 1, 17, 16)).transpose(2, 3)
    of_patches = products[0, 0, 1:, 1:].view(4, 4, 4, 4)
    torch.testing.assert_close(of_patches[0, 0, 1, 2], of_patches[2, 1, 3, 3])  # one down, two right
    torch.testing.assert_close(of_patches[3, 3, 0, 1], of_patches[3, 2, 0, 0])  # three up, two left
    assert not torch.allclose(of_patches[0, 0, 1, 2], of_patches[0, 0, 2, 1])
    assert products[0, 0, 0, 0] == pytest.approx(float(q @ k), rel=1e-5), "the class token is not turned"


def test_relative_bias_is_the_peers() -> None:
    from transformers.models.beit.configuration_beit import BeitConfig
    from transformers.models.beit.modeling_beit import BeitRelativePositionBias

    ours = positions.RelativeBias(3, 2)
    peer = BeitRelativePositionBias(BeitConfig(image_size=12, patch_size=4, num_attention_heads=2, hidden_size=8))
    nn.init.normal_(ours.table)
    peer.relative_position_bias_table.data.copy_(ours.table)
    torch.testing.assert_close(ours.bias()[0], peer((3, 3)).squeeze(0))


ENCODINGS = {
    "none": lambda: positions.Positions(),
    "learned": lambda: positions.Learned(17, 32),
    "sinusoidal": lambda: positions.Sinusoidal(4, 32),
    "sinusoidal 2-D": lambda: positions.Sinusoidal2d(4, 32),
    "rotary": lambda: positions.Rotary(4, 16),
    "relative": lambda: positions.RelativeBias(4, 2),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_an_encoding_tells_where_a_patch_is(name: str) -> None:
    """Patches in another order give other scores, except without an encoding."""
    torch.manual_seed(0)
    encoding = ENCODINGS[name]()
    for parameter in encoding.parameters():
        nn.init.normal_(parameter)
    model = vit.VisionTransformer(SDPA, width=32, depth=2, positions=encoding).double()
    image = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    order = torch.randperm(16)
    shuffled = functional.fold(functional.unfold(image, 2, stride=2)[:, :, order], 8, 2, stride=2)
    same = torch.allclose(model(image), model(shuffled), atol=1e-9)
    assert same == (name == "none")


@pytest.mark.parametrize("name", ENCODINGS)
def test_an_encoding_enlarged_to_its_own_side_is_itself(name: str) -> None:
    """To the rounding of bicubic weights, which are one and zeros here."""
    encoding = ENCODINGS[name]()
    for parameter in encoding.parameters():
        nn.init.normal_(parameter)
    same, tokens, queries = encoding.enlarged(4), torch.randn(2, 17, 32), torch.randn(2, 2, 17, 16)
    torch.testing.assert_close(same.add(tokens), encoding.add(tokens))
    torch.testing.assert_close(same.rotate(queries), encoding.rotate(queries))
    torch.testing.assert_close(same.bias(), encoding.bias())


def test_a_finer_grid_covers_the_same_picture() -> None:
    """Four patches of half the side have the mean place of the one they are, so for whatever is linear in places."""
    for fine, coarse in zip(positions.grid(8, over=4), positions.grid(4), strict=True):
        torch.testing.assert_close(functional.avg_pool2d(fine.view(1, 8, 8), 2).flatten(), coarse)
    fine, coarse = (each.get_buffer("angles")[1:] for each in (positions.Rotary(4, 16).enlarged(8), positions.Rotary(4, 16)))
    torch.testing.assert_close(functional.avg_pool2d(fine.T.view(1, 8, 8, 8), 2).flatten(2)[0].T, coarse)
    coarser = positions.Sinusoidal(4, 32).enlarged(2).get_buffer("table")
    torch.testing.assert_close(coarser[3], positions.sinusoids(torch.tensor([2.5 * 4 + 0.5]), 32)[0])


def test_a_relative_bias_enlarged_is_smooth_between_what_was_learned() -> None:
    """A bias that grows with the difference goes on so in finer steps, to the 2 % by which torch's bicubic bends a line."""
    encoding = positions.RelativeBias(5, 1)
    rows = torch.arange(9.0).repeat_interleave(9)
    with torch.no_grad():
        encoding.table.copy_(torch.cat([rows - 4, torch.tensor([7.0, 8.0, 9.0])])[:, None])
    larger = encoding.enlarged(10)
    bias = larger.bias()[0, 0]
    assert bias[0, 1:].unique().tolist() == [7.0]
    assert bias[1:, 0].unique().tolist() == [8.0]
    assert bias[0, 0] == 9.0
    of_patches = bias[1:, 1:].view(10, 10, 10, 10)
    torch.testing.assert_close(of_patches[4, 4, 4, 4], torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(of_patches[6, 4, 3, 4], torch.tensor(3 * 9 / 19), atol=0, rtol=0.02)


@pytest.mark.parametrize("make", [patches.LinearPatches, patches.ConvStem, patches.OverlappingPatches])
@pytest.mark.parametrize("patch", [2, 4])
def test_patch_embeddings_give_one_map(make: Any, patch: int) -> None:
    embed = make(3, 16, patch)
    assert embed(torch.randn(2, 3, 8, 8)).shape == (2, 16, 8 // patch, 8 // patch)
    model = vit.VisionTransformer(SDPA, channels=3, width=16, patch=patch, depth=1, embed=embed)
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_a_stem_needs_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="patch=3"):
        patches.ConvStem(1, 12, 3)


def test_distillation_losses_are_their_formulas() -> None:
    torch.manual_seed(0)
    by_label, by_teacher, teacher = torch.randn(3, 4, 5, dtype=torch.float64)
    labels = torch.tensor([0, 3, 1, 4])
    own = -by_label.log_softmax(1)[range(4), labels].mean()
    choice = -by_teacher.log_softmax(1)[range(4), teacher.argmax(1)].mean()
    torch.testing.assert_close(deit.hard_distillation((by_label, by_teacher), labels, teacher, smoothing=0.0), (own + choice) / 2)
    p, q = (teacher / 2).softmax(1), (by_teacher / 2).softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    found = deit.soft_distillation((by_label, by_teacher), labels, teacher, temperature=2.0, share=0.3, smoothing=0.0)
    torch.testing.assert_close(found, 0.7 * own + 0.3 * 4 * divergence)


def test_windows_and_back() -> None:
    x = torch.randn(2, 8, 12, 3)
    split = swin.windows(x, 4)
    assert split.shape == (2, 6, 16, 3)
    assert torch.equal(split[1, 4], x[1, 4:8, 4:8].reshape(16, 3))
    assert torch.equal(swin.unwindowed(split, 4, 8, 12), x)


def test_shifted_windows_join_neighbours_alone() -> None:
    """With a shift a patch is reached by neighbours across the border of its window, and not by those across the image's."""
    block = swin.Block(8, 2, 8, 4, 2, SDPA, 2).double()
    image = torch.randn(1, 8, 8, 8, dtype=torch.float64, requires_grad=True)
    block(image)[0, 3, 3].sum().backward()
    reached = image.grad.abs().sum(-1)[0] > 0  # type: ignore[union-attr]
    assert torch.equal(reached.nonzero(), torch.cartesian_prod(torch.arange(2, 6), torch.arange(2, 6)))
    image.grad = None
    block(image)[0, 0, 0].sum().backward()
    reached = image.grad.abs().sum(-1)[0] > 1e-9  # type: ignore[union-attr]
    assert torch.equal(reached.nonzero(), torch.cartesian_prod(torch.arange(2), torch.arange(2)))


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"size=6.*window=4"):
        swin.Swin(SDPA, size=12, patch=1, window=4, depths=(1, 1), heads=(1, 1))
    with pytest.raises(ValueError, match=r"width=8.*heads=3"):
        swin.Swin(SDPA, width=8, heads=(3, 3))
    with pytest.raises(ValueError, match=r"width=8.*heads=3"):
        encoder_decoder.CrossAttention(8, 3, SDPA)
    with pytest.raises(ValueError, match="head_width=6"):
        positions.Rotary(4, 6)
    with pytest.raises(ValueError, match="rank=9"):
        lora.LoRALinear(nn.Linear(8, 16), 9, 1.0)


def test_contrastive_loss_shares_a_target_among_equal_captions() -> None:
    similarities = torch.randn(4, 4, dtype=torch.float64)
    pairs = torch.arange(4)
    wanted = (functional.cross_entropy(similarities, pairs) + functional.cross_entropy(similarities.T, pairs)) / 2
    torch.testing.assert_close(clip.contrastive_loss(similarities), wanted)
    captions = torch.tensor([0, 1, 0, 2])
    same = captions[:, None] == captions[None, :]
    perfect = torch.where(same, 50.0, 0.0).double()
    assert clip.contrastive_loss(perfect, same).item() == pytest.approx(math.log(2) / 2, abs=1e-6), "half have a partner they equal"


def test_clips_scale_is_bounded() -> None:
    image = clip.ImageTower(SDPA, size=8, patch=4, channels=3, width=8, depth=1, heads=2)
    text = clip.TextTower(SDPA, vocabulary=9, length=5, end=8, width=8, depth=1, heads=2)
    model = clip.CLIP(image, text, width=8, common=4)
    assert model.scale().item() == pytest.approx(1 / 0.07)
    model.log_scale.data.fill_(10)
    assert model.scale().item() == pytest.approx(100)


def test_a_caption_is_read_at_its_end() -> None:
    text = clip.TextTower(SDPA, vocabulary=9, length=5, end=8, width=8, depth=2, heads=2).eval()
    one, padded, other = torch.tensor([[1, 2, 8, 0, 0], [1, 2, 8, 5, 4], [1, 3, 8, 0, 0]])
    found = text(torch.stack([one, padded, other]))
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=1e-3)


def distillation() -> dinov2.SelfDistillation:
    torch.manual_seed(0)
    backbone = dinov2.DinoTransformer(SDPA, width=16, depth=1)
    return dinov2.SelfDistillation(backbone, 16, hidden=8, bottleneck=4, prototypes=6)


def test_only_the_student_learns_and_the_teacher_follows() -> None:
    model = distillation()
    hidden = torch.rand(2, 5, 16) < 0.5
    loss = model.loss(torch.randn(5, 1, 8, 8), torch.randn(5, 1, 8, 8), hidden)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in model.teacher.parameters())
    learned = [name for name, p in model.student.named_parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert len(learned) == len(list(model.student.named_parameters())), "every weight of the student has a gradient"
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 1
    before = [p.clone() for p in model.teacher.parameters()]
    model.update_teacher(progress=0.0)
    for old, new, student in zip(before, model.teacher.parameters(), model.student.parameters(), strict=True):
        torch.testing.assert_close(new, 0.99 * old + 0.01 * student)
    before = [p.clone() for p in model.teacher.parameters()]
    model.update_teacher(progress=1.0)
    assert all(torch.equal(old, new) for old, new in zip(before, model.teacher.parameters(), strict=True)), "at the end it stands"


def test_the_centre_is_an_average_of_the_teachers_scores() -> None:
    model = distillation()
    one, other = torch.randn(2, 5, 1, 8, 8)
    with torch.no_grad():
        wanted = torch.cat([model.teacher.image(model(view)) for view in (one, other)]).mean(0)
    model.loss(one, other, torch.zeros(2, 5, 16, dtype=torch.bool))
    torch.testing.assert_close(model.get_buffer("centre_image"), 0.1 * wanted)
    model.loss(one, other, torch.zeros(2, 5, 16, dtype=torch.bool))
    torch.testing.assert_close(model.get_buffer("centre_image"), 0.19 * wanted)


def test_the_loss_of_self_distillation_is_its_formula() -> None:
    student, teacher, centre = torch.randn(3, 4), torch.randn(3, 4), torch.randn(4)
    target = ((teacher - centre) / 0.04).softmax(1)
    wanted = -(target * (student / 0.1).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(dinov2.distillation_loss(student, teacher, centre, 0.1, 0.04), wanted)


def test_the_spread_is_least_for_even_vectors() -> None:
    even = torch.eye(4)
    near = torch.tensor([[1.0, 0, 0, 0], [1.0, 0.01, 0, 0], [0, 0, 1.0, 0], [0, 0, 1.0, 0.01]])
    assert float(dinov2.spread_loss(even)) == pytest.approx(-math.log(math.sqrt(2)), abs=1e-5)
    assert dinov2.spread_loss(near) > dinov2.spread_loss(even)


def test_a_new_adapter_changes_nothing_and_a_merged_one_computes_the_same() -> None:
    torch.manual_seed(0)
    plain = vit.VisionTransformer(SDPA, width=16, depth=2).double()
    adapted = lora.adapt(
        copy.deepcopy(plain), 2, 4.0, where=lambda n: n.endswith(("qkv", "out")), trained=lambda n: n.startswith("head")
    )
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    assert torch.equal(adapted(images), plain(images))
    for name, parameter in adapted.named_parameters():
        assert parameter.requires_grad == (name.startswith("head") or name.endswith((".up", ".down"))), name
        if name.endswith(".up"):
            nn.init.normal_(parameter)
    wanted = adapted(images)
    assert not torch.allclose(wanted, plain(images), atol=1e-3)
    merged = lora.merge(adapted)
    assert merged.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(merged(images), wanted, rtol=1e-10, atol=1e-10)


def test_the_learned_share_is_counted() -> None:
    model = lora.adapt(
        nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 2)), 1, 1.0, where=lambda n: n == "0", trained=lambda n: n[0] == "1"
    )
    assert lora.trained_share(model) == (20 + 22) / (110 + 20 + 22)
    with pytest.raises(ValueError, match="no linear layer"):
        lora.adapt(nn.Linear(2, 2), 1, 1.0, where=lambda name: False, trained=lambda name: True)


def test_a_unet_gives_scores_per_pixel_and_sees_far() -> None:
    model = unet.UNet(width=4).eval()
    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    scores = model(images)
    assert scores.shape == (2, 5, 32, 32)
    scores[0, :, 16, 16].sum().backward()
    reached = images.grad[0].abs().sum(0).nonzero()  # type: ignore[index]
    assert reached.min() <= 4
    assert reached.max() >= 27


def test_a_segmenters_patch_gives_the_scores_of_its_own_pixels() -> None:
    """Without blocks a pixel's scores depend on its own patch alone, and each pixel of a patch has scores of its own."""
    torch.manual_seed(0)
    model = segmenter.Segmenter(SDPA, size=16, patch=4, channels=3, width=8, depth=0)
    images = torch.randn(1, 3, 16, 16, requires_grad=True)
    scores = model(images)
    assert scores.shape == (1, 5, 16, 16)
    scores[0, :, 9, 14].sum().backward()
    reached = images.grad[0].abs().sum(0) > 0  # type: ignore[index]
    assert torch.equal(reached.nonzero(), torch.cartesian_prod(torch.arange(8, 12), torch.arange(12, 16)))
    assert len({tuple(pixel.tolist()) for pixel in scores[0, :, 8:12, 12:16].flatten(1).T}) == 16


def test_greedy_decoding_is_the_best_symbol_each_time() -> None:
    torch.manual_seed(0)
    core = encoder_decoder.Core(SDPA, width=16, depth=2, heads=2)
    model = encoder_decoder.EncoderDecoder(core, symbols=7, length=9, width=16).eval()
    source = torch.randint(0, 7, (3, 6))
    written = model.greedy(source, start=0, length=5)
    assert written.shape == (3, 5)
    seen = torch.cat([torch.zeros(3, 1, dtype=torch.long), written[:, :-1]], dim=1)
    assert torch.equal(model(source, seen).argmax(-1), written)


def test_what_is_written_does_not_see_what_follows() -> None:
    core = encoder_decoder.Core(SDPA, width=16, depth=1, heads=2).double()
    source, target = torch.randn(1, 4, 16, dtype=torch.float64), torch.randn(1, 6, 16, dtype=torch.float64)
    changed: Tensor = target.clone()
    changed[:, 4:] *= -1
    torch.testing.assert_close(core(source, target)[:, :4], core(source, changed)[:, :4], atol=1e-12, rtol=0)
    assert not torch.allclose(core(source, target)[:, 4:], core(source, changed)[:, 4:])
    assert not torch.allclose(core(-source, target), core(source, target))
