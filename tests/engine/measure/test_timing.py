"""Batches, turns, inputs and memory, without asserting a time."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import torch
from watching import benchmark

from aieng_bench.define import Case, KernelBenchmark
from aieng_bench.measure import inputs as given
from aieng_bench.measure import memory, timing


class Counting:
    """A function that returns the number of its call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Any) -> int:
        self.calls += 1
        return self.calls


def test_a_batch_makes_its_calls_and_keeps_the_last_and_one_that_varies() -> None:
    timer, kept = timing.CpuTimer(), Counter[int]()
    for _ in range(200):
        function = Counting()
        batch = timer.batch(function, timing.hot({"x": 0}), 5)
        assert function.calls == batch.last == 5
        kept[batch.kept] += 1
    assert set(kept) == {1, 2, 3, 4, 5}


def test_the_timers_own_cost_is_taken_off() -> None:
    timer = timing.CpuTimer()
    assert timer.overhead_ns > 0
    timer.overhead_ns = 1e12
    assert timer.batch(Counting(), timing.hot({"x": 0}), 5).us_per_call < 0


def test_a_turn_discards_and_then_times() -> None:
    function = Counting()
    turn = timing.turn(timing.CpuTimer(), function, timing.hot({"x": 0}), calls=7, batches=3, most_s=60)
    assert function.calls % 7 == 0
    assert turn.claimed_ns >= 1e7
    assert function.calls - 21 < turn.kept <= turn.last <= function.calls


def test_a_turn_that_takes_far_longer_than_foretold_is_cut_short() -> None:
    function = Counting()
    turn = timing.turn(timing.CpuTimer(), function, timing.hot({"x": 0}), calls=1, batches=10**9, most_s=0.05)
    assert turn.last <= function.calls < 10**9
    only = timing.turn(timing.CpuTimer(), function, timing.hot({"x": 0}), calls=1, batches=10**9, most_s=0)
    assert only.kept == only.last == function.calls


def test_a_pilot_sizes_batches_to_200_microseconds() -> None:
    pilot = timing.pilot(timing.CpuTimer(), Counting(), {"x": 0})
    assert pilot.calls == -int(-timing.SHORTEST_BATCH_S // pilot.call_s)


@pytest.mark.parametrize(
    ("call_s", "on_cpu", "on_cuda"), [(1e-6, 200, 200), (5e-6, 40, 40), (50e-6, 4, 32), (600e-6, 1, 9), (5.1e-3, 1, 1), (1.0, 1, 1)]
)
def test_calls_of_a_batch(call_s: float, on_cpu: int, on_cuda: int) -> None:
    assert timing.CpuTimer().calls(call_s) == pytest.approx(on_cpu, abs=1)
    assert timing.CudaTimer().calls(call_s) == pytest.approx(on_cuda, abs=1)


def test_cold_inputs_exceed_twice_the_cache_or_are_not_called_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "last_level_cache_bytes", lambda: 10_000)
    x = torch.randn(10, 100).t()
    rotated = timing.cold({"x": x, "n": 3}, free_bytes=2**30)
    assert rotated is not None
    seen = [next(rotated) for _ in range(12)]
    addresses = [s["x"].data_ptr() for s in seen]
    assert len(set(addresses)) * 4000 > 20_000
    assert x.data_ptr() not in addresses
    assert addresses[0] == addresses[len(set(addresses))]
    assert all(torch.equal(s["x"], x) and s["x"].stride() == x.stride() and s["n"] == 3 for s in seen)
    assert timing.cold({"x": x}, free_bytes=50_000) is None
    assert timing.cold({"x": torch.zeros(1)}, free_bytes=2**30) is None
    assert timing.cold({"n": 3}, free_bytes=2**30) is None


def test_inputs_are_the_same_for_equal_seeds_and_for_every_place() -> None:
    declared = benchmark("scale")
    assert isinstance(declared, KernelBenchmark)
    case = Case({"N": 4096, "dtype": "float32", "device": "cpu"})
    default = Case({**case, "malloc": "default"})
    first, again, other = (
        given.combined(given.digest(given.make_inputs(declared, c, s))) for c, s in ((case, 0), (default, 0), (case, 1))
    )
    assert first == again != other


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64])
def test_a_digest_sees_every_byte_and_the_layout(dtype: torch.dtype) -> None:
    x = torch.zeros(4, 6, dtype=dtype)
    before = given.digest_of(x)
    assert given.digest_of(x.clone()) == before
    assert given.digest_of(x.reshape(6, 4)) != before
    x[3, 5] = 1
    assert given.digest_of(x) != before


def test_a_digest_sees_the_memory_beside_a_view() -> None:
    whole = torch.zeros(4, 8)
    view = whole[:, :4]
    before = given.digest_of(view)
    whole[0, 7] = 1
    assert given.digest_of(view) != before


@pytest.mark.parametrize("size", [0, 1, 4, 63, 64, 4 * 1000 + 3])
def test_a_device_s_digest_sees_every_byte_and_the_length(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums that stand for SHA-256 on a device, here on the CPU, over several parts."""
    monkeypatch.setattr(given, "WORDS", 16)
    memory = torch.arange(size, dtype=torch.int64).to(torch.uint8)
    before = given.summed(memory, 7)
    assert given.summed(memory.clone(), 7) == before
    assert given.summed(torch.cat([memory, memory.new_zeros(1)]), 7) != before
    for at in range(0, size, max(1, size // 40)):
        other = memory.clone()
        other[at] += 1
        assert given.summed(other, 7) != before
    if size > 1:
        assert given.summed(memory, 8) != before
        assert given.summed(memory.flip(0), 7) != before
        assert given.summed(torch.cat([memory.new_zeros(1), memory])[1:], 7) == before


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_growth_counts_what_a_call_touches_even_if_it_frees_it() -> None:
    """In a process of its own, whose heap no other test has shaped."""
    code = (
        "import torch; from aieng_bench.measure.memory import peak_growth; "
        "touch = lambda: torch.ones(2**25, dtype=torch.uint8)[-1].item(); touch(); "
        "none, some = peak_growth(lambda: None, 'cpu'), peak_growth(touch, 'cpu'); "
        "assert none < 2**22 and 0.9 * 2**25 < some < 1.3 * 2**25, (none, some)"
    )
    for tuned in ({}, {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}):
        subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path), **tuned})


def test_sampling_stands_in_where_the_peak_cannot_be_reset(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "no" / "such")
    kept = []
    growth = memory.peak_growth(lambda: kept.append(torch.ones(2**27, dtype=torch.uint8)), "cpu")
    assert growth is not None
    assert growth > 0.9 * 2**27


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_poison_differs_from_call_to_call_and_ends() -> None:
    code = (
        "import torch; from aieng_bench.measure.memory import perturb, poison\n"
        "seen = set()\n"
        "for _ in range(8):\n"
        "    poison('cpu'); seen.add(bytes(torch.empty(5_000_000, dtype=torch.uint8)[:9].numpy()))\n"
        "assert len(seen) > 2 and all(len(set(s)) == 1 for s in seen), seen\n"
        "perturb(0); assert not torch.empty(300_000_000, dtype=torch.uint8)[-9:].any()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
