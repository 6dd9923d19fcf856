"""How figures and names are written, in terminal, Markdown and page alike: three significant digits, SI prefixes, intervals."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from aieng_bench.record.schema import Correctness, MetricInfo, Outcome, Quality, Record
from aieng_bench.summary import Ratio

NOTHING = "–"
# ANSI sequences whole (their printable tail would stay behind), then whatever controls a terminal or turns text around.
_ANSI = re.compile(r"(?:\x1b|\x9b)(?:\][^\x07\x1b]*(?:\x07|\x1b\\)?|\[?[0-?]*[ -/]*[@-~]?)")
_TIME = (("s", 1e6), ("ms", 1e3), ("µs", 1.0), ("ns", 1e-3))
_BINARY = (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0))
_SI = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0))


@dataclass(frozen=True)
class Scale:
    """The one unit that a column of figures is written in: ``text(value)`` for the figure, ``unit`` for the head of the column."""

    unit: str
    factor: float

    def text(self, value: float | None) -> str:
        return NOTHING if value is None else digits(value / self.factor)


def scale(values: Iterable[float], unit: str) -> Scale:
    """The unit in which the smallest of the values reads best: times as ns … s, bytes as B … GiB, machine rates as k … T."""
    smallest = min((abs(v) for v in values if v and math.isfinite(v)), default=1.0)
    if unit in ("µs", "us"):
        return _pick(smallest, _TIME, "")
    if unit in ("B", "bytes"):
        return _pick(smallest, _BINARY, "")
    if re.fullmatch("[A-Z]+/s|exp/s", unit):
        return _pick(smallest, _SI, unit)
    return Scale(clean(unit), 1.0)


def _pick(smallest: float, steps: tuple[tuple[str, float], ...], unit: str) -> Scale:
    prefix, factor = next((step for step in steps if smallest >= step[1]), steps[-1])
    return Scale(f"{prefix}{unit}", factor)


def quantity(value: float | None, unit: str) -> str:
    """A figure with its unit, e.g. ``12.3 ms`` for 12,345 µs."""
    if value is None:
        return NOTHING
    chosen = scale([value], unit)
    return f"{chosen.text(value)} {chosen.unit}".strip()


def digits(value: float) -> str:
    """Three significant digits: ``0.00123``, ``1.23``, ``12.3``, ``123``, ``1,234``, ``1.23e+09``."""
    if not math.isfinite(value):
        return "∞" if value > 0 else NOTHING
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.2e}"
    # Rounded first, as 9.996 is 10.0 and not 10.00.
    exponent = int(f"{value:.2e}"[-3:])
    return f"{value:,.{max(0, 2 - exponent)}f}"


def ratio(value: Ratio | None) -> str:
    """A speed-up with its interval, e.g. ``3.12× [2.98, 3.25]``; one launch is marked ``†``, one seed has no interval."""
    if value is None:
        return NOTHING
    text = f"{digits(value.value)}×"
    return text if not math.isfinite(value.high) else f"{text} {interval(value)}"


def interval(value: Ratio) -> str:
    mark = "†" if value.over == "rounds" else ""
    return f"[{digits(value.low)}, {digits(value.high)}]{mark}" if math.isfinite(value.high) else ""


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{digits(value) if value < 100 else f'{value:,.0f}'} %"


def duration(seconds: float) -> str:
    """Time for people: ``8.2 s``, ``2 min 5 s``, ``1 h 3 min``."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def memory(record: Record) -> str:
    return quantity(record.memory.get("peak_bytes"), "B")


def error_ratio(record: Record) -> str:
    """The worst error of an output over the framework's own, both against float64, e.g. ``0.83``."""
    errors = [output.rmse_ratio for output in record.check.outputs if output.rmse_ratio is not None]
    return digits(max(errors)) if errors else NOTHING


def correctness(record: Record) -> str:
    """The verdict with :func:`error_ratio`, e.g. ``passed, 0.83× error``."""
    if record.outcome is not Outcome.RAN:
        return NOTHING
    verdict = record.check.verdict
    word = "INCORRECT" if verdict is Correctness.INCORRECT else verdict.lower()
    error = error_ratio(record)
    return word if error == NOTHING else f"{word}, {error}× error"


def status(record: Record) -> str:
    """Why a cell is not ranked, in one line, e.g. ``UNSUPPORTED: needs cuda``; ``ranked`` if it is."""
    if record.outcome is not Outcome.RAN:
        word, reason = str(record.outcome), record.outcome_reason
    elif record.check.verdict is not Correctness.PASSED:
        word, reason = str(record.check.verdict), record.check.reason
    elif record.quality is not Quality.CLEAN:
        word, reason = str(record.quality), record.quality_reason
    else:
        return "ranked"
    return clean(f"{word}: {reason}" if reason else word)


def was_read(record: Record) -> bool:
    """Whether it holds figures of machine code, which nothing needs to run for."""
    return record.definition.kind == "static" and record.outcome is Outcome.RAN


def column(metric: MetricInfo, unit: str) -> str:
    """Head of a metric's column: its title, its unit, its direction."""
    return f"{clean(metric.title or metric.name)}{f' [{unit}]' if unit else ''} {'↓' if metric.better == 'lower' else '↑'}"


def clean(text: str, limit: int = 400) -> str:
    """Text from a record made harmless to print: one line, without ANSI sequences, control, bidi or other invisible characters."""
    if not text.isprintable():  # nearly all is, and then there is nothing to take out
        text = "".join(
            " " if c in "\n\r\t" else c
            for c in _ANSI.sub("", text)
            if c in "\n\r\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        )
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def code(text: str) -> str:
    """Text from a record as a Markdown code span, within which it mentions nobody, links nothing and breaks no table."""
    return f"`{clean(text).replace('`', chr(39)).replace('|', '¦') or NOTHING}`"
