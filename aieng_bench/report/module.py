"""The report of a suite: from its records and its declaration (declare.py) to chapters of text, tables, figures and pictures.

Everything it says of results it takes from the records: the declaration holds the question, not the answer.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

from aieng_bench.record.schema import Environment, Record, content_hash
from aieng_bench.report import answers, claims, paired, plots, shown, study
from aieng_bench.report import format as fmt
from aieng_bench.report.board import board
from aieng_bench.report.chapters import Block, Bullets, Chapter, Gallery, Grid, ModulePage
from aieng_bench.report.declare import Module
from aieng_bench.report.view import Cell, Column, slug
from aieng_bench.summary import Group, groups


def module_page(records: Sequence[Record], module: Module) -> ModulePage:
    """The report on the records of the module's suite. Raises ValueError if there are none."""
    mine = [record for record in records if record.definition.suite == module.name and record.definition.kind == "study"]
    if not mine:
        raise ValueError(f"records: none is of a study of {module.name!r}")
    kept = newest(mine)
    cases = groups(kept)
    place = {name: n for n, name in enumerate(module.studies)}
    cases.sort(key=lambda group: (place.get(group.definition.benchmark, len(place)), group.definition.benchmark))
    roles, pairs = plots.Roles(), paired.comparisons(cases, module)
    by_study: dict[str, list[Group]] = defaultdict(list)
    for group in cases:
        by_study[group.definition.benchmark].append(group)
    missing = [name for name in module.studies if name not in by_study]
    digest = hashlib.sha256("".join(sorted(map(content_hash, kept))).encode()).hexdigest()
    passed_over = f"; {len(mine) - len(kept)} of other runs of the same cells are passed over" if len(kept) < len(mine) else ""
    counted = f"{len(by_study)} of {len(by_study) + len(missing)} studies have records"
    return ModulePage(
        name=module.name,
        title=fmt.clean(module.title),
        question=fmt.clean(module.question, limit=2000),
        scope=f"{counted}; {sum(record.ranked for record in kept)} of {len(kept)} cells are ranked{passed_over}.",
        chapters=tuple(
            chapter
            for chapter in (
                Chapter("answer", "The answer in short", tuple(answers.answer(pairs, missing, module))),
                Chapter("claims", "What was expected, and what was found", tuple(claims.chapter(by_study, module.claims))),
                Chapter("machines", "What was measured, and where", tuple(_machines(cases))),
                *(Chapter(slug(name), _title(found), tuple(_study(found, module, roles))) for name, found in by_study.items()),
                Chapter(
                    "pairs", f"Seed by seed: {module.challenger} against {module.incumbent}", tuple(answers.by_seed(pairs, module))
                ),
                Chapter("edge", "Edge feasibility", tuple(answers.edge(by_study.get(module.edge, []), pairs, module))),
                Chapter("decisions", "Decisions and trade-offs", tuple(answers.decisions(pairs, module))),
                Chapter("missing", "Not measured", tuple(_missing(missing))),
                Chapter("limits", "Limits of the claim", tuple(_limits(cases, module))),
            )
            if chapter.blocks
        ),
        provenance=f"Rebuilt from {len(kept)} records alone; together they hash to {digest}.",
        digest=digest,
    )


def newest(records: Sequence[Record]) -> list[Record]:
    """Of each machine and case the run with the most ranked cells, then the newest; no quick case where there is a full one."""
    full = {(r.environment.machine, r.definition.benchmark, r.case.get("device")) for r in records if not answers.quick(r)}
    runs: dict[tuple[str, str, str], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if (
            not answers.quick(record)
            or (record.environment.machine, record.definition.benchmark, record.case.get("device")) not in full
        ):
            case = record.environment.machine, record.definition.benchmark, record.case_id
            runs[case][record.run].append(record)
    return [
        record
        for by_run in runs.values()
        for record in max(by_run.values(), key=lambda run: (sum(r.ranked for r in run), max(r.created for r in run), run[0].run))
    ]


def _title(found: Sequence[Group]) -> str:
    return fmt.clean(found[0].definition.title)


def _machines(cases: Sequence[Group]) -> Iterator[Block]:
    heads = ("Machine", "Memory", "GPU", "torch", "Threads", "Commit", "Studies")
    rows: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for group in cases:
        rows[_described(group.environment)].add(group.definition.benchmark)
    cells = tuple((*(Cell(text, number=False) for text in machine), Cell(str(len(rows[machine])))) for machine in rows)
    yield Grid("Machines", tuple(Column(head, number=head == "Studies") for head in heads), cells)
    yield "All figures of a case were measured in one run, contenders in turns; latency is of batch 1, memory the peak of training."


def _described(machine: Environment) -> tuple[str, ...]:
    commit = f"{(machine.commit or fmt.NOTHING)[:12]}{', uncommitted changes' if machine.dirty else ''}"
    torch, memory = machine.libraries.get("torch", fmt.NOTHING), f"{machine.memory_gib:.1f} GiB"
    shown = (f"{machine.cpu}, {machine.cores} cores", memory, machine.gpu or "none", torch, str(machine.threads), commit)
    return tuple(map(fmt.clean, shown))


def _study(found: Sequence[Group], module: Module, roles: plots.Roles) -> Iterator[Block]:
    yield fmt.clean(found[0].definition.summary, limit=2000)
    for group in found:
        yield answers.where(group) + "."
        yield board(group)
        yield from filter(None, (study.tradeoff(group, roles), shown.learning(group, roles)))
        chosen = _compared_first(group, module)
        yield from [figure for record in chosen[:2] if (figure := shown.confusion(record)) is not None]
        yield from _galleries(chosen)


def _compared_first(group: Group, module: Module) -> list[Record]:
    """The ranked records, the pair's first: the challenger, then the incumbent."""
    order = [
        name for pair in module.pairs if pair.study == group.definition.benchmark for name in (pair.challenger, pair.incumbent)
    ]
    ranked = [row.record for row in plots.ranked(group)]
    return sorted(ranked, key=lambda r: order.index(r.contender.name) if r.contender.name in order else len(order))


def _galleries(records: Sequence[Record]) -> Iterator[Gallery]:
    """Every kind of picture once, of the first that has it; predictions of the first two, as they are to be compared."""
    seen: dict[str, int] = defaultdict(int)
    for record in records:
        for name, pictures in shown.pictures(record):
            seen[name] += 1
            if seen[name] <= (2 if "prediction" in pictures.columns else 1):
                kind, note = fmt.clean(name).capitalize(), fmt.clean(pictures.note)
                where = f"{kind} of the first seed, on fixed images of the test part. {note}".strip()
                yield Gallery(f"What {fmt.clean(record.contender.name)} sees", where, pictures)


def _missing(missing: Sequence[str]) -> Iterator[Block]:
    if missing:
        yield "These studies of the suite have no records among those read; nothing here rests on them:"
        yield Bullets(tuple(f"{name}: aieng-bench run {name}" for name in missing))


def _limits(cases: Sequence[Group], module: Module) -> Iterator[Block]:
    short = [group for group in cases if any(answers.quick(row.record) for row in group.rows)]
    ranked = [row.record for group in cases for row in plots.ranked(group)]
    seeds = sorted({max(len(launch) for launches in record.samples.values() for launch in launches) for record in ranked})
    items = []
    if short:
        items.append(
            f"{len(short)} of {len(cases)} cases are quick forms: small, few epochs, made to be run anywhere, not to rank models."
        )
    if seeds:
        items.append(
            f"Seeds a contender: {' and '.join(map(str, seeds))}. Intervals are Student's t over them and know of nothing else."
        )
    devices = sorted({str(group.case.get("device")) for group in cases})
    items.append(f"Devices measured: {', '.join(devices)}. {'' if 'cuda' in devices else 'GPU: not yet measured. '}".strip())
    left = [row.record for group in cases for row in group.rows if row.rank is None]
    if left:
        names = sorted({fmt.clean(f"{r.definition.benchmark} {r.contender.name} ({fmt.status(r)})", limit=160) for r in left})
        items.append(f"Not ranked: {'; '.join(names)}.")
    yield Bullets((*items, *(fmt.clean(text, limit=1000) for text in module.limits)))
