"""From the records of one run to what its page says."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

from aieng_bench import calibration, redteam
from aieng_bench.record.schema import Environment, Record, content_hash
from aieng_bench.report import format as fmt
from aieng_bench.report import plots, study
from aieng_bench.report.board import board
from aieng_bench.report.headline import headline
from aieng_bench.report.roofline import roofline
from aieng_bench.report.view import Cell, Column, Headline, RunPage, Section, slug
from aieng_bench.summary import Group, groups

INDEX_COLUMNS = (
    Column("Run", number=False),
    Column("Date", number=False),
    Column("Machine", number=False),
    Column("Commit", number=False),
    Column("Cells ranked"),
    Column("Best of ours against the fastest baseline", number=False),
)


def run_page(records: Sequence[Record], site: str) -> RunPage:
    """The page of one run; ``site`` is the name of the whole."""
    cases = groups([record for record in records if not redteam.is_redteam(record)])
    by_benchmark: dict[tuple[str, str, str], list[Group]] = defaultdict(list)
    for case in cases:
        by_benchmark[case.definition.benchmark, case.definition.hash, str(case.case.get("device"))].append(case)
    roles = plots.Roles()
    anchors = [f"{number}-{slug(name)}" for number, (name, *_) in enumerate(by_benchmark, start=1)]
    sections = tuple(_section(found, anchor, roles) for anchor, found in zip(anchors, by_benchmark.values()))
    timed = [(found, anchor) for anchor, found in zip(anchors, by_benchmark.values()) if found[0].definition.kind != "static"]
    summary = tuple(headline(found, anchor) for found, anchor in timed)
    name = f"{slug(records[0].run)}-{hashlib.sha256(records[0].run.encode()).hexdigest()[:8]}"
    digest = hashlib.sha256("".join(sorted(content_hash(record) for record in records)).encode()).hexdigest()
    return RunPage(
        slug=name,
        site=fmt.clean(site),
        title=_title(records[0].environment),
        scope=_scope(records, cases, len(sections)),
        byline=_byline(records),
        facts=_facts(records),
        summary=summary,
        sections=sections,
        roofline=roofline(cases, roles),
        matrix=_matrix(records),
        calibration=calibration.load().line,
        trials=tuple(calibration.load().rows),
        provenance=f"Rebuilt from {_count(len(records), 'record')} alone; together they hash to {digest}.",
        index_row=_index_row(records, name, summary),
    )


def _matrix(records: Sequence[Record]) -> tuple[tuple[Cell, ...], ...]:
    """The catch matrix of a run of the red team, whose records no leaderboard shows; a line per cheat."""
    tones = {"caught": "good", "passed": "good", "waived": "warn", "not run": "", "MISSED": "bad", "REFUSED": "bad"}
    return tuple(
        (
            Cell(row.name, f"on {row.device}", sort=row.name, number=False),
            Cell(row.what, number=False),
            Cell(row.verdict, sort=row.verdict, tone=tones[row.verdict], number=False),
            Cell(row.how or fmt.NOTHING, number=False),
            Cell(row.twin_verdict, f"{row.twin} {row.twin_reason}", row.twin_verdict, tones[row.twin_verdict], number=False),
        )
        for row in redteam.matrix(records)
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _scope(records: Sequence[Record], cases: Sequence[Group], benchmarks: int) -> str:
    """What was measured, and what became of it."""
    if rows := redteam.matrix(records):
        return f"The red team's {redteam.summary(rows)}."
    states = Counter("read" if fmt.was_read(record) else fmt.status(record).split(":")[0] for record in records)
    ranked = states.pop("ranked", 0)
    rest = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    measured = f"{_count(benchmarks, 'benchmark')}, {_count(len(cases), 'case')}, {_count(len(records), 'cell')}"
    return f"{measured}: {ranked} ranked{f', {rest}' if rest else ''}."


def _over_seeds(records: Sequence[Record]) -> str:
    """What a study's figures are means of; contenders that ran fewer seeds than the rest by name."""
    counts = {r.contender.name: max(len(study.seeds(r, name)) for name in r.samples) for r in records if r.samples}
    most = max(counts.values(), default=0)
    fewer = ", ".join(f"{name} {count}" for name, count in counts.items() if count < most)
    intervals = " with 95 % intervals (Student t)" if most > 1 else ""
    return f"means over {_count(most, 'seed')}{f' (of {fewer})' if fewer else ''}{intervals}"


def _section(cases: Sequence[Group], anchor: str, roles: plots.Roles) -> Section:
    definition = cases[0].definition
    if definition.kind == "study":
        how = _over_seeds([row.record for case in cases for row in case.rows])
    elif definition.kind == "static":
        how = "read from the machine code; nothing ran"
    else:
        how = "medians over launches of medians over rounds; 95 % intervals of speed-ups in brackets"
        one_launch = any(r.speedup is not None and r.speedup.over == "rounds" for g in cases for r in g.rows)
        how += " († one launch: the effect of memory layout is not in it)" if one_launch else ""
    against = f"· named baseline {definition.baseline} " if definition.baseline else ""
    figures = [plots.speedups(cases, roles), *(study.tradeoff(case, roles) for case in cases if definition.kind == "study")]
    return Section(
        anchor=anchor,
        title=fmt.clean(definition.title),
        summary=fmt.clean(definition.summary, limit=2000),
        facts=fmt.clean(f"{definition.benchmark} · suite {definition.suite} {against}· {how}"),
        tables=tuple(board(case) for case in cases),
        plots=tuple(figure for figure in figures if figure is not None),
    )


def _title(machine: Environment) -> str:
    return fmt.clean(f"{machine.cpu}, {machine.gpu or 'no GPU'}")


def _byline(records: Sequence[Record]) -> str:
    machine = records[0].environment
    shown = (
        _count(machine.cores, "core"),
        f"{machine.memory_gib:.1f} GiB",
        _date(records),
        f"commit {_commit(machine)}",
        f"run {records[0].run}",
        "self-reported",
    )
    return fmt.clean(" · ".join(shown), limit=1000)


def _date(records: Sequence[Record]) -> str:
    return min(record.created for record in records).replace("T", " ").replace("Z", " UTC")


def _facts(records: Sequence[Record]) -> tuple[tuple[str, str], ...]:
    """The machine and the versions. Where cells of a run differ in one, all its values are shown."""
    environments = list(dict.fromkeys(record.environment.model_dump_json() for record in records))
    machines = [Environment.model_validate_json(text) for text in environments]
    rows: dict[str, list[str]] = defaultdict(list)
    for machine in machines:
        for name, value in _machine(machine):
            if value and value not in rows[name]:
                rows[name].append(value)
    rows["Measured"] = [_date(records)]
    rows["Run"] = [records[0].run]
    rows["Trust"] = ["self-reported"]
    return tuple((name, fmt.clean("; ".join(values), limit=2000)) for name, values in rows.items() if values)


def _machine(machine: Environment) -> list[tuple[str, str]]:
    gpu = machine.gpu and f"{machine.gpu}{f', {machine.gpu_memory_gib:.0f} GiB' if machine.gpu_memory_gib else ''}"
    return [
        ("CPU", machine.cpu),
        ("Cores", f"{machine.cores}, {_count(machine.threads, 'thread')} used"),
        ("Memory", f"{machine.memory_gib:.1f} GiB"),
        ("GPU", gpu or "no GPU"),
        ("Driver", machine.driver or ""),
        ("System", machine.os),
        ("Python", machine.python),
        ("Commit", _commit(machine)),
        ("malloc", machine.malloc),
        ("Instruction sets", ", ".join(machine.isa)),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in sorted(machine.libraries.items()))),
        ("Variables", ", ".join(f"{name}={value}" for name, value in sorted(machine.variables.items()))),
    ]


def _commit(machine: Environment) -> str:
    if machine.commit is None:
        return "not from a git checkout"
    return f"{machine.commit[:12]}{', with uncommitted changes' if machine.dirty else ''}"


def _index_row(records: Sequence[Record], name: str, summary: Sequence[Headline]) -> tuple[Cell, ...]:
    """One cell per column of INDEX_COLUMNS."""
    run, machine, date = fmt.clean(records[0].run), records[0].environment, fmt.clean(_date(records))
    ranked = sum(record.ranked for record in records)
    rows = redteam.matrix(records)
    best = f"red team: {redteam.summary(rows)}" if rows else "; ".join(f"{line.title} {line.fastest.text}" for line in summary)
    parts, revision = dict(_machine(machine)), fmt.clean((machine.commit or fmt.NOTHING)[:12])
    return (
        Cell(run, sort=run, href=name, number=False),
        Cell(date, sort=date, number=False),
        Cell(
            fmt.clean(machine.cpu),
            fmt.clean(f"{_count(machine.cores, 'core')}, {parts['Memory']}, {parts['GPU']}"),
            sort=fmt.clean(machine.machine),
            number=False,
        ),
        Cell(revision, "uncommitted changes" if machine.dirty else "", revision, number=False),
        Cell(f"{ranked} of {len(records)}", sort=ranked),
        Cell(best, number=False),
    )
