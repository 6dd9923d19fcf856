"""Ceilings: the limit's arithmetic on hand-made figures, the cache and its faults, and the order of what is measured."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from aieng_bench import ceilings as module
from aieng_bench import ceilings_cpu, ceilings_cuda
from aieng_bench.ceilings import Ceilings, cache_file, calibrate, fingerprint, limit, load_or_calibrate, merged, recall, remember
from aieng_bench.define import Work

KIB, MIB = 1 << 10, 1 << 20


def made(**changed: object) -> Ceilings:
    fields: dict[str, object] = {
        "machine": fingerprint(),
        "device": "cpu",
        "threads": 2,
        "quick": False,
        "bandwidth": {
            32 * KIB: {"read": 400e9, "copy": 500e9},
            MIB: {"read": 200e9, "copy": 150e9},
            64 * MIB: {"read": 40e9, "copy": 50e9},
        },
        "rates": {"float32": 200e9, "bfloat16": 400e9},
        "created": "2026-01-01T00:00:00Z",
    }
    return Ceilings.model_validate({**fields, **changed})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Replaces the measurement by hand-made figures; the list grows by ``quick`` at each."""
    calls: list[bool] = []

    def measure(*, quick: bool, threads: int) -> tuple[dict[int, dict[str, float]], dict[str, float]]:
        calls.append(quick)
        return {size: dict(mixes) for size, mixes in made().bandwidth.items()}, dict(made().rates)

    monkeypatch.setattr(ceilings_cpu, "measure", measure)
    return calls


def test_memory_binds() -> None:
    found = limit(Work(flops=1e6, bytes=50e6), math.inf, made())
    assert found is not None
    assert found.binds == "memory"
    assert found.bandwidth_bytes_per_s == 50e9
    assert found.time_us == pytest.approx(1000.0)


def test_compute_binds_at_the_rate_that_the_work_names() -> None:
    for compute, microseconds in (("float32", 5000.0), ("bfloat16", 2500.0)):
        found = limit(Work(flops=1e9, bytes=1e3, compute=compute), MIB, made())
        assert found is not None
        assert (found.binds, found.rate_per_s) == ("compute", made().rates[compute])
        assert found.time_us == pytest.approx(microseconds)


def test_unknown_rate_has_no_limit() -> None:
    assert limit(Work(flops=1.0, bytes=1.0, compute="exp"), MIB, made()) is None


def test_no_work_takes_no_time() -> None:
    found = limit(Work(flops=0.0, bytes=0.0), 0.0, made())
    assert found is not None
    assert found.time_us == 0.0


@pytest.mark.parametrize(
    ("working_set", "expected"),
    [(1, 500e9), (32 * KIB, 500e9), (MIB, 500e9), (2 * MIB, 200e9), (127 * MIB, 200e9), (128 * MIB, 50e9), (math.inf, 50e9)],
)
def test_bandwidth_is_that_of_the_fastest_level_that_could_hold_the_set(working_set: float, expected: float) -> None:
    assert made().bandwidth_at(working_set) == expected


def test_bandwidth_never_rises_with_the_working_set() -> None:
    disturbed = made(bandwidth={KIB: {"read": 10e9}, MIB: {"read": 90e9}, 64 * MIB: {"read": 40e9}})
    assert [disturbed.bandwidth_at(size) for size in (KIB, 2 * MIB, 128 * MIB)] == [90e9, 90e9, 40e9]


@pytest.mark.parametrize("figure", [0.0, -1.0, math.nan, math.inf])
def test_impossible_figures_are_refused(figure: float) -> None:
    with pytest.raises(ValueError, match="rates"):
        made(rates={"float32": figure})
    with pytest.raises(ValueError, match="bandwidth"):
        made(bandwidth={KIB: {"read": figure}})


def test_round_trip_through_the_cache(cache: Path, measured: list[bool]) -> None:
    first = load_or_calibrate("cpu", threads=2)
    assert cache_file("cpu", 2).is_relative_to(cache)
    assert load_or_calibrate("cpu", threads=2) == first
    assert first.bandwidth == made().bandwidth
    assert measured == [False]


def test_quick_does_not_answer_for_full(cache: Path, measured: list[bool]) -> None:
    assert load_or_calibrate("cpu", quick=True, threads=2).quick
    load_or_calibrate("cpu", quick=True, threads=2)
    assert not load_or_calibrate("cpu", threads=2).quick
    assert not load_or_calibrate("cpu", quick=True, threads=2).quick
    assert measured == [True, False]


def test_thread_counts_are_kept_apart(cache: Path, measured: list[bool]) -> None:
    assert [load_or_calibrate("cpu", threads=n).threads for n in (1, 2, 1)] == [1, 2, 1]
    assert len(measured) == 2


@pytest.mark.parametrize(
    "change", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b.replace(b"400", b"-40"), lambda b: b"\xff" + b]
)
def test_a_broken_cache_is_measured_again(cache: Path, measured: list[bool], change: object) -> None:
    assert callable(change)
    load_or_calibrate("cpu", threads=2)
    file = cache_file("cpu", 2)
    file.write_bytes(change(file.read_bytes()))
    assert load_or_calibrate("cpu", threads=2).bandwidth == made().bandwidth
    assert len(measured) == 2
    assert Ceilings.model_validate_json(file.read_bytes()).bandwidth == made().bandwidth


def test_another_machines_cache_is_not_believed(cache: Path, measured: list[bool]) -> None:
    load_or_calibrate("cpu", threads=2)
    cache_file("cpu", 2).write_text(made(machine="another", rates={"float32": 9e15}).model_dump_json())
    assert load_or_calibrate("cpu", threads=2).rates == made().rates


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[bool]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert load_or_calibrate("cpu", threads=2).rates == made().rates
    assert blocked.read_text() == "not a folder"


def test_calibrating_again_only_raises(cache: Path, measured: list[bool]) -> None:
    module.remember(made(rates={"float32": 300e9, "bfloat16": 100e9}, bandwidth={MIB: {"read": 900e9}, 2 * MIB: {"read": 1e9}}))
    again = calibrate("cpu", quick=True, threads=2)
    assert again.rates == {"float32": 300e9, "bfloat16": 400e9}
    assert again.bandwidth[MIB] == {"read": 900e9, "copy": 150e9}
    assert again.bandwidth[2 * MIB] == {"read": 1e9}
    assert not again.quick
    assert merged(made(quick=True), made(quick=True)).quick


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="device='tpu'"):
        calibrate("tpu")
    with pytest.raises(ValueError, match="threads=0"):
        calibrate("cpu", threads=0)
    native = ceilings_cpu.load()
    with pytest.raises(ValueError, match="threads"):
        native.compute("fma", 0, 0.0)
    with pytest.raises(ValueError, match="seconds"):
        native.compute("fma", 1, -1.0)
    with pytest.raises(ValueError, match="working_set_bytes"):
        native.stream("add", 1000, 1, 0.0)


def test_unknown_probes_are_none() -> None:
    native = ceilings_cpu.load()
    assert native.compute("fft", 1, 0.0) is None
    assert native.stream("scatter", MIB, 1, 0.0) is None


def test_without_a_gpu_the_cuda_calibration_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(RuntimeError, match="no CUDA device"):
        calibrate("cuda")


@pytest.mark.parametrize("threads", [1, 3])
def test_probes_count_their_work(threads: int) -> None:
    native = ceilings_cpu.load()
    for kind in ("fma", "exp"):
        seconds, operations = native.compute(kind, threads, 0.0)
        assert seconds > 0
        assert operations % threads == 0
    for mix in ceilings_cpu.MIXES:
        seconds, moved = native.stream(mix, 96 * KIB, threads, 0.0)
        assert seconds > 0
        assert moved >= 32 * MIB * 0.9  # small sets are gone over many times


@pytest.mark.parametrize("nbytes", [0, 1, 511, 512, 40_000_007])
def test_the_copy_copies(nbytes: int) -> None:
    copy = ceilings_cpu.load().copy
    source, target = torch.randint(256, (nbytes,), dtype=torch.uint8), torch.zeros(nbytes + 9, dtype=torch.uint8)
    copy(source.data_ptr(), target.data_ptr(), nbytes, 3)
    assert torch.equal(target[:nbytes], source)
    assert not target[nbytes:].any()
    with pytest.raises(ValueError, match="multiples of 64"):
        copy(source.data_ptr(), target[4:].data_ptr(), 0, 1)


def test_measured_rates_are_in_order() -> None:
    """Generous on purpose: what must hold on any machine, busy or not."""
    rates = ceilings_cpu.rates(ceilings_cpu.load(), 1, 0.05)
    assert set(rates) == {"float32", "bfloat16", "exp"}
    assert all(rate > 1e6 for rate in rates.values())
    assert rates["bfloat16"] >= rates["float32"] > rates["exp"]


def test_main_memory_is_not_faster_than_the_first_cache() -> None:
    native = ceilings_cpu.load()
    small, large = (ceilings_cpu.per_second(native.stream("read", size, 1, 0.1)) for size in (16 * KIB, 64 * MIB))
    assert 0 < large <= 2 * small


def test_working_sets_reach_past_the_last_level_cache() -> None:
    for threads, step in ((1, 2), (2, 4), (64, 4)):
        sizes = ceilings_cpu.working_sets(threads, step)
        assert sizes == sorted(set(sizes))
        assert sizes[0] == threads * ceilings_cpu.SMALLEST_PER_THREAD
        assert sizes[-1] >= ceilings_cpu.last_level_cache()


def test_of_several_that_remember_at_once_one_is_believed_and_none_is_torn(cache: Path) -> None:
    """Two calibrations at once: whoever reads meanwhile finds one of them whole."""
    candidates = [made(rates={"float32": 1e9 * (n + 1)}) for n in range(8)]
    remember(candidates[0])
    with ThreadPoolExecutor(8) as pool:
        writing = [pool.submit(remember, one) for one in candidates * 4]
        while not all(one.done() for one in writing):
            assert recall("cpu", 2) in candidates
    assert [file.name for file in cache.rglob("*.*")] == [cache_file("cpu", 2).name]


@pytest.mark.parametrize(("start_s", "bandwidth"), [(3e-6, 6e12), (0.0, 6e12), (1.0, 6 * 2**25)])
def test_the_cache_of_a_device_has_a_bandwidth_that_is_finite(
    monkeypatch: pytest.MonkeyPatch, start_s: float, bandwidth: float
) -> None:
    """Also where a call's start hides the transfer: on a first device 2.4e16 bytes/s were found so."""
    sizes: list[int] = []

    def call(mix: str, size: int) -> None:
        sizes.append(size)

    monkeypatch.setattr(ceilings_cuda, "call", call)
    monkeypatch.setattr(ceilings_cuda, "best", lambda run, seconds, repeats: start_s + sizes[-1] / 6e12)
    found = ceilings_cuda.cached(2**25, 0.1)
    assert set(found) == set(ceilings_cuda.ARRAYS)
    assert all(value == pytest.approx(bandwidth, rel=1e-3) for value in found.values())
