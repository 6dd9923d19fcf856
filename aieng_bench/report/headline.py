"""The summary: per benchmark, the best of ours in every case against the fastest correct and the named baseline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from aieng_bench.record.schema import MetricInfo
from aieng_bench.report import format as fmt
from aieng_bench.report import study
from aieng_bench.report.board import tone
from aieng_bench.report.view import Claim, Headline
from aieng_bench.summary import Group, Ratio, Row

_WORDS = {"good": "faster", "bad": "slower"}


def headline(groups: Sequence[Group], anchor: str) -> Headline:
    """One benchmark's line, from all its cases."""
    definition = groups[0].definition
    best = [row for group in groups if (row := _best(group)) is not None]
    names = Counter(fmt.clean(row.record.contender.name) for row in best)
    cases = f"{len(groups)} case{'s' if len(groups) > 1 else ''}"
    if not names:
        who = f"nothing of ours is ranked in {cases}"
    elif len(names) == 1:
        where = f"best of ours in {cases}" if len(best) == len(groups) else f"ranked in {len(best)} of {cases}"
        who = f"{next(iter(names))}, {where}"
    else:
        who = ", ".join(f"{name} in {count}" for name, count in names.most_common()) + f" of {cases}"
    against = _study_claim if definition.kind == "study" else _speed_claim
    return Headline(
        anchor=anchor,
        title=fmt.clean(definition.title),
        who=who,
        fastest=against(groups, lambda group: group.fastest_baseline, lambda row: row.speedup_fastest),
        named=against(groups, lambda group: group.definition.baseline, lambda row: row.speedup),
    )


def _best(group: Group) -> Row | None:
    return next((row for row in group.rows if row.rank is not None and row.record.contender.kind == "ours"), None)


def _named(group: Group, name: str | None) -> Row | None:
    return next((row for row in group.rows if row.rank is not None and row.record.contender.name == name), None)


def _speed_claim(groups: Sequence[Group], opponent: Callable[[Group], str | None], speedup: Callable[[Row], Ratio | None]) -> Claim:
    """One case: its ratio and interval. Several: the geometric mean of the ratios and their range."""
    found = [(ratio, opponent(group)) for group in groups if (row := _best(group)) and (ratio := speedup(row)) is not None]
    if not found:
        return Claim(fmt.NOTHING, "", "no ranked pair to compare")
    ratios = [ratio for ratio, _ in found]
    names = sorted({fmt.clean(name) for _, name in found if name})
    versus = f"vs {' and '.join(names)}" if len(names) < 3 else "vs the fastest of each case"
    if len(ratios) == 1:
        only, colour = ratios[0], tone(ratios[0])
        word = _WORDS.get(colour, "no clear difference")
        return Claim(f"{fmt.digits(only.value)}×", word, f"95 % {fmt.interval(only)} · {versus}", colour)
    mean = math.exp(sum(math.log(ratio.value) for ratio in ratios) / len(ratios))
    low, high = min(r.value for r in ratios), max(r.value for r in ratios)
    tones = {tone(ratio) for ratio in ratios}
    colour = tones.pop() if len(tones) == 1 else ""
    detail = f"geometric mean of {len(ratios)} cases, {fmt.digits(low)}× to {fmt.digits(high)}× · {versus}"
    return Claim(f"{fmt.digits(mean)}×", _WORDS.get(colour, "mixed"), detail, colour)


def _study_claim(groups: Sequence[Group], opponent: Callable[[Group], str | None], speedup: Callable[[Row], Ratio | None]) -> Claim:
    """Quality and cost of the best of ours beside the baseline's, in the first case that has both; of a study that declares no
    quality, its first figure. Records may declare none at all."""
    metrics = groups[0].definition.metrics
    quality, cost = study.quality_metric(metrics), study.cost_metric(metrics)
    shown = quality or next(iter(metrics), None)
    for group in groups:
        ours, theirs = _best(group), _named(group, opponent(group))
        if shown is None or ours is None or theirs is None:
            continue
        detail = f"{fmt.clean(shown.title or shown.name)} · vs {fmt.clean(theirs.record.contender.name)}"
        if quality is not None and cost is not None:
            detail += f" · {fmt.clean(cost.title or cost.name)} {_mean(ours, cost)}, theirs {_mean(theirs, cost)}"
        return Claim(_mean(ours, shown), f"theirs {_mean(theirs, shown)}", detail)
    return Claim(fmt.NOTHING, "", "no ranked pair to compare")


def _mean(row: Row, metric: MetricInfo) -> str:
    found = study.mean(row.record, metric.name)
    return fmt.quantity(found[0], metric.unit) if found else fmt.NOTHING
