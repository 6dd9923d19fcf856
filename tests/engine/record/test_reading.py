"""Records from outside: what is broken is named with its reason and left out, the rest loads, and nothing raises."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aieng_bench.record.reading import Broken, line, load, parse, strict_json
from aieng_bench.record.schema import canonical
from tests.engine.made import record
from tests.engine.strategies import finite, json_values, records


@given(records())
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_what_is_read(made):
    again = parse(line(made))
    assert again == made
    assert line(again) == line(made)
    assert [type(v) for v in again.case.values()] == [type(v) for v in made.case.values()]


GOOD = line(record())


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_flipped_bit_is_found_wherever_it_is(data):
    content = bytearray(GOOD.encode())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        flipped = content.decode()
    except UnicodeDecodeError:
        return
    with pytest.raises(Broken):
        parse(flipped)


@given(st.integers(0, len(GOOD) - 1))
@settings(deadline=None)
def test_a_torn_record_is_broken(length):
    with pytest.raises(Broken):
        parse(GOOD[:length])


@given(
    st.text(max_size=200)
    | st.recursive(st.none() | st.booleans() | finite | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)).map(
        json.dumps
    )
)
@settings(deadline=None)
def test_any_other_text_is_broken_and_never_a_traceback(content):
    with pytest.raises(Broken):
        parse(content)


def places(content: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value within a JSON value."""
    children = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [at, *(place for key, child in children for place in places(child, (*at, key)))]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_value_at_any_place_gives_a_record_or_a_named_error(data):
    """With its hash made to fit, as whoever changes a record can do: what is read is canonical, or refused by name."""
    content = json.loads(GOOD)["record"]
    *path, last = data.draw(st.sampled_from(places(content)[1:]))
    parent = content
    for step in path:
        parent = parent[step]
    if data.draw(st.booleans()):
        parent[last] = data.draw(json_values)
    elif isinstance(parent, dict):
        del parent[last]
    try:
        text = canonical({"sha256": hashlib.sha256(canonical(content).encode()).hexdigest(), "record": content})
    except ValueError:  # NaN, or half a surrogate pair: such a text cannot be hashed
        text = json.dumps({"sha256": "", "record": content})
    try:
        read: Any = parse(text)
    except Broken as error:
        read = error
    assert read.reason.startswith(("$", "not JSON")) if isinstance(read, Broken) else parse(line(read)) == read


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"a": {"b": [1, NaN]}}', r"\$\.a\.b\[1\]: not a finite number"),
        ('{"a": 1e400}', r"\$\.a: not a finite number"),
        ('{"a": -Infinity}', r"\$\.a: not a finite number"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', r"\$\.a: the key 'b' is written twice"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("1" * 10_000, "not JSON"),
        ("", "not JSON"),
        ("\x00", "not JSON"),
        ("{'a': 1}", r"line 1, column 2"),
    ],
)
def test_json_that_is_not_quite_json(content, reason):
    with pytest.raises(Broken, match=reason):
        strict_json(content)


def changed(**changes) -> str:
    content = json.loads(GOOD)
    content["record"] |= changes
    return json.dumps(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (changed(schema_version=3), "is newer than"),
        (changed(samples={"latency_us": [["fast"]]}), r"\$\.record\.samples\.latency_us\[0\]\[0\]: Input should be a valid number"),
        (changed(samples={"latency_us": [["1.0"]]}), r"latency_us\[0\]\[0\]"),
        (changed(outcome="GREAT"), r"\$\.record\.outcome"),
        (changed(surprise=1), r"\$\.record\.surprise"),
        (changed(run="another"), "does not match its hash"),
        (changed(run="\ud800"), r"\$"),
        (changed(memory={"peak_bytes": 10**400}), r"\$\.record\.memory"),
        ("[]", r"\$: not an object"),
        ('{"record": 1, "sha256": "x"}', r"\$: not an object"),
    ],
)
def test_the_reason_names_the_place(content, reason):
    with pytest.raises(Broken, match=reason):
        parse(content)


def test_broken_files_are_named_and_the_rest_loads(tmp_path):
    folder = tmp_path / "run" / "records"
    folder.mkdir(parents=True)
    (folder / "good.json").write_text(GOOD)
    (folder / "torn.json").write_text(GOOD[:100])
    (folder / "empty.json").touch()
    (folder / "latin.json").write_bytes(b"\xff\xfe")
    (folder / "folder.json").mkdir()
    (folder / ".good.json.12.tmp").write_text(GOOD[:50])
    loaded = load(tmp_path / "run")
    assert loaded.records == [parse(GOOD)]
    assert sorted(b.where.rsplit("/", 1)[1] for b in loaded.broken) == ["empty.json", "folder.json", "latin.json", "torn.json"]


def test_a_published_file_and_a_folder_of_them(tmp_path):
    other = line(record("other", log="line separators \u2028 and \x85 stay within their line"))
    published = tmp_path / "machine" / "2025.jsonl"
    published.parent.mkdir()
    published.write_text(f"{GOOD}\n{GOOD[:-1]}\n\n{other}\n", encoding="utf-8", newline="")
    for source in (published, tmp_path):
        loaded = load(source)
        assert [r.contender.name for r in loaded.records] == ["other", "ours"]
        assert [b.where for b in loaded.broken] == [f"{published}:2"]


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")
