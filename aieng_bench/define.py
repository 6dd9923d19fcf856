"""How a benchmark is declared: cases, contenders, metrics, and the two kinds that share everything but the inner loop.

Importing a declaration imports no torch, so listing a thousand benchmarks costs milliseconds: torch is imported inside the
functions that a worker process calls. A declaration is one file with one module-level name, ``benchmark``.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

REDTEAM = "redteam"
"""The suite whose contenders cheat (see aieng_bench.redteam): its records make a catch matrix, and never a leaderboard."""

Value = str | int | float | bool
Kind = Literal["ours", "baseline"]
Setup = Callable[["Case"], Callable[..., Any]]
F = TypeVar("F", bound=Callable[..., Any])


class Unsupported(Exception):
    """Raised by a contender's setup when it cannot run a case; the message becomes the reason shown in the cell."""


class Case(Mapping[str, Value]):
    """One point of a benchmark's axes, always with a ``device``; read as a mapping or by attribute (``case.S``)."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        if "device" not in values:
            raise ValueError("a case needs the axis 'device'")
        self._values = dict(values)

    def __getitem__(self, axis: str) -> Value:
        return self._values[axis]

    def __getattr__(self, axis: str) -> Any:
        if axis.startswith("_") or axis not in self._values:
            raise AttributeError(f"the case has no axis {axis!r}; it has {', '.join(self.__dict__.get('_values', {}))}")
        return self._values[axis]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        """Canonical text of the case, e.g. ``B=2,S=512,dtype=bfloat16,device=cpu``; equal cases have equal ids."""
        return ",".join(f"{axis}={value}" for axis, value in self._values.items())

    @property
    def label(self) -> str:
        """The case without its device, as tables show it."""
        return " ".join(f"{axis}={value}" for axis, value in self._values.items() if axis != "device")


def grid(**axes: Value | Sequence[Value]) -> list[dict[str, Value]]:
    """Cartesian product of axes, in the order written: ``grid(S=[512, 1024], dtype="float32")`` gives two points."""
    columns = [v if isinstance(v, (list, tuple)) else [v] for v in axes.values()]
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*columns)]


@dataclass(frozen=True)
class Metric:
    """A figure that a record carries. ``better`` is the direction; ``unit`` is SI or a plain noun ('' for a ratio)."""

    name: str
    unit: str
    better: Literal["lower", "higher"]
    title: str = ""
    floor: float | None = None
    """Quality gate of a study: a median on the wrong side of it makes the cell INCORRECT."""
    quick_floor: float | None = None
    """The gate of a quick run, whose case is smaller; None: ``floor`` too."""
    optional: bool = False
    """A seed of a study may have none, as the time to a quality that it never reached; a cell has it only if all its seeds do, for
    the lucky ones alone would tell too good a tale. It has no floor."""

    def __post_init__(self) -> None:
        if self.optional and (self.floor is not None or self.quick_floor is not None):
            raise ValueError(f"metric {self.name}: one that is optional has no floor")

    @property
    def declared(self) -> tuple[str | float | None, ...]:
        """What gives a figure its meaning; the title may change."""
        own = () if self.quick_floor is None else (self.quick_floor,)
        return (self.name, self.unit, self.better, self.floor, *own, *(("optional",) if self.optional else ()))

    def gate(self, quick: bool) -> float | None:
        """The floor of a run of this form."""
        return self.quick_floor if quick and self.quick_floor is not None else self.floor


LATENCY = Metric("latency_us", "µs", "lower", "latency, hot cache")
LATENCY_COLD = Metric("latency_cold_us", "µs", "lower", "latency, cold cache")


@dataclass(frozen=True)
class Work:
    """The least a case must do: floating-point operations and bytes of memory traffic (each input read, each output written once).

    ``compute`` names the ceiling that bounds the operations: ``float32``, ``bfloat16`` (matrix), ``exp``.
    """

    flops: float
    bytes: float
    compute: str = "float32"


@dataclass(frozen=True)
class Definition:
    """What outputs are held to: the result in float64, and the framework's own in the case's dtype, whose error is the floor."""

    oracle: Callable[[Case, Mapping[str, Any]], dict[str, Any]]
    framework: Callable[[Case, Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Contender:
    """One way to do a case. ``setup(case)`` returns the callable that is timed, called with the benchmark's inputs by name."""

    name: str
    kind: Kind
    setup: Setup
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    """Distributions that must be installed, by name; ``compiler`` asks for a C++ compiler at run time."""
    package: str = ""
    """The distribution whose version is recorded (a baseline's library)."""
    unsupported: Callable[[], str | None] = lambda: None
    """Why this machine cannot run it, or None: for requirements that only the contender's own library can judge."""
    left_out: Callable[[Case], str | None] = lambda case: None
    """Why a quick run leaves it out, unless it is asked for by name; None if it does not."""
    seeds: int | None = None
    """Of a study, how many seeds it runs where the study runs more: what is no headline need not take as long."""
    source: Callable[[], str] | None = None
    """Hash of what is measured; by default of the file that defines ``setup``."""
    definition: Definition | None = None
    """What a kernel's outputs are held to where it draws other random numbers than the rest; None: the benchmark's own."""

    def refuses(self, case: Case) -> str | None:
        """Why the contender does not take this case, judged from the declaration alone, or None."""
        if case["device"] not in self.devices:
            return f"runs on {' and '.join(self.devices)}; this case is on {case['device']}"
        if self.dtypes and "dtype" in case and case["dtype"] not in self.dtypes:
            return f"takes {', '.join(self.dtypes)}; this case is {case['dtype']}"
        return None

    def source_hash(self) -> str:
        if self.source is not None:
            return self.source()
        path = inspect.getsourcefile(inspect.unwrap(self.setup))
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] if path else ""


@dataclass
class Benchmark:
    """What the two kinds share. ``full`` and ``quick`` map a device to its list of points (see :func:`grid`)."""

    name: str
    """``group/what``, e.g. ``attention/forward``; unique among all suites."""
    title: str
    summary: str
    baseline: str
    """The named baseline: the contender that users run today and that speed-ups are quoted against."""
    full: Mapping[str, Sequence[Mapping[str, Value]]]
    quick: Mapping[str, Sequence[Mapping[str, Value]]]
    metrics: tuple[Metric, ...]
    contenders: dict[str, Contender] = field(default_factory=dict)
    suite: str = ""
    """Name of the entry point that brought it; set by the registry."""
    module: str = ""
    """Name of the module whose ``benchmark`` it is, by which worker processes find it; set by the registry."""

    kind: str = field(init=False, default="")

    def add(self, contender: Contender) -> None:
        if contender.name in self.contenders:
            raise ValueError(f"{self.name}: a contender named {contender.name!r} is there already")
        self.contenders[contender.name] = contender

    def contender(self, name: str, *, kind: Kind = "baseline", **declared: Any) -> Callable[[F], F]:
        """Decorator: the function is the contender's ``setup``. ``declared`` are further fields of :class:`Contender`."""

        def register(setup: F) -> F:
            self.add(Contender(name=name, kind=kind, setup=setup, **declared))
            return setup

        return register

    def cases(self, device: str, quick: bool = False) -> list[Case]:
        points = (self.quick if quick else self.full).get(device, [])
        return [Case({**point, "device": device}) for point in points]

    def definition_hash(self) -> str:
        """Hash of everything declared that gives a figure its meaning; figures of different definitions are never compared."""
        declared = {
            "name": self.name,
            "kind": self.kind,
            "baseline": self.baseline,
            "metrics": [m.declared for m in self.metrics],
        }
        return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class KernelBenchmark(Benchmark):
    """Latency, memory and error of one call.

    - ``inputs(case, generator) -> dict[str, Tensor]``: fresh inputs from a seeded ``torch.Generator`` of the case's device, which
      is torch's default meanwhile (``torch.randn(shape, generator=generator)`` needs to name none).
    - ``oracle(case, inputs) -> dict[str, Tensor]``: the definition in float64, from the already quantised inputs.
    - ``framework(case, inputs) -> dict[str, Tensor]``: the framework's own result in the case's dtype, whose error is the floor.
    - ``work(case) -> Work``.

    Contenders return a tensor, or a tuple or dict in the order of ``outputs``.
    """

    inputs: Callable[[Case, Any], dict[str, Any]] = field(kw_only=True)
    oracle: Callable[[Case, Mapping[str, Any]], dict[str, Any]] = field(kw_only=True)
    framework: Callable[[Case, Mapping[str, Any]], dict[str, Any]] = field(kw_only=True)
    work: Callable[[Case], Work] = field(kw_only=True)
    outputs: tuple[str, ...] = ("out",)
    metrics: tuple[Metric, ...] = (LATENCY, LATENCY_COLD)
    kind: str = field(init=False, default="kernel")

    def definition_of(self, contender: str) -> Definition:
        """What a contender's outputs are held to."""
        return self.contenders[contender].definition or Definition(self.oracle, self.framework)


@dataclass
class Study(Benchmark):
    """A real system trained or run over seeds. A contender's ``setup(case)`` returns ``run(seed) -> dict[str, float | Exhibit]``.

    The dict has one entry per declared metric (a missing one is an error unless it is optional), and may carry ``extra`` figures
    under names that start with an underscore, which are recorded but not ranked, and exhibits
    (:mod:`aieng_bench.record.exhibits`): a learning curve, a confusion matrix, small pictures. One seed is one round, one call
    per launch.
    """

    seeds: int = 3
    quick_seeds: int = 1
    minutes: float = 0.0
    """What all its cases take on two cores, about, which a run says before it starts; 0: not known."""
    quick_minutes: float = 0.0
    preload: tuple[str, ...] = ()
    """Modules that most of its contenders import, if they are installed. They are imported once a run, before any contender, and
    its processes are forked from the one that did (on a CPU, under Linux)."""
    kind: str = field(init=False, default="study")
