from __future__ import annotations

import pytest

from config.editing import (
    INSIDE,
    EditError,
    SharedValueError,
    add_item,
    apply,
    move_item,
    remove,
    rename_key,
    set_value,
)
from config.presets import preset_text
from config.source import parse

CHARACTER = preset_text("character")


def changed_lines(before: str, after: str) -> tuple[list[str], list[str]]:
    import difflib

    rows = list(difflib.ndiff(before.split("\n"), after.split("\n")))
    return [r[2:] for r in rows if r.startswith("- ")], [r[2:] for r in rows if r.startswith("+ ")]


def test_setting_a_value_changes_its_bytes_alone() -> None:
    done = set_value(CHARACTER, (*INSIDE, "train", "lr"), 2e-4)
    assert changed_lines(CHARACTER, done.text) == (["        lr: 1e-4"], ["        lr: 2e-4"])
    assert apply(CHARACTER, done.edits) == done.text


@pytest.mark.parametrize(
    ("before", "path", "value", "after"),
    [
        ("a: 'x' # c\n", ("a",), "y", "a: 'y' # c\n"),
        ("a: 'x'\n", ("a",), "it's", "a: 'it''s'\n"),
        ('a: "x"\n', ("a",), "y", 'a: "y"\n'),
        ("a: x\n", ("a",), "yes", 'a: "yes"\n'),
        ("a: x\n", ("a",), "1", 'a: "1"\n'),
        ("a:\nb: 1\n", ("a",), 5, "a: 5\nb: 1\n"),
        ("a: # why\nb: 1\n", ("a",), 5, "a: 5 # why\nb: 1\n"),
        ("a: 1e-4\n", ("a",), 5e-05, "a: 5e-5\n"),
        ("a: 1\t# tab\tin comment\n", ("a",), 2, "a: 2\t# tab\tin comment\n"),
        ("a: {b: 1, c: 2}\n", ("a", "c"), 3, "a: {b: 1, c: 3}\n"),
        ("a: {b: 1}\n", ("a", "c"), True, "a: {b: 1, c: true}\n"),
        ("a: {}\n", ("a", "c"), 1, "a: {c: 1}\n"),
        ("a: [1, 2, 3]  # x\n", ("a",), [1, 3], "a: [1, 3]  # x\n"),
        ("a:\n- x # one\n- y # two\n", ("a",), ["x", "z"], "a:\n- x # one\n- z # two\n"),
        ("a:\n- x # one\n- y\n", ("a",), [], "a: []\n"),
        ("a:\n  - x\nb: 1\n", ("a",), ["x", "y"], "a:\n  - x\n  - y\nb: 1\n"),
        ("a:\n  b: 1\n", ("a", "c", "d"), 2, "a:\n  b: 1\n  c:\n    d: 2\n"),
        ("a:\n  b: 1", ("a", "c"), 2, "a:\n  b: 1\n  c: 2"),
        ("a:\nb: 1\n", ("a", "c"), 2, "a:\n  c: 2\nb: 1\n"),
        ("a: null # n\nb: 1\n", ("a", "c"), 2, "a: # n\n  c: 2\nb: 1\n"),
        ("a: |\n  one\n  two\nb: 1\n", ("a",), "three\nfour\n", "a: |\n  three\n  four\nb: 1\n"),
        ("a: |+ # keep\n  one\n\nb: 1\n", ("a",), "x\n", "a: | # keep\n  x\nb: 1\n"),
        ("a: >-\n  one\n  two\n# c\nb: 1\n", ("a",), "x y", "a: |-\n  x y\n# c\nb: 1\n"),
        ("a:\r\n  b: 1 # c\r\n", ("a", "c"), 2, "a:\r\n  b: 1 # c\r\n  c: 2\r\n"),
        ("\ufeffa: 1\nb: 2\n", ("a",), 3, "\ufeffa: 3\nb: 2\n"),
        ("\ufeffa: 1\nb: 2\n", ("c",), 3, "\ufeffa: 1\nb: 2\nc: 3\n"),
        ("a: é😀 # ü\nb: 1 # ü\n", ("b",), 2, "a: é😀 # ü\nb: 2 # ü\n"),
        ("a: !!str 1\n", ("a",), 2, "a: 2\n"),
        ("a: &x 1 # c\n", ("a",), 2, "a: &x 2 # c\n"),
        ("on: 1\n2: 3\n", ("on",), 2, "on: 2\n2: 3\n"),
    ],
)
def test_styles(before: str, path: tuple[str | int, ...], value: object, after: str) -> None:
    assert set_value(before, path, value).text == after


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ("a: 1 # c\nb: 2\n", ("a",), "b: 2\n"),
        ("b: 2\na: 1", ("a",), "b: 2"),
        ("- a: 1\n  b: 2\n", (0, "a"), "- b: 2\n"),
        ("- a: 1\n  # about b\n  b: 2\n", (0, "a"), "-\n  # about b\n  b: 2\n"),
        ("x:\n  a: 1\ny: 2\n", ("x", "a"), "x: {}\ny: 2\n"),
        ("{a: 1, b: 2}\n", ("b",), "{a: 1}\n"),
        ("{a: 1, b: 2}\n", ("a",), "{b: 2}\n"),
        ("a:\n  b: {c: [1,\n    2]}\n  d: 1\n", ("a", "b"), "a:\n  d: 1\n"),
        ("l:\n  - a # one\n  # two\n  - b\n", ("l", 0), "l:\n  # two\n  - b\n"),
    ],
)
def test_removing(before: str, path: tuple[str | int, ...], after: str) -> None:
    assert remove(before, path).text == after


def test_items_move_and_are_added_in_place() -> None:
    text = 'p:\n  - "a" # one\n  # note\n  - "b"\n  - "c"'
    assert move_item(text, ("p", 2), 0).text == 'p:\n  - "c"\n  - "a" # one\n  # note\n  - "b"'
    assert move_item(text, ("p", 0), 2).text == 'p:\n  # note\n  - "b"\n  - "c"\n  - "a" # one'
    assert add_item(text, ("p",), "d").text == text + '\n  - "d"'
    assert add_item(text, ("p",), "d", 1).text == 'p:\n  - "a" # one\n  # note\n  - "d"\n  - "b"\n  - "c"'
    assert add_item("p:\n", ("p",), "d").text == "p:\n  - d\n"
    assert move_item("p: [1, 2,  3]\n", ("p", 2), 0).text == "p: [3, 1,  2]\n"


SHARED = "b: &x\n  lr: 1\nc: *x\nd: {<<: *x, k: 2}\ne: &z 5\nf: *z\n"


def test_an_alias_is_replaced_and_a_merge_overridden() -> None:
    assert set_value(SHARED, ("f",), 1).text == SHARED.replace("*z", "1")
    assert set_value(SHARED, ("d", "lr"), 3).text == SHARED.replace("k: 2}", "k: 2, lr: 3}")


def test_a_shared_value_is_not_changed_behind_its_user_s_back() -> None:
    with pytest.raises(SharedValueError, match=r"also changes c\.lr, d\.lr") as caught:
        set_value(SHARED, ("b", "lr"), 2)
    assert caught.value.paths == [("c", "lr"), ("d", "lr")]
    with pytest.raises(SharedValueError):
        set_value(SHARED, ("c", "lr"), 2)
    assert set_value(SHARED, ("e",), 3, everywhere=True).text == SHARED.replace("&z 5", "&z 3")
    with pytest.raises(EditError):
        remove(SHARED, ("e",))  # f would refer to nothing


def test_json_stays_json() -> None:
    import json

    text = '{\n\t"config": {\n\t\t"name": "a",\n\t\t"n": [1, 2]\n\t}\n}\n'
    for path, value in [
        (("config", "name"), 'q"\n'),
        (("config", "n"), [2]),
        (("config", "new"), {"x": [1.5]}),
    ]:
        done = set_value(text, path, value, is_json=True).text
        data = json.loads(text)
        data["config"][path[1]] = value
        assert json.loads(done) == data
        assert "\t\t" in done


def test_a_key_is_renamed_in_place() -> None:
    assert rename_key("a: 1 # c\nb: 2\n", ("a",), "c").text == "c: 1 # c\nb: 2\n"
    with pytest.raises(EditError, match="b is there already"):
        rename_key("a: 1\nb: 2\n", ("a",), "b")


def test_what_cannot_be_parsed_is_refused_with_its_line() -> None:
    with pytest.raises(EditError, match="the file is not valid YAML in line 3"):
        set_value("a: 1\nb: [1\n", ("a",), 2)


def test_five_thousand_lines_can_be_edited() -> None:
    items = "".join(f"        - prompt: picture {i}  # {i}\n          width: 512\n" for i in range(2500))
    text = f"config:\n  process:\n    - sample:\n        samples:\n{items}"
    path = (*INSIDE, "sample", "samples", 1234, "width")
    done = set_value(text, path, 768).text
    gone, new = changed_lines_fast(text, done)
    assert gone == ["          width: 512"]
    assert new == ["          width: 768"]
    assert parse(done).data["config"]["process"][0]["sample"]["samples"][1234]["width"] == 768


def changed_lines_fast(before: str, after: str) -> tuple[list[str], list[str]]:
    pairs = [(a, b) for a, b in zip(before.split("\n"), after.split("\n"), strict=True) if a != b]
    return [a for a, _ in pairs], [b for _, b in pairs]
