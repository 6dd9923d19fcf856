"""Write README.md's tables from the newest published runs; with --check, only say whether they are current."""

from __future__ import annotations

import sys
from pathlib import Path

from aieng_bench import calibration, registry
from aieng_bench.record.reading import load
from aieng_bench.record.schema import Record
from aieng_bench.report.format import NOTHING, percent, quantity, ratio
from aieng_bench.report.markdown import table, text
from aieng_bench.summary import Group, Row, groups

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
HEADS = [
    "Benchmark",
    "Case",
    "Best of ours",
    "Figure",
    "Against the named baseline",
    "Against the fastest correct baseline",
    "Of the limit",
]


def newest_runs() -> list[tuple[Path, list[Record]]]:
    """Of each machine's files those that measured a case last, with its records, of the cases that are declared today.

    Two files of one day differ in name only by their commits.
    """
    forms = [(device, quick) for device in ("cpu", "cuda") for quick in (False, True)]
    declared = {(b.name, case.id) for b in registry.benchmarks().values() for form in forms for case in b.cases(*form)}
    newest = []
    for folder in sorted((ROOT / "results").iterdir()):
        files = [(file, [r for r in load(file).records if measured(r) in declared]) for file in sorted(folder.glob("*.jsonl"))]
        files = sorted(((file, records) for file, records in files if records), key=lambda run: run[1][0].created)
        last = {measured(r): file for file, records in files for r in records}
        kept = [(file, [r for r in records if last[measured(r)] == file]) for file, records in files]
        newest += [(file, records) for file, records in kept if records]
    return newest


def measured(record: Record) -> tuple[str, str]:
    return record.definition.benchmark, record.case_id


def line(group: Group, best: Row) -> list[str]:
    headline = group.headline
    assert headline is not None
    named = f"{ratio(best.speedup)} {text(group.definition.baseline)}" if best.speedup else NOTHING
    fastest = f"{ratio(best.speedup_fastest)} {text(group.fastest_baseline or '')}" if best.speedup_fastest else NOTHING
    return [
        text(group.definition.benchmark),
        text(group.label),
        text(best.record.contender.name),
        quantity(best.medians[headline.name], headline.unit),
        named,
        fastest,
        percent(best.percent_of_limit),
    ]


def repeats(records: list[Record]) -> str:
    """How often each contender was measured: launches of a kernel's, seeds of a study's."""
    samples = [(r.definition.kind, launches) for r in records for launches in r.samples.values()]
    launches = max((len(found) for kind, found in samples if kind != "study"), default=0)
    seeds = sorted({len(found[0]) for kind, found in samples if kind == "study"})
    return ", ".join([f"{launches} launches"] * bool(launches) + [f"{' or '.join(map(str, seeds))} seeds"] * bool(seeds))


def section(published: Path, records: list[Record]) -> str:
    """One machine's table: of each case that has any of ours the best that is ranked, or that none is."""
    rows = []
    for group in groups(records):
        if all(row.record.contender.kind != "ours" for row in group.rows):
            continue
        ours = [row for row in group.rows if row.rank is not None and row.record.contender.kind == "ours"]
        blank = [text(group.definition.benchmark), text(group.label), "none ranked", *[NOTHING] * 4]
        rows.append(line(group, ours[0]) if ours else blank)
    where = records[0].environment
    facts = f"{text(where.cpu)}, {where.cores} cores, {where.gpu or 'no GPU'}; torch {where.libraries.get('torch', '?')}"
    name = published.relative_to(ROOT)
    intro = f"**{facts}.** Above 1× ours is better; 95 % intervals over {repeats(records)} a contender; records: [{name}]({name})."
    return f"{intro}\n\n{table(HEADS, rows, [False] * 3 + [True] * 4)}"


def main() -> int:
    readme = ROOT / "README.md"
    before = readme.read_text()
    head, rest = before.split(BEGIN)
    tail = rest.split(END)[1]
    shown = [*(section(*run) for run in newest_runs()), text(calibration.load().line)]
    after = f"{head}{BEGIN}\n" + "\n\n".join(shown) + f"\n{END}{tail}"
    if "--check" in sys.argv:
        return int(after != before)
    readme.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
