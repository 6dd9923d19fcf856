"""How often ``compare`` is wrong and what it finds: the committed result of scripts/calibration, shown beside every leaderboard."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

from aieng_bench.record.schema import Finite, Part
from aieng_bench.report.format import digits


class Rate(Part):
    """``hits`` of ``n`` with the exact 95 % bounds of :func:`clopper_pearson`."""

    hits: int
    n: int
    low: Finite
    high: Finite

    @classmethod
    def of(cls, hits: int, n: int) -> Rate:
        low, high = clopper_pearson(hits, n)
        return cls(hits=hits, n=n, low=low, high=high)

    def __str__(self) -> str:
        return f"{self.hits:,} of {self.n:,} [{_percent(self.low)}, {_percent(self.high)} %]"


class Trial(Part):
    """Comparisons with ``launches`` a side.

    ``by``: ``compare``, of two runs at two times, or ``ci``, of two sides in the same rounds, looked at again where undecided.
    ``resampled``: launches drawn from the recorded ones, and slowed down by arithmetic; ``real``: launches as they ran.
    """

    by: Literal["compare", "ci"]
    kind: Literal["resampled", "real"]
    launches: int
    false_alarms: Rate
    """Unchanged code called FASTER or SLOWER."""
    found: Rate
    """The injected slow-down called SLOWER."""
    noisy: Rate
    """Comparisons of unchanged code that were refused, as a cell was NOISY."""
    smallest: Finite | None = None
    """Smallest slow-down of those tried that was found in 95 % of the comparisons not refused as NOISY; None if none was."""


class Calibration(Part):
    """``slowdown``: the injected one, as a fraction. ``beside``: what else the machine did meanwhile."""

    machine: str
    cpu: str
    cores: int
    measured: str
    """Day of the first recording, UTC."""
    beside: str
    slowdown: Finite
    recordings: int
    cases: int
    launches: int
    """Recorded launches, over all cases and recordings."""
    trials: tuple[Trial, ...]

    @property
    def line(self) -> str:
        """What a leaderboard's reader should know, in one line: how two runs like it compare."""
        few = next(t for t in self.trials if (t.by, t.kind, t.launches) == ("compare", "resampled", LEADERBOARD))
        return (
            f"How sure a comparison of two such runs is, at {LEADERBOARD} launches a side: unchanged code called changed in"
            f" {few.false_alarms}, a {_percent(self.slowdown)} % slow-down found in {few.found} ({self.where})."
        )

    @property
    def where(self) -> str:
        return f"{self.cpu}, {self.cores} cores, {self.measured}, {self.beside}"

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Every trial, in the order of HEADS."""
        return [
            (
                f"{trial.by}, {trial.launches} launches a side",
                trial.kind,
                str(trial.false_alarms),
                str(trial.found),
                f"{trial.noisy.hits:,}",
                "–" if trial.kind == "real" else f"{_percent(trial.smallest)} %" if trial.smallest else "none tried",
            )
            for trial in self.trials
        ]


LEADERBOARD = 5
"""Launches of a full run."""
HEADS = (
    "Comparison",
    "Launches",
    "Unchanged called changed",
    "Slow-down found",
    "Too noisy to judge",
    "Found 95 % of the time, among the rest",
)


def _percent(part: float) -> str:
    """Two digits are what the count of comparisons supports."""
    value = float(f"{100 * part:.2g}")
    return f"{value:g}" if value >= 0.01 or value == 0 else digits(value)


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact two-sided bounds of a share (Clopper and Pearson, 1934), by quantiles of the beta distribution."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return low, high


@cache
def load() -> Calibration:
    return Calibration.model_validate_json((files("aieng_bench") / "calibration.json").read_text(encoding="utf-8"))
