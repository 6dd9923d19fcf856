"""Hypothesis strategies for records: valid by the schema, and otherwise as odd as a stranger may make them."""

from __future__ import annotations

from hypothesis import strategies as st

from aieng_bench.record.schema import Record
from tests.engine.made import DEFINITION, ENVIRONMENT, record

finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.one_of(text, st.integers(-(2**53), 2**53), finite, st.booleans())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Whatever the format can hold."""
    lengths = draw(st.lists(st.integers(0, 4), max_size=3))
    metrics = draw(st.lists(text, max_size=2, unique=True))
    return record(
        run=draw(text),
        case=draw(st.dictionaries(text, values, max_size=4)),
        outcome=draw(st.sampled_from(["RAN", "CRASHED", "OOM_HOST", "UNSUPPORTED"])),
        outcome_reason=draw(text),
        quality=draw(st.sampled_from(["CLEAN", "NOISY", "SUSPECT"])),
        samples={name: [draw(st.lists(finite, min_size=n, max_size=n)) for n in lengths] for name in metrics},
        rounds=[list(range(n)) for n in lengths],
        memory=draw(st.dictionaries(text, finite, max_size=2)),
        setup_s=draw(st.none() | finite),
        log=draw(text),
        environment=ENVIRONMENT.model_copy(update={"libraries": draw(st.dictionaries(text, text, max_size=2))}),
    )


HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "=cmd()",
    "@team",
    "\x1b[2J",
    "a\u202eb",
    "</script>",
    "`",
    "|",
    "[x](javascript:y)",
    "\n# x",
)
names = st.sampled_from(["torch", "ours", *HOSTILE]) | text


@st.composite
def contradictory(draw: st.DrawFn) -> Record:
    """A record that claims to be ranked, with samples, rounds, metrics and limits that need not fit each other."""
    units = st.sampled_from(["µs", "B", "", "FLOP/s"]) | text
    directions = draw(st.dictionaries(st.just("latency_us") | names, st.sampled_from(["lower", "higher"]), max_size=3))
    metrics = [{"name": n, "unit": draw(units), "better": better, "title": draw(names)} for n, better in directions.items()]
    launches = st.lists(st.lists(finite, max_size=3), max_size=3)
    limit = {
        "time_us": draw(finite),
        "binds": "memory",
        "bandwidth_bytes_per_s": draw(finite),
        "rate_per_s": None,
        "source": "measured",
    }
    definition = DEFINITION.model_dump() | {"metrics": metrics, "kind": draw(st.sampled_from(["kernel", "study"]))}
    definition |= {"benchmark": draw(names), "baseline": draw(names), "title": draw(names), "flops": draw(st.none() | finite)}
    return record(
        draw(names),
        draw(st.sampled_from(["ours", "baseline"])),
        definition=definition,
        case=draw(st.dictionaries(names, values, max_size=2)),
        samples={metric["name"]: draw(launches) for metric in metrics if draw(st.booleans())},
        rounds=draw(st.lists(st.lists(st.integers(-2, 3), max_size=3), max_size=3)),
        limit=draw(st.none() | st.just(limit | {"source": "measured"})),
        outcome=draw(st.sampled_from(["RAN", "RAN", "RAN", "ERROR"])),
        outcome_reason=draw(names),
        check={"verdict": draw(st.sampled_from(["PASSED", "PASSED", "INCORRECT"])), "reason": draw(names)},
        memory={"peak_bytes": draw(finite)},
    )
