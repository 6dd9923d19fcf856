"""Machine code as records: occupancy, what a comparison makes of exact figures, and cells that cannot be read."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aieng_bench import registry, static
from aieng_bench.cli import app
from aieng_bench.compare import Verdict, compare
from aieng_bench.define import Unsupported
from aieng_bench.machine_code import MachineCode, StaticBenchmark, StaticCell, occupancy
from aieng_bench.record.publish import publish
from aieng_bench.record.reading import line, load, parse
from aieng_bench.record.schema import Outcome, Record
from tests.engine.made import DEFINITION, ENVIRONMENT

runner = CliRunner()
ROOT = Path(__file__).parents[2]
CODE = MachineCode(128, 0, 48 * 1024, 128, Counter({"HGMMA.64x128x16.F32.BF16": 8, "FFMA": 30, "LDGSTS.E.BYPASS.128": 4}))


def reading(code: MachineCode | Exception) -> StaticBenchmark:
    def read() -> MachineCode:
        if isinstance(code, Exception):
            raise code
        return code

    return StaticBenchmark("toy/static", "Toy", "A toy.", lambda: [StaticCell("triton scale", "sm_90", read)], suite="toys")


def record(code: MachineCode | Exception, **environment: str) -> Record:
    benchmark = reading(code)
    (cell,) = benchmark.cells()
    made = static.measure(benchmark, cell, "20260101T000000Z-abcdef")
    return made.model_copy(update={"environment": made.environment.model_copy(update=environment)})


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "arch", "wanted"),
    [
        # By hand: warps by registers 4·⌊16384 / ⌈32·r⌉₂₅₆⌋, blocks by shared memory ⌊SM / (s + 1 KiB)⌋.
        (32, 0, 256, "sm_80", 1.0),
        (40, 0, 256, "sm_80", 0.75),
        (40, 0, 96, "sm_80", 0.75),
        (128, 0, 128, "sm_90a", 0.25),
        (255, 0, 256, "sm_90", 0.125),
        (168, 0, 384, "sm_90", 12 / 64),
        (32, 100 * 1024, 128, "sm_90", 8 / 64),
        (32, 100 * 1024, 128, "sm_80", 4 / 64),
        (32, 227 * 1024, 128, "sm_100", 4 / 64),
        (32, 227 * 1024 + 1, 128, "sm_100", 0.0),
        (32, 0, 32, "sm_90", 0.5),
        (16, 0, 2048, "sm_90", 0.0),
    ],
)
def test_occupancy_is_what_the_calculator_gives(registers: int, shared: int, threads: int, arch: str, wanted: float) -> None:
    assert occupancy(MachineCode(registers, 0, shared, threads, {}), arch) == wanted


def test_an_unknown_architecture_has_no_figure() -> None:
    with pytest.raises(LookupError, match="no limits known for sm_61"):
        occupancy(CODE, "sm_61")


def changed(head: MachineCode) -> dict[str, tuple[Verdict, str]]:
    found = compare([record(CODE)], [record(head)])
    assert found.exit_code == (1 if any(change.verdict is Verdict.SLOWER for change in found.changes) else 0)
    assert {change.contender for change in found.changes} == {"triton scale"}
    return {change.metric.name: (change.verdict, change.reason) for change in found.changes}


def test_equal_code_is_the_same_and_ends_with_nought() -> None:
    assert set(changed(CODE).values()) == {(Verdict.SAME, "")}
    assert compare([record(CODE)], [record(CODE, machine="other")]).exit_code == 0


def test_a_spill_is_a_regression_and_its_end_a_gain() -> None:
    spilled = dataclasses.replace(CODE, registers=255, stack_bytes=88, instructions=CODE.instructions | Counter(LDL=3, STL=2))
    found = changed(spilled)
    assert found["stack_bytes"] == (Verdict.SLOWER, "registers 128 → 255, LDL 0 → 3, STL 0 → 2")
    assert found["local_accesses"][0] is Verdict.SLOWER
    assert found["occupancy"][0] is Verdict.SLOWER
    assert found["tensor_core"] == (Verdict.SAME, "")
    back = compare([record(spilled)], [record(CODE)])
    assert back.exit_code == 0
    assert [c.verdict for c in back.changes] == [Verdict.FASTER] * 3 + [Verdict.SAME]


@pytest.mark.parametrize(("instead", "level"), [({"HMMA.16816.F32.BF16": 64}, 1.0), ({"FFMA": 9000}, 0.0)])
def test_a_lost_warpgroup_product_is_a_regression(instead: dict[str, int], level: float) -> None:
    found = compare([record(CODE)], [record(dataclasses.replace(CODE, instructions=Counter(instead)))])
    (lost,) = (change for change in found.changes if change.verdict is Verdict.SLOWER)
    assert (lost.metric.name, lost.base, lost.head) == ("tensor_core", 2.0, level)
    assert "HGMMA 8 → 0" in lost.reason


def test_other_counts_are_shown_and_decide_nothing() -> None:
    more = dataclasses.replace(CODE, registers=126, instructions=CODE.instructions | Counter(FFMA=40))
    assert changed(more)["stack_bytes"] == (Verdict.SAME, "registers 128 → 126, FFMA 30 → 40")


def test_what_cannot_be_read_is_a_cell_with_its_reason() -> None:
    absent, broken = record(Unsupported("Triton is not installed")), record(RuntimeError("ptxas died\nat line 1"))
    assert (absent.outcome, absent.outcome_reason) == (Outcome.UNSUPPORTED, "Triton is not installed")
    assert (broken.outcome, broken.outcome_reason) == (Outcome.ERROR, "RuntimeError: ptxas died")
    assert compare([record(CODE)], [broken]).exit_code == 2
    assert compare([absent], [absent]).exit_code == 3


def test_old_records_keep_their_bytes_and_new_ones_are_published(tmp_path: Path) -> None:
    for file in sorted(ROOT.glob("results/*/*.jsonl")):
        for text in file.read_text(encoding="utf-8").splitlines():
            assert line(parse(text)) == text
    assert "exact" not in DEFINITION.model_dump_json()
    made = record(CODE, machine=ENVIRONMENT.machine)
    (tmp_path / "a.jsonl").write_text(line(made) + "\n")
    published = publish(load(tmp_path / "a.jsonl"), tmp_path / "results")
    assert load(published).records == [made]


def test_the_command_prints_records_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "statics", lambda: {"toy/static": reading(CODE)})
    base = str(tmp_path / "base")
    done = runner.invoke(app, ["static", "toy:*scale", "--out", base])
    assert done.exit_code == 0, done.output
    assert "triton scale" in done.stdout
    assert "1 read" in done.stdout
    assert runner.invoke(app, ["static", "toy:nothing", "--out", str(tmp_path / "none")]).exit_code == 3
    assert "nearest: toy" in runner.invoke(app, ["static", "toyy"]).stderr
    monkeypatch.setattr(registry, "statics", lambda: {"toy/static": reading(dataclasses.replace(CODE, stack_bytes=8))})
    head = str(tmp_path / "head")
    assert runner.invoke(app, ["static", "--out", head]).exit_code == 0
    compared = runner.invoke(app, ["compare", base, head])
    assert compared.exit_code == 1
    assert "SLOWER triton scale stack_bytes 0 B → 8.00 B" in " ".join(compared.stdout.split())
    assert runner.invoke(app, ["show", head]).exit_code == 0
    assert runner.invoke(app, ["report", head, "--out", str(tmp_path / "page")]).exit_code == 0
    page = (tmp_path / "page" / "index.md").read_text()
    assert "1 read" in page
    assert "| – | **triton scale (ours)** | 8.00 |" in page
