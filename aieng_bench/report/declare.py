"""What a suite says of its report: the question, the pairs that answer it, and what no record can tell of the claim's limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """In one study, the contender that is to be replaced and the one that would replace it."""

    study: str
    incumbent: str
    challenger: str


@dataclass(frozen=True)
class Claim:
    """What is expected of a contender's quality: a level, or so much over another's, seed by seed."""

    text: str
    """As its source or its reader would say it."""
    study: str
    contender: str
    at_least: float
    than: str = ""
    """The contender that it is compared with; none for a level."""


@dataclass(frozen=True)
class Module:
    """The report of a suite: a package's ``_report.py`` declares one by the name ``module``. Its figures all come from records."""

    name: str
    """Of the suite."""
    title: str
    question: str
    incumbent: str
    """What is replaced, in words: ``CNN``."""
    challenger: str
    studies: tuple[str, ...]
    """In reading order; one without records is named as such, one that is not here comes last."""
    pairs: tuple[Pair, ...]
    limits: tuple[str, ...]
    """Of the claim, by the design of the studies; those by the records come by themselves."""
    claims: tuple[Claim, ...] = ()
    """Expectations that the records bear out, or do not."""
    edge: str = ""
    """The study of deployment, if there is one."""
    margin: float = 0.01
    """A difference of quality within which either will do."""
    frame_us: float = 1e6 / 30
    """Time that an edge device has for a frame."""
