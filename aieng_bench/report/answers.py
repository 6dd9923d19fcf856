"""The chapters in which a suite's report answers its question: pairs seed by seed, decisions, what an edge device would bear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aieng_bench.record.schema import Record
from aieng_bench.report import format as fmt
from aieng_bench.report import paired, plots, shown, study
from aieng_bench.report.chapters import Block, Grid
from aieng_bench.report.declare import Module
from aieng_bench.report.view import Cell, Column
from aieng_bench.summary import Group, Row


def quick(record: Record) -> bool:
    """Whether it is of a quick run, which has a smaller case and fewer seeds."""
    return "--quick" in record.command.split()


def where(group: Group) -> str:
    machine, device = group.environment, str(group.case.get("device", ""))
    form = "quick" if any(quick(row.record) for row in group.rows) else "full"
    return fmt.clean(f"{group.label} on {device} ({machine.gpu if device == 'cuda' else machine.cpu}), {form} form")


def answer(pairs: Sequence[paired.Comparison], missing: Sequence[str], module: Module) -> Iterator[Block]:
    if not pairs:
        yield f"No study has both a {module.incumbent} and a {module.challenger} ranked, so the records give no answer."
    else:
        heads = ("Study", "Decision", "Quality", "Difference", "Latency", "Memory", "Parameters")
        columns = tuple(Column(head, number=head not in ("Study", "Decision")) for head in heads)
        yield Grid(f"{module.challenger} against {module.incumbent}", columns, tuple(_row(found, module) for found in pairs))
        yield (
            f"Each line is the {module.challenger} beside the {module.incumbent}. Latency, memory and parameters are the "
            f"{module.challenger}'s over the {module.incumbent}'s: below 1× it needs less. How a decision is reached stands "
            "under Decisions and trade-offs."
        )
    if missing:
        yield f"Without records, and so without a say here: {', '.join(missing)}."


def _row(found: paired.Comparison, module: Module) -> tuple[Cell, ...]:
    words, tone = paired.decision(found, module)
    difference, mine, theirs = found.difference, found.challenger.record.contender.name, found.incumbent.record.contender.name
    several = len(difference.by_seed) > 1
    between = f"95 % [{paired.signed(difference.low)}, {paired.signed(difference.high)}]" if several else "one seed"
    slower = None if found.faster is None else 1 / found.faster.value
    sizes = [found.smaller.get(name) for name in ("peak memory", "parameters")]
    return (
        Cell(
            fmt.clean(found.group.definition.title),
            fmt.clean(f"{found.group.label}: {mine} for {theirs}"),
            sort=found.group.definition.benchmark,
            number=False,
        ),
        Cell(words, sort=words, tone=tone, number=False),
        Cell(paired.mean(found.challenger, found.quality), f"{theirs} {paired.mean(found.incumbent, found.quality)}"),
        Cell(paired.signed(difference.value), between, difference.value),
        Cell() if slower is None else Cell(f"{fmt.digits(slower)}×", paired.mean(found.challenger, found.cost), slower),
        *(Cell() if ratio is None else Cell(f"{fmt.digits(1 / ratio)}×", sort=1 / ratio) for ratio in sizes),
    )


def by_seed(pairs: Sequence[paired.Comparison], module: Module) -> Iterator[Block]:
    figure = shown.differences(pairs, module.margin)
    if figure is None:
        return
    yield figure
    heads = ("Study", "Seed", module.incumbent, module.challenger, "Difference")
    rows = [
        (
            Cell(fmt.clean(f"{found.group.definition.benchmark} {found.group.label}"), number=False),
            Cell(str(seed), sort=seed),
            Cell(fmt.digits(theirs), found.incumbent.record.contender.name, theirs),
            Cell(fmt.digits(own), found.challenger.record.contender.name, own),
            Cell(paired.signed(own - theirs), sort=own - theirs),
        )
        for found in pairs
        for seed, theirs, own in found.difference.by_seed
    ]
    yield Grid("Seed by seed", tuple(Column(head, number=head != "Study") for head in heads), tuple(rows))


def edge(found: Sequence[Group], pairs: Sequence[paired.Comparison], module: Module) -> Iterator[Block]:
    frame = fmt.quantity(module.frame_us, "µs")
    if found:
        sources = [(group, list(plots.ranked(group))) for group in found]
        yield f"Of {module.edge}: the same trained network in each runtime, a frame at a time; a camera's frame leaves it {frame}."
    else:
        sources = [(one.group, [one.incumbent, one.challenger]) for one in pairs]
        nothing = "has no records: nothing is known of exported or quantised models. What is known:"
        yield f"{module.edge or 'A study of deployment'} {nothing}"
    rows, fit = [], []
    for group, ranked in sources:
        quality, cost = study.quality_metric(group.definition.metrics), study.cost_metric(group.definition.metrics)
        if quality is None or cost is None or cost.unit not in ("µs", "us"):
            continue
        for row in ranked:
            latency = study.mean(row.record, cost.name)
            if latency is None:
                continue
            name, within = fmt.clean(row.record.contender.name), latency[0] <= module.frame_us
            fit.append((within, latency[0], name))
            rows.append(
                (
                    Cell(
                        name,
                        fmt.clean(f"{group.definition.benchmark} {group.label} on {group.case.get('device', '')}"),
                        name,
                        number=False,
                    ),
                    Cell(paired.mean(row, quality)),
                    Cell(paired.mean(row, cost), sort=latency[0]),
                    Cell(fmt.digits(1e6 / latency[0]) if latency[0] > 0 else fmt.NOTHING, sort=-latency[0]),
                    Cell(fmt.memory(row.record), sort=row.record.memory.get("peak_bytes")),
                    Cell(fmt.quantity(row.medians.get("file_bytes"), "B"), sort=row.medians.get("file_bytes")),
                    *(Cell(word, sort=word, tone=_TONES[word], number=False) for word in (_yes(within), _verdict(row))),
                )
            )
    if not rows:
        yield "No ranked cell has a latency per image."
        return
    heads = ("Contender", "Quality", "Latency, batch 1", "Frames/s", "Peak memory", "File", f"Within {frame}", "Study's verdict")
    known = [n for n in range(len(heads)) if any(row[n].text != fmt.NOTHING for row in rows)]
    columns = tuple(Column(heads[n], number=n not in (0, 6, 7)) for n in known)
    yield Grid("Edge feasibility", columns, tuple(tuple(row[n] for n in known) for row in rows))
    judged = [row[7].text for row in rows if row[7].text != fmt.NOTHING]
    if judged:
        feasible = [f"{row[0].text} ({row[0].detail})" for row in rows if row[7].text == "yes"]
        named = f": {', '.join(feasible)}" if feasible else ""
        yield f"By the study's own verdict {len(feasible)} of {len(judged)} are feasible{named}."
    quickest = min(fit, key=lambda one: (one[1], one[2]))
    yield (
        f"{sum(within for within, *_ in fit)} of {len(fit)} stay within {frame} a frame on the machine measured; "
        f"the quickest is {quickest[2]} with {fmt.quantity(quickest[1], 'µs')}. No other device was measured."
    )


_TONES = {"yes": "good", "no": "bad"} | dict.fromkeys(("in some seeds", fmt.NOTHING), "")


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _verdict(row: Row) -> str:
    """A study's own verdict on a form, its metric ``feasible``: 1 or 0 for each seed."""
    seeds = set(study.seeds(row.record, "feasible"))
    return _yes(1.0 in seeds) if len(seeds) == 1 else "in some seeds" if seeds else fmt.NOTHING


def decisions(pairs: Sequence[paired.Comparison], module: Module) -> Iterator[Block]:
    for found in pairs:
        words, _ = paired.decision(found, module)
        yield f"{fmt.clean(found.group.definition.title)} ({where(found.group)}): {words}. {paired.reason(found, module)}"
    if pairs:
        yield (
            "The rule. Quality is equal if the whole 95 % interval of the paired difference lies within "
            f"±{fmt.digits(module.margin)}, better or worse if it leaves 0 out, else undecided; one seed never decides. "
            "Cost is the latency at batch 1, judged alike by its ratio, equal within 5 %. "
            f"Worse quality keeps the {module.incumbent}; better quality, or equal quality at a lower cost, takes the "
            f"{module.challenger}; equal quality at a higher cost keeps the {module.incumbent}."
        )
