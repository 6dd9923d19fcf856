"""A worker's every way to die, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aieng_bench.measure import fork_server, process
from aieng_bench.measure.fork_server import Forked, ForkServer
from aieng_bench.measure.process import LOG_BYTES, MARK, Failure, Worker, worker_environment
from aieng_bench.record.schema import Outcome

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
LONG = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    with closing(ForkServer(("wave", "not_installed"), worker_environment("tuned", tmp_path_factory.mktemp("scratch")))) as server:
        yield server


@pytest.fixture(params=["started", "forked"])
def puppet(request: pytest.FixtureRequest, server: ForkServer, tmp_path: Path) -> Iterator[Worker]:
    forked = request.param == "forked"
    worker = Worker("toy_suite.puppet", worker_environment("tuned", tmp_path), server=server if forked else None)
    assert isinstance(worker._process, Forked) is forked
    yield worker
    worker.close()


def failure(worker: Worker, op: str, timeout_s: float = LONG, **fields: object) -> Failure:
    with pytest.raises(Failure) as caught:
        worker.ask(op, timeout_s, **fields)
    return caught.value


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "gone"


def soon(done: Callable[[], bool]) -> bool:
    end = time.monotonic() + LONG
    while not done() and time.monotonic() < end:
        time.sleep(0.02)
    return done()


def gone(pid: int) -> bool:
    """Dead, or a zombie that only waits for whoever inherited it."""
    return soon(lambda: gone_now(pid))


def test_ten_megabytes_there_and_back(puppet: Worker) -> None:
    assert puppet.ask("echo", LONG, text="x" * 10_000_000) == {"text": "x" * 10_000_000}


def test_a_process_is_recognised_while_it_is_still_becoming_another(tmp_path: Path) -> None:
    """Its parent knows that the exec has begun, a moment before its variables can be read: of eight one was missed so."""
    for _ in range(40):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={MARK: "becoming"})
        assert list(process.marked("becoming")) == [child.pid]
        child.kill()
        child.communicate()


@pytest.mark.parametrize("new_session", [False, True])
def test_a_child_outside_the_group_is_a_stray(puppet: Worker, new_session: bool) -> None:
    puppet.ask("litter", LONG, new_session=new_session)
    assert puppet.strays() is new_session


def test_an_idle_worker_is_stopped_and_uses_no_time(puppet: Worker) -> None:
    puppet.ask("spin", LONG)
    before = puppet.ask("counted", LONG)["cpu_s"]
    assert state(puppet.pid) == "T"
    time.sleep(1.0)
    assert puppet.ask("counted", LONG)["cpu_s"] - before < 0.9


@pytest.mark.parametrize(
    ("op", "fields", "outcome", "word"),
    [
        ("segfault", {}, Outcome.CRASHED, "SIGSEGV"),
        ("send_signal", {"number": signal.SIGABRT}, Outcome.CRASHED, "SIGABRT"),
        ("send_signal", {"number": signal.SIGKILL}, Outcome.OOM_HOST, "memory"),
        ("exit_now", {"code": 0}, Outcome.CRASHED, "code 0 without an answer"),
        ("exit_now", {"code": 7}, Outcome.CRASHED, "code 7"),
        ("forge", {}, Outcome.CRASHED, "no answer"),
        ("say", {"kind": "memory"}, Outcome.OOM_HOST, "no more"),
        ("say", {"kind": "gpu_memory"}, Outcome.OOM, "out of memory"),
        ("say", {"kind": "device"}, Outcome.CRASHED, "illegal memory access"),
        ("say", {"kind": "value"}, Outcome.ERROR, "ValueError: first line"),
        ("say", {"kind": "exit"}, Outcome.ERROR, "SystemExit"),
        ("say", {"kind": "interrupt"}, Outcome.ERROR, "KeyboardInterrupt"),
    ],
)
def test_deaths(puppet: Worker, op: str, fields: dict[str, object], outcome: Outcome, word: str) -> None:
    died = failure(puppet, op, **fields)
    assert (died.outcome, died.reusable) == (outcome, False)
    assert word in died.reason
    assert "second line" not in died.reason
    assert puppet.closed
    assert gone(puppet.pid)


def test_what_is_unsupported_leaves_the_worker_well(puppet: Worker) -> None:
    died = failure(puppet, "say", kind="unsupported")
    assert (died.outcome, died.reason, died.reusable) == (Outcome.UNSUPPORTED, "head dimension 7", True)
    assert puppet.ask("echo", LONG, x=1) == {"x": 1}


@pytest.mark.parametrize("deaf", [False, True])
def test_a_hang_is_killed_at_its_timeout(puppet: Worker, deaf: bool) -> None:
    puppet.ready()
    died = failure(puppet, "hang", timeout_s=0.5, deaf=deaf)
    assert died.outcome is Outcome.TIMEOUT
    assert gone(puppet.pid)


def test_a_log_flood_is_capped_and_its_end_kept(puppet: Worker) -> None:
    puppet.ask("flood", LONG, megabytes=30)
    puppet.close()
    assert len(puppet.log) <= LOG_BYTES
    assert puppet.log.endswith("last words\n")


@pytest.mark.parametrize("new_session", [False, True])
def test_grandchildren_die_with_it(puppet: Worker, new_session: bool) -> None:
    child = puppet.ask("litter", LONG, new_session=new_session)["child"]
    assert not gone_now(child)
    puppet.close()
    assert gone(child)


def gone_now(pid: int) -> bool:
    return state(pid) in ("gone", "Z")


def test_grandchildren_of_one_that_died_first_die_too(puppet: Worker) -> None:
    mark = puppet.mark
    assert failure(puppet, "litter_and_die").outcome is Outcome.CRASHED
    assert soon(lambda: not marked(mark))


def marked(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


def test_forks_have_what_the_server_imported_and_marks_of_their_own(server: ForkServer, tmp_path: Path) -> None:
    workers = [Worker("toy_suite.puppet", worker_environment("tuned", tmp_path), server=server) for _ in range(2)]
    for worker in workers:
        assert worker.ask("imported", LONG, name="wave") == {"imported": True}
        assert worker.ask("imported", LONG, name="toy_suite.puppet") == {"imported": True}
        assert marked(worker.mark) == [str(worker.pid)]
        child = worker.ask("litter", LONG, new_session=True)["child"]
        assert set(process.marked(worker.mark)) == {worker.pid, child}
    for worker in workers:
        worker.close()
    assert soon(lambda: not any(marked(worker.mark) for worker in workers))
    assert not Path(f"/proc/{workers[0].pid}").exists()


def test_a_late_answer_is_not_taken_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = worker_environment("tuned", tmp_path)
    with closing(ForkServer((), variables)) as server:
        monkeypatch.setattr(fork_server, "START_S", 0.0)
        for _ in range(2):
            with closing(Worker("toy_suite.puppet", variables, server=server)) as worker:
                assert isinstance(worker._process, subprocess.Popen)
                assert worker.ask("echo", LONG, x=1) == {"x": 1}
            monkeypatch.undo()


def test_a_worker_is_started_where_the_server_died(tmp_path: Path) -> None:
    variables = worker_environment("tuned", tmp_path)
    with closing(ForkServer((), variables)) as server:
        os.kill(server._process.pid, signal.SIGKILL)
        with closing(Worker("toy_suite.puppet", variables, server=server)) as worker:
            assert isinstance(worker._process, subprocess.Popen)
            assert worker.ask("echo", LONG, x=1) == {"x": 1}


@pytest.mark.parametrize("server", ["None", "ForkServer((), variables)"])
def test_a_worker_dies_with_its_parent(server: str, tmp_path: Path) -> None:
    """Even if the parent is killed with SIGKILL, and even if the worker is stopped at that moment."""
    code = (
        "import sys, time; from pathlib import Path; from aieng_bench.measure.process import Worker, worker_environment; "
        "from aieng_bench.measure.fork_server import ForkServer; "
        f"variables = worker_environment('tuned', Path({str(tmp_path)!r})); "
        f"w = Worker('toy_suite.puppet', variables, server={server}); w.ready(); "
        "print(w.pid, flush=True); time.sleep(3600)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert state(worker) == "T"
        parent.kill()
    assert gone(worker)


def test_malloc_settings_differ_in_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    tuned, default = (worker_environment(m, tmp_path) for m in ("tuned", "default"))
    assert {k for k in tuned if k.startswith("MALLOC_")} == {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"}
    assert {k: v for k, v in tuned.items() if not k.startswith("MALLOC_")} == default


def test_every_run_compiles_and_autotunes_anew_in_caches_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that two runs at once share none, and none is stale."""
    monkeypatch.setenv("TRITON_CACHE_DIR", "/shared")
    ours, theirs = (worker_environment("tuned", tmp_path / name) for name in ("ours", "theirs"))
    for cache in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TMPDIR"):
        assert Path(ours[cache]).is_relative_to(tmp_path / "ours")
        assert Path(theirs[cache]).is_relative_to(tmp_path / "theirs")


@pytest.mark.parametrize(
    "reply", [{"ok": True}, {"ok": True, "value": []}, {"ok": False}, {"ok": False, "outcome": "GREAT", "reason": ""}, {}]
)
def test_an_answer_without_its_parts_is_a_crash_of_the_worker_and_not_of_the_run(puppet: Worker, reply: dict[str, object]) -> None:
    """A contender shares the process that answers, and can find out its token."""
    with pytest.raises(Failure, match="no answer") as caught:
        puppet._unpack({"token": "t", **reply}, "turn", "t")
    assert caught.value.outcome is Outcome.CRASHED
    assert puppet.closed
