"""A form edit of any field, on real and on generated files, changes that value and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from config.editing import Path as KeyPath
from config.editing import Tree, apply, set_value
from config.editing.edits import same
from config.form import Field, groups, reset_field
from config.presets import preset_names, preset_text
from config.source import parse

FIXTURES = Path(__file__).parents[1] / "fixtures"
REAL = [preset_text(name) for name in preset_names()]
REAL += [path.read_text(encoding="utf-8") for path in sorted(FIXTURES.glob("*.yaml"))]
# What people's files hold beside plain YAML.
REAL += [REAL[0].replace("\n", "\r\n"), "\ufeff" + REAL[1], REAL[2].replace("  # ", "\t# ").rstrip("\n")]

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\x85\u2028\u2029\ufeff\x00"), max_size=24
)
numbers = st.one_of(st.integers(-(10**6), 10**6), st.floats(allow_nan=False, allow_infinity=False, width=64))


def values(field: Field) -> st.SearchStrategy[Any]:
    match field.kind:
        case "bool":
            return st.booleans()
        case "enum":
            return st.sampled_from([{"true": True, "false": False}.get(c, c) for c in field.choices])
        case "integer":
            return st.integers(0, 10**6)
        case "number":
            return st.floats(1e-9, 1e6)
        case "texts":
            return st.lists(texts, max_size=4)
        case "numbers":
            return st.lists(numbers, min_size=1, max_size=4)
        case "mapping":
            return st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), numbers, max_size=3)
    return texts


def put(data: Any, path: KeyPath, value: Any) -> Any:
    """The reference: the same change on plain data."""
    if not path:
        return value
    if isinstance(path[0], str):
        data = dict(data or {})
        data[path[0]] = put(data.get(path[0]), path[1:], value)
        return data
    data = list(data or [])
    if path[0] == len(data):
        data.append(None)
    data[path[0]] = put(data[path[0]], path[1:], value)
    return data


def without(data: Any, path: KeyPath) -> Any:
    if len(path) == 1:
        return {key: value for key, value in data.items() if key != path[0]}
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = without(copy[path[0]], path[1:])
    return copy


def comments(text: str) -> list[str]:
    """The whole-line comments of a text."""
    return re.findall(r"^[ \t]*#.*$", text, re.M)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_form_edit_of_a_real_config(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(REAL), label="file")
    field = data.draw(st.sampled_from([f for g in groups(text) for f in g.fields]), label="field")
    value = data.draw(values(field), label="value")
    done = set_value(text, field.path, value)
    before, after = parse(text.removeprefix("\ufeff")), parse(done.text.removeprefix("\ufeff"))
    assert same(after.data, put(before.data, field.path, value))
    assert apply(text, done.edits) == done.text
    assert comments(done.text) == comments(text)
    assert done.text.count("\r\n") == done.text.count("\n") or "\r" not in text
    span = Tree.parse(text).value_span(field.path)
    if span is not None and not isinstance(value, list | dict):
        assert done.text.startswith(text[: span.start].rstrip())
        assert done.text.endswith(text[span.end :])
    elif span is None:
        kept = iter(done.text.split("\n"))
        assert all(line in kept for line in text.split("\n") if line.strip())  # every line, in its order


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_reset_takes_the_key_alone(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(REAL), label="file")
    fields = [f for g in groups(text) for f in g.fields if f.is_set and not f.required]
    field = data.draw(st.sampled_from(fields), label="field")
    done = reset_field(text, field)
    assert same(
        parse(done.text.removeprefix("\ufeff")).data,
        without(parse(text.removeprefix("\ufeff")).data, field.path),
    )
    assert comments(done.text) == comments(text)


# -- generated YAML ------------------------------------------------------------------------------

keys = st.from_regex(r"[a-z][a-z_]{0,6}", fullmatch=True)
scalars = st.one_of(texts, numbers, st.booleans(), st.none())
trees = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=12,
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """YAML in any style that PyYAML writes, with comments, blank lines, CRLF and a BOM thrown in."""
    text = yaml.safe_dump(
        draw(trees),
        default_flow_style=draw(st.sampled_from([None, False, True])),
        default_style=draw(st.sampled_from([None, None, None, "'", '"'])),
        indent=draw(st.sampled_from([2, 4])),
        width=draw(st.sampled_from([20, 1000])),
        allow_unicode=draw(st.booleans()),
        sort_keys=False,
    )
    rows = text.split("\n")
    if draw(st.booleans()):
        at = draw(st.lists(st.integers(0, len(rows) - 1), max_size=3))
        for index in at:
            if re.match(r"^[a-z_]+:", rows[index]):  # only where a new key begins: never inside a scalar
                rows.insert(index, draw(st.sampled_from(["# a comment: with [brackets", "", "#\ttab - x"])))
    if draw(st.booleans()) and all('"' not in row and "'" not in row for row in rows):
        rows = [row + "\r" if index < len(rows) - 1 else row for index, row in enumerate(rows)]
    return ("\ufeff" if draw(st.booleans()) else "") + "\n".join(rows)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents(), st.data())
def test_an_edit_of_generated_yaml(text: str, data: st.DataObject) -> None:
    before = parse(text.removeprefix("\ufeff")).data
    assume(isinstance(before, dict))
    tree = Tree.parse(text)
    assume(same(tree.data, before))
    path = data.draw(st.sampled_from([p for p in tree.paths() if p]), label="path")
    value = data.draw(scalars, label="value")
    done = set_value(text, path, value)
    assert same(parse(done.text.removeprefix("\ufeff")).data, put(before, path, value))
    assert comments(done.text) == comments(text) or "|" in text or ">" in text
