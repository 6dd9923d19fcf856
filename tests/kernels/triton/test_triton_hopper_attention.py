"""The Hopper kernel's roles, barriers and values, simulated; its launch is tested on a chip, with every other implementation's."""

from __future__ import annotations

import pytest
from triton_cases import ATTENTION

pytest.importorskip("triton.experimental.gluon")
import numpy as np
from gluon_simulator import Descriptor, Pointer, run

SHAPES = [s for s in ATTENTION if s[-1] <= 128] + [(1, 2, 1, 333, 503, 96), (1, 1, 1, 640, 640, 64)]


def simulate(shape: tuple[int, ...], causal: bool, config: tuple[int, int, int], scale: float, spoil: float = 0.0) -> tuple:
    """(out, lse) of the kernel and by the definition in float64; everything that is to be written starts as NaN."""
    from aieng_kernels.attention.triton_hopper_forward import hopper_kernel

    B, H, Hkv, S, T, D = shape
    warpgroups, block_n, stages = config
    generator = np.random.default_rng(0)
    q, k, v = (generator.standard_normal(s).astype(np.float16) for s in ((B, H, S, D), (B, Hkv, T, D), (B, Hkv, T, D)))
    q[:, :, S // 2, 0] += np.float16(spoil)
    out, lse = np.full(q.shape, np.nan, np.float16), np.full(q.shape[:3], np.nan, np.float32)

    def tiles(x: np.ndarray, rows: int) -> Descriptor:
        return Descriptor(x, (1, 1, rows, 64 if D <= 64 else 128))

    run(
        hopper_kernel, -(-S // (64 * warpgroups)) * B * H,
        q_desc=tiles(q, 64), k_desc=tiles(k, block_n), v_desc=tiles(v, block_n), out_desc=tiles(out, 64), lse_ptr=Pointer(lse),
        H=H, S=S, T=T, scale=np.float32(scale), bucket=0, GROUP=H // Hkv, CAUSAL=causal, WARPGROUPS=warpgroups, BLOCK_N=block_n,
        STAGES=stages,
    )  # fmt: skip
    keys, values = (x.repeat(H // Hkv, 1).astype(np.float64) for x in (k, v))
    scores = scale * q.astype(np.float64) @ keys.swapaxes(2, 3)
    if causal:
        scores = np.where(np.arange(S)[:, None] >= np.arange(T), scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    p = np.exp(scores - top)
    total = p.sum(-1, keepdims=True)
    return out, lse, p / total @ values, (top + np.log(total))[..., 0]


@pytest.mark.parametrize("config", [(2, 128, 2), (3, 128, 3), (2, 64, 3)], ids=str)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "B{}-H{}-Hkv{}-S{}-T{}-D{}".format(*s))
def test_values(shape: tuple[int, ...], causal: bool, config: tuple[int, int, int]) -> None:
    """p is rounded to float16 before its product, out once more: two ulp of a value of the size of v's."""
    out, lse, due, due_lse = simulate(shape, causal, config, shape[-1] ** -0.5)
    assert np.abs(out - due).max() <= 2 * np.finfo(np.float16).eps * np.abs(due).max()
    assert np.abs(lse - due_lse).max() <= 2e-6


def test_scores_of_several_hundred() -> None:
    out, lse, due, due_lse = simulate((1, 1, 1, 130, 300, 64), True, (2, 128, 2), 20.0)
    assert np.abs(out - due).max() <= 2 * np.finfo(np.float16).eps * np.abs(due).max()
    assert np.abs(lse - due_lse).max() <= 3 * np.finfo(np.float32).eps * np.abs(due_lse).max()


def test_nan_stays_in_its_row() -> None:
    out, lse, _, _ = simulate((1, 1, 1, 130, 300, 64), True, (2, 128, 2), 0.1, spoil=np.nan)
    bad = np.isnan(lse[0, 0])
    assert np.flatnonzero(bad).tolist() == [65]
    assert np.isnan(out[0, 0][bad]).all()
    assert not np.isnan(out[0, 0][~bad]).any()


def test_the_simulator_finds_an_early_release_and_a_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring that is released before its product is done, and one that is never released."""
    import gluon_simulator

    monkeypatch.setattr(gluon_simulator, "PATIENCE", 0.5)
    arrive = gluon_simulator.Barrier.arrive
    with monkeypatch.context() as patch:
        patch.setattr(gluon_simulator.Barrier, "arrive", lambda self, expected=0: expected and arrive(self, expected))
        with pytest.raises(AssertionError, match="deadlock"):
            simulate((1, 1, 1, 64, 640, 64), False, (2, 128, 2), 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(gluon_simulator.Barrier, "wait", lambda self, parity: None)
        with pytest.raises(AssertionError, match=r"changed while a product read it|no one expects|more arrivals"):
            simulate((1, 1, 1, 64, 1280, 64), False, (2, 128, 2), 0.1)
