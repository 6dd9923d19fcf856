"""The runner end to end, on contenders that are honest, wrong, or deadly."""

from __future__ import annotations

import dataclasses
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from watching import MemoryStore, Watcher, benchmark, plan

from aieng_bench.define import REDTEAM, Metric
from aieng_bench.measure import kernel, run
from aieng_bench.measure.places import placeless
from aieng_bench.measure.workplace import Workplace, scratch
from aieng_bench.record import Record
from aieng_bench.record.schema import Correctness, Outcome, Quality, canonical
from aieng_bench.summary import speedup

DEADLY = {
    "segfault": (Outcome.CRASHED, "SIGSEGV"),
    "abort": (Outcome.CRASHED, "SIGABRT"),
    "exit_0": (Outcome.CRASHED, "code 0"),
    "sys_exit": (Outcome.ERROR, "SystemExit"),
    "killed": (Outcome.OOM_HOST, "memory"),
    "out_of_memory": (Outcome.OOM_HOST, "memory"),
    "flood": (Outcome.ERROR, "flooded"),
}
WRONG = {
    "zeros": "relative RMSE 1 ",
    "mutates": "",
    "in_place": "shares memory with the input b",
    "unwritten": "",
    "one_buffer": "",
    "tires": "",
    "half": "dtype float16",
    "flat": "shape (4096,)",
    "lazy": "not a plain dense torch.Tensor",
    "apart_from_its_definition": "relative RMSE",
}
REFUSED = {
    "gpu_only": "runs on cuda; this case is on cpu",
    "needs_peer": "no-such-distribution is not installed",
    "refuses": "only multiples of seven",
}


def by_name(records: list[Record]) -> dict[str, Record]:
    return {record.contender.name: record for record in records}


@pytest.fixture(scope="module")
def scale() -> dict[str, Record]:
    """One launch of everything in the suite of liars, one case."""
    store = MemoryStore()
    records = run(plan("scale"), store, Watcher())
    assert list(store.records.values()) == records
    return by_name(records)


@pytest.mark.parametrize("name", ["eager", "add", "defined_apart"])
def test_the_honest_are_measured(scale: dict[str, Record], name: str) -> None:
    record = scale[name]
    assert (record.outcome, record.check.verdict) == (Outcome.RAN, Correctness.PASSED), record.check.reason
    assert record.check.deterministic is True
    assert record.check.checks >= 3 + 2  # a call of each of three seeds, and two of a timed batch
    assert [error.output for error in record.check.outputs] == ["out"]
    assert record.rounds == ((0, 1, 2),)
    for metric in ("latency_us", "latency_cold_us"):
        assert [len(launch) for launch in record.samples[metric]] == [3]
        assert min(record.samples[metric][0]) > 0
    assert record.memory["peak_bytes"] >= 0
    assert record.setup_s is not None
    assert record.log == ""


def test_the_record_is_complete(scale: dict[str, Record]) -> None:
    record = scale["eager"]
    axes = ",".join(f"{axis}={value}" for axis, value in record.case.items() if axis != "device")
    assert record.command == f"aieng-bench run 'toy/scale[{axes}]' --contender eager --device cpu"
    assert record.case == {"N": 4096, "dtype": "float32", "device": "cpu"}
    assert record.contender.source_hash
    assert record.contender.version
    assert record.definition.flops == 8192
    assert record.environment.malloc == "tuned"
    assert record.environment.threads >= 1
    assert "MALLOC_TOP_PAD_" in record.environment.variables
    assert record.inputs_hash == scale["add"].inputs_hash != ""
    assert Record.model_validate_json(canonical(record.model_dump(mode="json"))) == record


@pytest.mark.parametrize("name", WRONG)
def test_the_wrong_are_caught(scale: dict[str, Record], name: str) -> None:
    record = scale[name]
    assert (record.outcome, record.check.verdict) == (Outcome.RAN, Correctness.INCORRECT)
    assert WRONG[name] in record.check.reason
    assert not record.ranked


def test_one_that_is_wrong_only_when_timed_keeps_its_samples_as_evidence(scale: dict[str, Record]) -> None:
    assert scale["tires"].samples["latency_us"]


@pytest.mark.parametrize("name", REFUSED)
def test_the_refusing_have_a_reason(scale: dict[str, Record], name: str) -> None:
    record = scale[name]
    assert (record.outcome, record.check.verdict) == (Outcome.UNSUPPORTED, Correctness.UNCHECKED)
    assert REFUSED[name] in record.outcome_reason


@pytest.mark.parametrize("asked", [False, True], ids=["unasked", "asked for by name"])
def test_a_quick_run_leaves_out_what_declares_so_unless_it_is_asked_for(asked: bool) -> None:
    quick = plan("scale", "eager", "add", quick=True, asked=frozenset({"add"} if asked else ()))
    unit = quick.units[0]
    eager, add = unit.contenders
    unit = dataclasses.replace(unit, contenders=(eager, dataclasses.replace(add, left_out=lambda case: "another is better here")))
    found = by_name(run(dataclasses.replace(quick, units=(unit,)), MemoryStore(), Watcher()))
    assert found["eager"].outcome is Outcome.RAN
    if asked:
        assert found["add"].outcome is Outcome.RAN
    else:
        assert found["add"].outcome is Outcome.UNSUPPORTED
        assert found["add"].outcome_reason == "not in a quick run: another is better here"


def test_contenders_asked_at_once_get_the_same_verdicts(monkeypatch: pytest.MonkeyPatch, scale: dict[str, Record]) -> None:
    """As a quick run on a device of a machine with cores enough does, here on the CPU."""
    monkeypatch.setattr(kernel.machine, "core_count", lambda: kernel.CORES)
    monkeypatch.setattr(kernel, "AT_ONCE_ON", ("cpu",))
    watcher = Watcher()
    found = by_name(run(plan("scale", "eager", "zeros", "refuses", "raises", quick=True, launches=2), MemoryStore(), watcher))
    assert len(found) == 4
    for name, record in found.items():
        assert (record.outcome, record.check.verdict) == (scale[name].outcome, scale[name].check.verdict)
    assert [len(launch) for launch in found["eager"].samples["latency_us"]] == [3, 3]
    assert [what for _, what, _ in watcher.steps].count("checking") == 1
    _, told, done = watcher.steps[-1]
    assert done == 1
    assert re.fullmatch(r"\d+\.\d s: .*\b(start|check) \d+\.\d.*", told)


def test_an_exception_is_an_error_with_its_first_line_and_log(scale: dict[str, Record]) -> None:
    record = scale["raises"]
    assert (record.outcome, record.outcome_reason) == (Outcome.ERROR, "ValueError: N=4096 is no good")
    assert "Traceback" in record.log


@pytest.fixture(scope="module")
def deaths() -> list[Record]:
    """Processes that die on the first case and are well on the second."""
    return run(plan("deaths", "eager", *DEADLY, cases=2, quick=True, rounds=1), MemoryStore(), Watcher())


@pytest.mark.parametrize("name", DEADLY)
def test_a_death_costs_its_own_cell_alone(deaths: list[Record], name: str) -> None:
    first, second = (r for r in deaths if r.contender.name == name)
    outcome, word = DEADLY[name]
    assert first.outcome is outcome, first.outcome_reason
    assert word in first.outcome_reason
    assert not first.samples
    assert (second.outcome, second.check.verdict) == (Outcome.RAN, Correctness.PASSED)
    assert second.samples


def test_the_innocent_are_measured_beside_the_dying(deaths: list[Record]) -> None:
    assert all(r.outcome is Outcome.RAN for r in deaths if r.contender.name == "eager")


def test_a_hang_is_a_timeout_and_the_rest_goes_on() -> None:
    watcher = Watcher()
    hang = by_name(run(plan("deaths", "eager", "hang", quick=True, timeout_s=10.0), MemoryStore(), watcher))["hang"]
    assert (hang.outcome, hang.outcome_reason) == (Outcome.TIMEOUT, "no answer to 'memory' within 10 s")
    assert any("hang TIMEOUT" in note for note in watcher.notes)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aieng_bench.measure.workplace._MEMORY_DISK", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run(plan("scale", "eager", "zeros"), MemoryStore(), Watcher())
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    stale, own, foreign = (tmp_path / f"aieng-bench-{name}" for name in (f"{gone.pid}-abc", f"{os.getpid()}-abc", "notes-abc"))
    for folder in (stale, own, foreign):
        (folder / "inside").mkdir(parents=True)
    made = scratch(tmp_path)
    assert set(tmp_path.iterdir()) == {own, foreign, made}


@pytest.fixture(scope="module")
def launches() -> tuple[list[Record], Watcher]:
    """A quick run of two honest contenders, two cases, two launches."""
    watcher = Watcher()
    records = run(plan("scale", "eager", "add", cases=2, quick=True, launches=2, rounds=5), MemoryStore(), watcher)
    return records, watcher


def test_contenders_are_paired_by_launch_and_round(launches: tuple[list[Record], Watcher]) -> None:
    for record in launches[0]:
        assert record.rounds == (tuple(range(5)), tuple(range(5)))
        assert [len(launch) for launch in record.samples["latency_us"]] == [5, 5]
        assert "latency_cold_us" not in record.samples
        assert record.command.endswith("--quick")


def test_memory_that_is_kept_is_counted() -> None:
    record = by_name(run(plan("scale", "eager", "keeps_memory", quick=True), MemoryStore(), Watcher()))["keeps_memory"]
    assert record.check.verdict is Correctness.PASSED, record.outcome_reason
    assert record.memory["peak_bytes"] > 60 << 20


def test_progress_is_told(launches: tuple[list[Record], Watcher]) -> None:
    records, watcher = launches
    cases = list(dict.fromkeys(r.case_id for r in records))
    assert watcher.units == len(cases) == 2
    assert watcher.begun == watcher.ended == cases
    for case in cases:
        done = [d for c, _, d in watcher.steps if c == case]
        assert done == sorted(done)
        assert 0 <= done[0] <= done[-1] <= 1
        assert {w for c, w, d in watcher.steps if c == case and d < 1} == {"checking", "launch 1 of 2", "launch 2 of 2"}


@pytest.mark.parametrize(("quick", "suite", "processes"), [(True, "", 3), (False, "", 6), (True, REDTEAM, 6)])
def test_kernels_of_a_group_share_processes_in_a_quick_run_alone(
    quick: bool, suite: str, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the check and for each of two launches; cheats never share theirs."""
    started = []
    start = Workplace.worker
    monkeypatch.setattr(Workplace, "worker", lambda *given: started.append(given) or start(*given))
    plans = [plan(name, "eager", quick=quick, launches=2) for name in ("scale", "deaths")]
    units = (dataclasses.replace(u, benchmark=dataclasses.replace(u.benchmark, suite=suite)) for p in plans for u in p.units)
    records = run(dataclasses.replace(plans[0], units=tuple(units)), MemoryStore(), Watcher())
    assert [r.definition.benchmark for r in records] == ["toy/scale", "toy/deaths"]
    assert all(r.check.verdict is Correctness.PASSED for r in records)
    assert len(started) == processes


def test_an_interrupt_keeps_what_is_finished() -> None:
    store, watcher = MemoryStore(), Watcher(interrupt_at="launch")
    declared = plan("scale", "eager", "refuses", cases=2, quick=True)
    only_refused = plan("scale", "gpu_only", quick=True).units
    with pytest.raises(KeyboardInterrupt):
        run(dataclasses.replace(declared, units=only_refused + declared.units), store, watcher)
    assert [key[2] for key in store.records] == ["gpu_only"]
    assert not children()


def children() -> list[str]:
    """Processes whose parent is this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and "worker" in (entry / "cmdline").read_text():
            found.append(entry.name)
    return found


def test_resume_runs_what_failed_and_nothing_else() -> None:
    store = MemoryStore()
    both = plan("scale", "eager", "raises", cases=1)
    run(both, store, Watcher())
    good = plan("scale", "eager", "refuses", cases=1)
    clean = {k: r.model_copy(update={"quality": Quality.CLEAN}) for k, r in by_key(run(good, store, Watcher())).items()}
    store.records |= clean

    again = Watcher()
    assert {r.key: r for r in run(good, store, again, resume=True)} == clean
    assert again.ended == again.begun
    assert not again.steps

    retried = Watcher()
    run(both, store, retried, resume=True)
    assert retried.steps


def by_key(records: list[Record]) -> dict[tuple[str, str, str], Record]:
    return {record.key: record for record in records}


@pytest.fixture(scope="module")
def study() -> dict[str, Record]:
    declared = benchmark("study")
    assert declared.contenders
    return by_name(run(plan("study"), MemoryStore(), Watcher()))


def test_a_study_has_a_sample_for_each_seed(study: dict[str, Record]) -> None:
    record = study["good"]
    assert (record.outcome, record.check.verdict, record.quality) == (Outcome.RAN, Correctness.PASSED, Quality.CLEAN)
    assert record.rounds == ((0, 1, 2),)
    assert record.samples == {"accuracy": ((0.9, 0.91, 0.92),), "time_s": ((1.0, 2.0, 3.0),)}
    assert record.extra == {"parameters": 7.0}
    assert record.memory == {"peak_bytes": 102.0}
    assert record.limit is None
    assert record.definition.kind == "study"


def test_a_study_process_lives_on_unless_its_heap_could_hide_the_next_growth() -> None:
    """And it starts without torch, which nobody asked for, and with what the study wants loaded, where it can be forked."""
    records = run(plan("study", "tells", "grows", cases=3), MemoryStore(), Watcher())
    assert {record.extra["torch"] for record in records} == {0.0}
    assert {record.extra["wave"] for record in records} == {float(sys.platform == "linux")}
    processes = {name: [r.extra["pid"] for r in records if r.contender.name == name] for name in ("tells", "grows")}
    assert len(set(processes["tells"])) == 1
    assert len(set(processes["grows"])) == len(processes["grows"]) == 3
    assert all(r.memory["peak_bytes"] > 30 << 20 for r in records if r.contender.name == "grows")


def test_a_contender_may_run_fewer_seeds_than_its_study(study: dict[str, Record]) -> None:
    assert study["hurries"].rounds == ((0,),)
    assert study["hurries"].ranked
    accuracy = study["good"].definition.metrics[0]
    ratio = speedup(study["hurries"], study["good"], accuracy)
    assert ratio is not None
    assert ratio.value == pytest.approx(1)  # of the seed that both ran


def test_a_study_below_its_floor_or_without_a_figure_is_incorrect(study: dict[str, Record]) -> None:
    assert study["bad"].check.verdict is Correctness.INCORRECT
    assert "worse than the floor 0.5" in study["bad"].check.reason
    assert study["diverges"].check.verdict is Correctness.INCORRECT
    assert "accuracy is not a number" in study["diverges"].check.reason
    assert (study["forgets"].outcome, study["forgets"].outcome_reason) == (
        Outcome.ERROR,
        "ValueError: the result has no time_s",
    )
    assert statistics.median(study["bad"].samples["accuracy"][0]) == 0.4


def test_a_cell_has_an_optional_figure_only_if_every_seed_has_it(study: dict[str, Record]) -> None:
    assert study["arrives"].samples["time_to_91_s"] == ((0.5, 1.5, 2.5),)
    for name in ("good", "arrives_at_times"):
        assert study[name].ranked
        assert set(study[name].samples) == {"accuracy", "time_s"}
    assert study["breaks_off"].outcome is Outcome.ERROR
    assert study["breaks_off"].samples == {"accuracy": ((0.9, 0.9),), "time_s": ((1.0, 1.0),)}
    with pytest.raises(ValueError, match="time_s: one that is optional has no floor"):
        Metric("time_s", "s", "lower", floor=1.0, optional=True)


def test_a_record_does_not_say_where_this_machine_keeps_things(study: dict[str, Record]) -> None:
    log = study["forgets"].log
    assert 'File "aieng_bench/measure/study_worker.py", line' in log
    assert str(Path(sys.prefix)) not in log
    assert placeless(f"no file {Path.home()}/data.csv, {tempfile.gettempdir()}/x") == "no file data.csv, x"


def test_a_quick_run_of_a_study_has_its_own_floor() -> None:
    (quick,) = run(plan("study", "bad", quick=True), MemoryStore(), Watcher())
    assert quick.check.verdict is Correctness.PASSED, "0.4 is below the floor of a full run, 0.5, and above that of a quick one"


def test_what_a_study_shows_is_kept_for_each_seed_and_bounded(study: dict[str, Record]) -> None:
    shown = study["shows"]
    assert {name: [curve.model_dump()["points"] for curve in seeds] for name, seeds in shown.exhibits.items()} == {
        "learning": [((1.0, 0.5), (2.0, 0.9))] * 3
    }
    assert (shown.schema_version, study["good"].schema_version) == (2, 1)
    assert study["shows_too_much"].outcome is Outcome.ERROR
    assert "the most that a record keeps is 262144" in study["shows_too_much"].outcome_reason
    assert not study["shows_too_much"].exhibits


def test_a_study_that_gives_no_memory_has_its_process_measured(study: dict[str, Record]) -> None:
    assert study["bad"].memory["peak_bytes"] >= 0
