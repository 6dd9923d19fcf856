"""The study vision/self_supervised: its losses, its probes, and that labels are for judging alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from aieng_suites.vision import _features, _training, self_supervised
from aieng_suites.vision._study import torch_attention
from aieng_suites.vision.data import digits
from aieng_suites.vision.models import simclr
from aieng_suites.vision.peers import begun
from aieng_suites.vision.peers import dinov2 as dinov2_peer


def test_the_contrastive_loss_is_its_definition() -> None:
    """Equation 1 and algorithm 1 of the paper, term by term in double precision; and its gradient."""
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    views = [view / np.linalg.norm(view) for pair in zip(one.numpy(), other.numpy(), strict=True) for view in pair]

    def term(i: int, j: int) -> float:
        similar = [math.exp(float(views[i] @ views[k]) / 0.3) for k in range(10)]
        return -math.log(similar[j] / sum(value for k, value in enumerate(similar) if k != i))

    wanted = sum(term(2 * k, 2 * k + 1) + term(2 * k + 1, 2 * k) for k in range(5)) / 10
    assert simclr.nt_xent(one, other, 0.3).item() == pytest.approx(wanted, rel=1e-12)
    assert torch.autograd.gradcheck(lambda a, b: simclr.nt_xent(a, b, 0.3), (one.requires_grad_(), other.requires_grad_()))
    single = simclr.nt_xent(one.float(), other.float(), 0.3).item()
    assert single == pytest.approx(wanted, rel=1e-5), "float32, of sums of ten terms"


def test_the_contrastive_loss_is_least_when_each_finds_its_own() -> None:
    axes = torch.eye(4)
    assert simclr.nt_xent(axes, axes, 0.02) < 1e-6
    assert simclr.nt_xent(axes, axes.roll(1, 0), 0.02) > 10


def test_the_nearest_vote_by_their_cosine() -> None:
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.8]])
    labels = torch.tensor([0, 2, 1, 1])
    asked = torch.tensor([[5.0, 0.0], [0.0, 0.1]])
    scores = _features.nearest(features, labels, asked, neighbours=2, classes=3)
    cosine = 0.9 / math.hypot(0.9, 0.1)
    torch.testing.assert_close(scores[0], torch.tensor([1.0, 0.0, math.exp((cosine - 1) / 0.07)]))
    assert scores.argmax(1).tolist() == [0, 1]
    assert scores[1, 0] == scores[1, 2] == 0


def test_the_linear_probe_is_scikit_learns() -> None:
    """Of one convex objective there is one least; scikit-learn's counts the penalty once for all images."""
    from sklearn.linear_model import LogisticRegression

    images, labels = _training.tensors(digits.load().train, "cpu")
    features, labels = images[:300, :, 2:6].flatten(1).double(), labels[:300]
    probe = _features.LinearProbe(features, labels, penalty=1e-2, steps=1000)
    standardised = ((features - features.mean(0)) / features.std(0).clamp_min(1e-6)).numpy()
    peer = LogisticRegression(C=1 / (1e-2 * 300), tol=1e-8, max_iter=5000).fit(standardised, labels.numpy())
    found = probe(features).softmax(1).detach().numpy()
    assert np.abs(found - peer.predict_proba(standardised)).max() < 1e-3


def test_labels_are_for_judging_alone() -> None:
    """The loss is the same whatever the labels, and its views are two."""
    seen: list[torch.Tensor] = []

    def loss(model: object, one: torch.Tensor, other: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seen.extend((one, other))
        return (one - other).square().mean()

    task = self_supervised.unlabelled(loss)
    images, labels = _training.tensors(task.data.train, "cpu")
    losses = [task.loss(torch.nn.Identity(), images[:8], x, torch.Generator().manual_seed(0)) for x in (labels[:8], labels[8:16])]
    assert losses[0] == losses[1] > 0
    assert torch.equal(seen[0], seen[2])
    assert not torch.allclose(seen[0], seen[1], atol=0.1)


def test_pixels_are_judged_as_features_are() -> None:
    task = self_supervised.supervised()
    model = torch.nn.Module()
    model.tokens = lambda images: (images * task.data.deviation + task.data.mean).flatten(1)[:, None]  # type: ignore[assignment]
    figures = self_supervised.raw(0)
    assert task.judge(model, task.data.test, "cpu") == figures["accuracy"] > 0.97
    assert task.further(model, "cpu")["probe_accuracy"] == pytest.approx(figures["probe_accuracy"], abs=0.01)


def test_the_peers_backbone_gives_all_tokens_or_the_class_token() -> None:
    torch.manual_seed(0)
    ours = self_supervised.backbone(torch_attention())
    peer = dinov2_peer.Backbone(begun(ours, dinov2_peer.build(**self_supervised.SIZES), dinov2_peer.NAMES)).eval()
    images, hidden = torch.randn(3, 1, 8, 8), torch.rand(3, 16) < 0.4
    torch.testing.assert_close(peer(images), ours(images), rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(peer.tokens(images, hidden), ours.tokens(images, hidden), rtol=1e-4, atol=2e-5)
