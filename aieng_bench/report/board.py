"""The leaderboard of one case: every record a row, every column in one unit, a figure only where the row is ranked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aieng_bench.record.schema import Correctness, MetricInfo, Outcome, Quality, Record
from aieng_bench.report import format as fmt
from aieng_bench.report import study
from aieng_bench.report.view import Board, BoardRow, Cell, Column, Status, lines
from aieng_bench.summary import Group, Ratio, Row

_Columns = list[tuple[Column, Callable[[Row], Cell]]]

_MEANING = {
    Outcome.CRASHED: "its process died",
    Outcome.TIMEOUT: "it did not end in time",
    Outcome.OOM: "out of memory",
    Outcome.OOM_HOST: "the host ran out of memory",
    Outcome.UNSUPPORTED: "it cannot run here",
    Outcome.ERROR: "it raised an error",
    Correctness.INCORRECT: "its result is wrong",
    Correctness.UNCHECKED: "its result was not checked",
    Quality.NOISY: "the measurement was disturbed",
    Quality.SUSPECT: "the time is not believable",
}
_MILD = {Outcome.UNSUPPORTED, Correctness.UNCHECKED}
_WARN = {Outcome.TIMEOUT, Outcome.OOM, Outcome.OOM_HOST, Quality.NOISY}


def board(group: Group) -> Board:
    """The table of a case; a column in which no row has anything is left out."""
    shown = [row for row in group.rows if row.medians]
    columns = [(head, [cell(row) for row in shown]) for head, cell in _columns(group, shown)]
    columns = [(head, cells) for head, cells in columns if any(cell.sort is not None for cell in cells)]
    cells = dict(zip(map(id, shown), zip(*(cells for _, cells in columns))))
    rows = tuple(_row(row, cells.get(id(row), ())) for row in group.rows)
    heads = tuple(head for head, _ in columns) or (Column("Outcome", number=False),)
    return Board(f"{fmt.clean(group.label) or 'one case'} on {fmt.clean(str(group.case.get('device', '')))}", heads, rows)


def _row(row: Row, cells: tuple[Cell, ...]) -> BoardRow:
    record, shown = row.record, bool(row.medians)
    return BoardRow(
        rank=row.rank,
        contender=fmt.clean(record.contender.name),
        kind=record.contender.kind,
        version=fmt.clean(f"{record.contender.package} {record.contender.version}".strip()),
        command=fmt.clean(record.command, limit=2000),
        cells=cells,
        status=None if shown else status(record),
        log="" if shown else lines(record.log),
    )


def status(record: Record) -> Status:
    """Why a record is not ranked: the first of outcome, correctness and quality that stands in the way, with its reason."""
    kept: tuple[Outcome | Correctness | Quality, str]
    if record.outcome is not Outcome.RAN:
        kept = record.outcome, record.outcome_reason
    elif record.check.verdict is not Correctness.PASSED:
        kept = record.check.verdict, record.check.reason
    elif record.quality is not Quality.CLEAN:
        kept = record.quality, record.quality_reason
    else:
        return Status("NO SAMPLES", "it ran and passed, but holds no sample of the headline metric", "warn")
    label, reason = kept
    tone = "" if label in _MILD else "warn" if label in _WARN else "bad"
    return Status(str(label), fmt.clean(reason) or _MEANING[label], tone)


def _columns(group: Group, ranked: Sequence[Row]) -> _Columns:
    """Every column that a case may have, in reading order."""
    metrics = [_metric(metric, ranked, group.definition.kind) for metric in group.definition.metrics]
    ratios: _Columns = [
        (Column("vs fastest baseline"), lambda row: _speedup(row.speedup_fastest)),
        (Column(f"vs {fmt.clean(group.definition.baseline)}"), lambda row: _speedup(row.speedup)),
    ]
    if group.definition.kind == "static":
        return [*metrics, *(_further(name) for name in dict.fromkeys(name for row in ranked for name in row.record.extra))]
    # The ratio of a study's headline, often an accuracy, says less than the metrics themselves.
    figures = metrics if group.definition.kind == "study" else [*metrics, *ratios]
    return [
        *figures,
        (Column("Correctness", number=False), _correctness),
        (Column("Bit-equal repeats", number=False), _deterministic),
        _memory(ranked),
        (Column("Rate"), _rate),
        (Column("Of the limit"), _limit),
        (Column("Setup"), _setup),
    ]


def _metric(metric: MetricInfo, ranked: Sequence[Row], kind: str) -> tuple[Column, Callable[[Row], Cell]]:
    values = [row.medians[metric.name] for row in ranked if metric.name in row.medians]
    scale = fmt.scale(values, metric.unit)
    column = Column(fmt.column(metric, scale.unit).replace(" ↓", "\u00a0↓").replace(" ↑", "\u00a0↑"))
    if kind == "study":
        return column, lambda row: _mean(row.record, metric.name, scale)
    return column, lambda row: Cell(scale.text(v), sort=v) if (v := row.medians.get(metric.name)) is not None else Cell()


def _further(name: str) -> tuple[Column, Callable[[Row], Cell]]:
    """A figure beside the metrics; a count that is nought everywhere is left out with its column."""

    def cell(row: Row) -> Cell:
        value = row.record.extra.get(name, 0.0)
        return Cell(fmt.digits(value), sort=value or None)

    return Column(fmt.clean(name)), cell


def _mean(record: Record, metric: str, scale: fmt.Scale) -> Cell:
    found = study.mean(record, metric)
    if found is None:
        return Cell()
    centre, half = found
    if half is None:
        return Cell(scale.text(centre), "one seed", centre)
    text, error = study.plus_minus(centre / scale.factor, half / scale.factor)
    return Cell(text, f"± {error}", centre)


def _speedup(ratio: Ratio | None) -> Cell:
    if ratio is None:
        return Cell()
    if ratio.low == ratio.value == ratio.high:
        return Cell("1×", "itself", 1.0)
    return Cell(f"{fmt.digits(ratio.value)}×", fmt.interval(ratio), ratio.value, tone(ratio))


def tone(ratio: Ratio) -> str:
    """Better, worse, or (the interval holds 1) neither."""
    return "good" if ratio.low > 1 else "bad" if ratio.high < 1 else ""


def _correctness(row: Row) -> Cell:
    errors = [output.rmse_ratio for output in row.record.check.outputs if output.rmse_ratio is not None]
    detail = f"{fmt.digits(max(errors))}× error" if errors else ""
    return Cell(str(row.record.check.verdict), detail, max(errors, default=0.0), "good", number=False)


def _deterministic(row: Row) -> Cell:
    known = row.record.check.deterministic
    return Cell(number=False) if known is None else Cell("yes" if known else "no", sort=str(known), number=False)


def _memory(ranked: Sequence[Row]) -> tuple[Column, Callable[[Row], Cell]]:
    peaks = [row.record.memory["peak_bytes"] for row in ranked if "peak_bytes" in row.record.memory]
    scale = fmt.scale(peaks, "bytes")

    def cell(row: Row) -> Cell:
        peak = row.record.memory.get("peak_bytes")
        return Cell() if peak is None else Cell(scale.text(peak), sort=peak)

    return Column(f"Peak memory [{scale.unit}]"), cell


def _rate(row: Row) -> Cell:
    """Work done per second: bytes where memory binds, else floating-point operations."""
    record, latency = row.record, row.medians.get("latency_us")
    work, unit = (record.definition.flops, "FLOP/s")
    if work is None or work == 0 or (record.limit is not None and record.limit.binds == "memory"):
        work, unit = record.definition.bytes, "B/s"
    if not work or not latency:
        return Cell()
    return Cell(fmt.quantity(work / latency * 1e6, unit), sort=work / latency)


def _limit(row: Row) -> Cell:
    limit, part = row.record.limit, row.percent_of_limit
    if limit is None or part is None:
        return Cell()
    source = "" if limit.source == "measured" else ", datasheet"
    return Cell(fmt.percent(part), f"{limit.binds} binds{source}", part, part=round(min(max(part, 0.0), 100.0), 1))


def _setup(row: Row) -> Cell:
    seconds = row.record.setup_s
    return Cell() if seconds is None else Cell(fmt.quantity(seconds * 1e6, "µs"), sort=seconds)
