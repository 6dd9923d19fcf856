"""The Hopper kernel's roles, barriers and values, simulated; its launch is tested on a chip, with every other implementation's."""

from __future__ import annotations

import pytest
from triton_cases import ATTENTION

pytest.importorskip("triton.experimental.gluon")
import numpy as np
from gluon_simulator import Descriptor, Pointer, run

SHAPES = [s for s in ATTENTION if s[-1] <= 128] + [(1, 2, 1, 200, 333, 96), (1, 1, 1, 450, 450, 64)]


Arrays = dict[str, np.ndarray]


def definition(shape: tuple[int, ...], causal: bool, scale: float, spoil: float = 0.0) -> tuple[Arrays, Arrays]:
    """Inputs q, k, v, dout in float16, and by the definition in float64 out, lse, delta, dq, dk, dv."""
    B, H, Hkv, S, T, D = shape
    group = H // Hkv
    generator = np.random.default_rng(0)
    shapes = {"q": (B, H, S, D), "k": (B, Hkv, T, D), "v": (B, Hkv, T, D), "dout": (B, H, S, D)}
    given = {name: generator.standard_normal(s).astype(np.float16) for name, s in shapes.items()}
    given["q"][:, :, S // 2, 0] += np.float16(spoil)
    q, k, v, dout = (x.astype(np.float64) for x in given.values())
    k, v = k.repeat(group, 1), v.repeat(group, 1)
    scores = scale * q @ k.swapaxes(2, 3)
    if causal:
        scores = np.where(np.arange(S)[:, None] >= np.arange(T), scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    total = np.exp(scores - top).sum(-1, keepdims=True)
    p = np.exp(scores - top) / total
    out = p @ v
    delta = (out * dout).sum(-1)
    ds = scale * p * (dout @ v.swapaxes(2, 3) - delta[..., None])
    due = {"out": out, "lse": (top + np.log(total))[..., 0], "delta": delta, "dq": ds @ k}
    for name, x in (("dk", ds.swapaxes(2, 3) @ q), ("dv", p.swapaxes(2, 3) @ dout)):
        due[name] = x.reshape(B, Hkv, group, T, D).sum(2)
    return given, due


def tiled(x: np.ndarray, rows: int) -> Descriptor:
    """A head in tiles of rows and of the dimensions that a kernel pads to, or statistics of rows."""
    return Descriptor(x, (1, 1, rows, 64 if x.shape[3] <= 64 else 128) if x.ndim == 4 else (1, 1, rows))


Config = tuple[int, int, int, bool] | tuple[int, int]
"""BLOCK_N, STAGES, WARPGROUPS and PINGPONG, or of the blocks that stay BLOCK_N and STAGES."""


def simulate(shape: tuple[int, ...], causal: bool, config: Config, scale: float, spoil: float = 0.0) -> tuple:
    """(out, lse) of the kernel and by the definition; everything that is to be written starts as NaN. Three blocks stay."""
    from aieng_kernels.attention.triton_hopper_forward import hopper_kernel
    from aieng_kernels.attention.triton_hopper_persistent import hopper_persistent_kernel

    B, H, Hkv, S, T, _ = shape
    block_n, stages, warpgroups, pingpong = config if len(config) == 4 else (*config, 2, None)
    tiles = -(-S // (64 * warpgroups)) * B * H
    if pingpong is None:
        kernel, blocks, own = hopper_persistent_kernel, min(tiles, 3), {"tiles": tiles}
    else:
        kernel, blocks, own = hopper_kernel, tiles, {"WARPGROUPS": warpgroups, "PINGPONG": pingpong}
    given, due = definition(shape, causal, scale, spoil)
    out, lse = np.full_like(given["q"], np.nan), np.full((B, H, S), np.nan, np.float32)
    run(
        kernel, blocks,
        q_desc=tiled(given["q"], 64), k_desc=tiled(given["k"], block_n), v_desc=tiled(given["v"], block_n),
        out_desc=tiled(out, 64), lse_ptr=Pointer(lse), H=H, S=S, T=T, scale=np.float32(scale), bucket=0, GROUP=H // Hkv,
        CAUSAL=causal, BLOCK_N=block_n, STAGES=stages, **own,
    )  # fmt: skip
    return out, lse, due["out"], due["lse"]


def simulate_backward(shape: tuple[int, ...], causal: bool, block: int, stages: int, scale: float) -> tuple[Arrays, Arrays]:
    """dq, dk, dv of the kernels and by the definition; everything that is to be written starts as NaN."""
    from aieng_kernels.attention.triton_hopper_backward import hopper_dkdv_kernel, hopper_dq_kernel

    B, H, Hkv, S, T, _ = shape
    given, due = definition(shape, causal, scale)
    P = -(-S // 128) * 128
    shift, delta = np.full((B, H, P), np.inf, np.float32), np.zeros((B, H, P), np.float32)
    shift[..., :S], delta[..., :S] = due["lse"] * np.log2(np.e), due["delta"]
    made = {name: np.full_like(given[name[1:]], np.nan) for name in ("dq", "dk", "dv")}
    common = {
        "H": H,
        "S": S,
        "T": T,
        "scale": np.float32(scale),
        "bucket": 0,
        "GROUP": H // Hkv,
        "CAUSAL": causal,
        "STAGES": stages,
    }

    def descriptors(rows: int, *names: str) -> dict[str, Descriptor]:
        found = {**given, **made, "shift": shift, "delta": delta}
        return {f"{name}_desc": tiled(found[name], rows) for name in names}

    run(
        hopper_dkdv_kernel, -(-T // 128) * B * Hkv, **descriptors(block, "q", "dout", "shift", "delta"),
        **descriptors(64, "k", "v", "dk", "dv"), **common, BLOCK_M=block,
    )  # fmt: skip
    run(
        hopper_dq_kernel, -(-S // 128) * B * H, **descriptors(block, "k", "v"), **descriptors(64, "q", "dout", "dq"),
        shift_ptr=Pointer(shift), delta_ptr=Pointer(delta), P=P, **common, BLOCK_N=block,
    )  # fmt: skip
    return made, due


@pytest.mark.parametrize("config", [(128, 2, 2, True), (64, 3, 3, True), (64, 3, 2, False), (128, 2), (64, 3)], ids=str)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "B{}-H{}-Hkv{}-S{}-T{}-D{}".format(*s))
def test_values(shape: tuple[int, ...], causal: bool, config: Config) -> None:
    """p is rounded to float16 before its product, out once more: two ulp of a value of the size of v's."""
    out, lse, due, due_lse = simulate(shape, causal, config, shape[-1] ** -0.5)
    assert np.abs(out - due).max() <= 2 * np.finfo(np.float16).eps * np.abs(due).max()
    assert np.abs(lse - due_lse).max() <= 2e-6


@pytest.mark.parametrize("block", [64, 128])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "B{}-H{}-Hkv{}-S{}-T{}-D{}".format(*s))
def test_gradients(shape: tuple[int, ...], causal: bool, block: int) -> None:
    """P and dS are rounded to float16 before their products, the gradient once more."""
    made, due = simulate_backward(shape, causal, block, 2, shape[-1] ** -0.5)
    for name, x in made.items():
        assert np.abs(x - due[name]).max() <= 2 * np.finfo(np.float16).eps * max(1.0, np.abs(due[name]).max()), name


def test_padding_meets_no_overflow() -> None:
    """One key, whose score is far below zero in half of the rows, so that exp(0 - lse) of a key beyond T is infinite."""
    made, due = simulate_backward((1, 1, 1, 130, 1, 32), False, 64, 2, 40.0)
    for name, x in made.items():
        assert np.abs(x - due[name]).max() <= 2 * np.finfo(np.float16).eps * max(1.0, np.abs(due[name]).max()), name


def test_scores_of_several_hundred() -> None:
    out, lse, due, due_lse = simulate((1, 1, 1, 130, 300, 64), True, (128, 2, 2, True), 20.0)
    assert np.abs(out - due).max() <= 2 * np.finfo(np.float16).eps * np.abs(due).max()
    assert np.abs(lse - due_lse).max() <= 3 * np.finfo(np.float32).eps * np.abs(due_lse).max()


def test_nan_stays_in_its_row() -> None:
    out, lse, _, _ = simulate((1, 1, 1, 130, 300, 64), True, (128, 2, 2, True), 0.1, spoil=np.nan)
    bad = np.isnan(lse[0, 0])
    assert np.flatnonzero(bad).tolist() == [65]
    assert np.isnan(out[0, 0][bad]).all()
    assert not np.isnan(out[0, 0][~bad]).any()


@pytest.mark.parametrize(
    ("shape", "config"),
    [((1, 1, 1, 64, 1280, 64), (128, 2, 2, False)), ((1, 7, 1, 128, 256, 64), (128, 2))],
    ids=["block", "stays"],
)
def test_the_simulator_finds_what_barriers_are_for(shape: tuple[int, ...], config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without releases, a deadlock; without waits, tiles read too early or overwritten too early: an assertion, or wrong values."""
    import gluon_simulator

    def held() -> None:
        out, _, due, _ = simulate(shape, False, config, 0.1)
        assert np.abs(out - due).max() <= 0.01

    held()
    monkeypatch.setattr(gluon_simulator, "PATIENCE", 0.5)
    arrive = gluon_simulator.Barrier.arrive
    with monkeypatch.context() as patch:
        patch.setattr(gluon_simulator.Barrier, "arrive", lambda self, expected=0: expected and arrive(self, expected))
        with pytest.raises(AssertionError, match="deadlock"):
            held()
    with monkeypatch.context() as patch:
        patch.setattr(gluon_simulator.Barrier, "wait", lambda self, parity: None)
        with pytest.raises(AssertionError):
            held()
