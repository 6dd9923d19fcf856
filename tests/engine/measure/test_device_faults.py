"""Faults on a CUDA device: what they cost, that the next case passes, and that the device is watched while it is measured."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from watching import MemoryStore, Watcher, plan

from aieng_bench.measure import kernel, run, runner, timing
from aieng_bench.measure.judging import Judging
from aieng_bench.measure.quality import quality
from aieng_bench.measure.watch import Watch, watch
from aieng_bench.record import Record
from aieng_bench.record.schema import Correctness, Outcome, Quality

F = TypeVar("F", bound=Callable[..., Any])


def no_device() -> str:
    """Why these tests cannot run, in one line; '' if they can."""
    import torch

    return "" if torch.cuda.is_available() else "needs a CUDA device"


def on_a_device(test: F) -> F:
    return pytest.mark.gpu(pytest.mark.skipif(bool(no_device()), reason=no_device() or "-")(test))


@pytest.fixture
def no_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring them takes longer than these tests."""

    def refuse(*arguments: Any) -> Any:
        raise RuntimeError("not measured in a test")

    monkeypatch.setattr(runner.ceilings, "load_or_calibrate", refuse)


def measured(*contenders: str, **settings: Any) -> tuple[list[list[Record]], Watcher]:
    """Records of each contender beside the baseline, case by case."""
    watcher = Watcher()
    settings = {"cases": 2, "quick": True, "rounds": 2, **settings}
    records = run(plan("device_deaths", "eager", *contenders, **settings), MemoryStore(), watcher)
    return [[r for r in records if r.contender.name == name] for name in ("eager", *contenders)], watcher


def passed(record: Record) -> bool:
    return (record.outcome, record.check.verdict) == (Outcome.RAN, Correctness.PASSED)


@on_a_device
@pytest.mark.parametrize(
    ("name", "outcome", "timeout_s"),
    [
        ("asserts", Outcome.CRASHED, 60.0),
        ("reads_nowhere", Outcome.CRASHED, 60.0),
        ("never_ends", Outcome.TIMEOUT, 20.0),
        ("exhausts", Outcome.OOM, 60.0),
    ],
)
@pytest.mark.usefixtures("no_ceilings")
def test_a_fault_costs_its_own_cell_alone(name: str, outcome: Outcome, timeout_s: float) -> None:
    ((eager, eager_again), (first, second)), _ = measured(name, timeout_s=timeout_s)
    assert first.outcome is outcome, (first.outcome_reason, first.log)
    assert passed(second), (second.outcome_reason, second.check.reason, second.log)
    for honest in (eager, eager_again):
        assert passed(honest), (honest.outcome_reason, honest.check.reason)


@on_a_device
@pytest.mark.usefixtures("no_ceilings")
def test_work_left_on_another_stream_is_incorrect() -> None:
    (_, (record,)), _ = measured("leaves_work_behind", cases=1)
    assert record.check.verdict is Correctness.INCORRECT, (record.outcome_reason, record.log)
    assert not record.ranked


@on_a_device
@pytest.mark.usefixtures("no_ceilings")
def test_a_foreign_process_on_the_device_is_noise() -> None:
    if watch("cuda", lambda pid: pid == os.getpid()) is None:
        pytest.skip("the driver's library (NVML) cannot be asked here")
    code = "import torch\nx = torch.ones(4096, 4096, device='cuda')\nprint(1, flush=True)\nwhile True: (x @ x).sum().item()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as foreign:
        try:
            assert foreign.stdout is not None
            assert foreign.stdout.readline() == b"1\n"
            ((record,),), _ = measured(cases=1, rounds=60, unit_budget_s=8.0)
        finally:
            foreign.kill()
    assert passed(record), (record.outcome_reason, record.check.reason)
    assert record.quality is Quality.NOISY, record.quality_reason
    assert "another process used the device" in record.quality_reason
    assert not record.ranked


@on_a_device
def test_what_the_host_does_to_start_a_long_call_is_not_in_its_time() -> None:
    import torch

    def call(host_s: float) -> None:
        end = time.perf_counter() + host_s
        while time.perf_counter() < end:
            pass
        torch.cuda._sleep(2_000_000)

    timer = timing.CudaTimer()
    assert timer.calls(1e-3) == 5
    with_host, without = (
        min(timer.batch(call, repeat({"host_s": host_s}), 5).us_per_call for _ in range(10)) for host_s in (200e-6, 0.0)
    )
    assert without > 500
    assert with_host < without + 100  # a fifth of it, and a margin


@on_a_device
def test_two_that_autotune_in_one_cache_agree(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    script = tmp_path / "tuned.py"
    script.write_text(TUNED)
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache")}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    for processes in ([start(), start()], [start()]):  # the third finds what the two left
        for process in processes:
            printed, _ = process.communicate(timeout=100)
            assert (process.returncode, printed.decode().splitlines()[-1:]) == (0, ["right"]), printed.decode()
    assert not list((tmp_path / "cache").rglob("*.tmp*"))


TUNED = """
import torch, triton, triton.language as tl

@triton.autotune([triton.Config({"BLOCK": b}, num_warps=w) for b in (128, 1024) for w in (1, 4)], key=["n"])
@triton.jit
def double(x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, 2 * tl.load(x + i, mask=i < n), mask=i < n)

for n in (1000, 100_000):
    x = torch.randn(n, device="cuda")
    y = torch.full_like(x, float("nan"))
    double[lambda meta: (triton.cdiv(n, meta["BLOCK"]),)](x, y, n)
    assert torch.equal(y, 2 * x)
print("right")
"""


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        self.value = value


OURS, THEIRS, GONE = os.getpid(), os.getppid(), 1 << 30
NOT_SUPPORTED, NOT_FOUND = 3, 6


def driver(
    present: Sequence[int] = (OURS,), use: Sequence[tuple[int, int, int]] | None = (), throttled: int = 0
) -> SimpleNamespace:
    """Stands for the driver's library. ``use``: (process, time, part of the device used), or None if it does not tell."""

    def utilization(device: int, since: int) -> list[SimpleNamespace]:
        if use is None:
            raise NvmlError(NOT_SUPPORTED)
        if not (found := [SimpleNamespace(pid=p, timeStamp=t, smUtil=u) for p, t, u in use if t > since]):
            raise NvmlError(NOT_FOUND)
        return found

    return SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda device: throttled,
        nvmlDeviceGetComputeRunningProcesses=lambda device: [SimpleNamespace(pid=pid) for pid in present],
        nvmlDeviceGetProcessUtilization=utilization,
    )


def disturbance(before: SimpleNamespace, after: SimpleNamespace, rounds: int = 4) -> str:
    watching = Watch(before, lambda pid: pid == OURS)
    watching.begin()
    watching._nvml = after
    for _ in range(rounds):
        watching.look()
    return watching.disturbance()


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (driver(), ""),
        (driver(use=[(OURS, 20, 90)]), ""),
        (driver(present=(OURS, THEIRS), use=[(OURS, 20, 90), (THEIRS, 20, 0)]), ""),
        (driver(present=(OURS, THEIRS), use=[(THEIRS, 5, 90)]), ""),
        (driver(present=(OURS, GONE), use=[(GONE, 20, 90)]), ""),
        (driver(present=(OURS, THEIRS), use=[(OURS, 20, 50), (THEIRS, 21, 40)]), f"another process used the device ({THEIRS})"),
        (driver(present=(OURS, THEIRS), use=None), f"another process used the device ({THEIRS})"),
        (driver(present=(GONE, THEIRS), use=[(THEIRS, 20, 50)]), ""),
        (driver(throttled=0x04), ""),
        (driver(throttled=0x40), "the device was slowed down by its hardware as it is too hot in 4 of 4 rounds"),
    ],
    ids=["idle", "ours", "idle neighbour", "earlier", "gone", "busy neighbour", "not told", "namespace", "power cap", "hot"],
)
def test_what_the_driver_tells_of_a_launch(after: SimpleNamespace, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert disturbance(driver(use=[(THEIRS, 10, 99)]), after) == said


def test_a_disturbed_device_makes_a_figure_noisy() -> None:
    assert quality([], {}, None, [], disturbed="the device was …") == (Quality.NOISY, "the device was …")


def test_a_device_that_no_longer_answers_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, where the probe is made to fail."""
    monkeypatch.setattr(kernel, "PROBED", ("cpu",))
    monkeypatch.setattr(Judging, "answers", lambda self, device: False)
    watcher = Watcher()
    records = run(plan("deaths", "eager", "segfault", cases=2, quick=True, rounds=1), MemoryStore(), watcher)
    reasons = [(r.outcome, r.outcome_reason.partition(":")[0]) for r in records]
    assert reasons[1] == (Outcome.CRASHED, "died of SIGSEGV during 'memory'")
    assert [reasons[0], *reasons[2:]] == 3 * [(Outcome.ERROR, "cpu was set aside")]
    assert any("does not answer since segfault on toy/deaths N=4096" in note for note in watcher.notes)
