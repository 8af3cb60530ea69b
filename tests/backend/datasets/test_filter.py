from __future__ import annotations

from pathlib import Path

import pytest

from backend.datasets.filter import Context, FilterError, arranged, context_of, parse_filter, quoted
from backend.datasets.headers import Header
from backend.datasets.problems import Problem, Severity
from backend.datasets.scan import Item
from backend.datasets.sidecar import Box


def item(name: str, size: tuple[int, int] | None = (800, 600), caption: str | None = "a fox", **more) -> Item:
    header = Header("PNG", *size, "RGB") if size else None
    path = Path("/data") / name
    return Item(path, name, 1000, 5, path.with_suffix(".txt"), caption, header=header, **more)


ITEMS = [
    item("fox10.png", (1000, 500), "a red fox, snow"),
    item("fox2.png", (300, 300), None),
    item("Bear.png", (600, 900), "bear, snow", excluded=True),
    item("broken.png", None, "  "),
    item("cut.png", (800, 600), 'time: 12:30 "now"', crop=Box(0, 0, 9, 9)),
]
CONTEXT = Context({"Bear.png": {"alpha"}}, frozenset({"cut.png"}))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["Bear.png", "broken.png", "cut.png", "fox2.png", "fox10.png"]),
        ("missing caption", ["broken.png", "fox2.png"]),
        ("no caption", ["broken.png", "fox2.png"]),
        ("missing", ["broken.png", "fox2.png"]),
        ("tiny", ["fox2.png"]),
        ("-tiny fox", ["fox10.png"]),
        ("problem", ["Bear.png"]),
        ("rule:alpha", ["Bear.png"]),
        ("excluded", ["Bear.png"]),
        ("cropped", ["cut.png"]),
        ("is:draft", ["cut.png"]),
        ("broken -is:broken", []),
        ("portrait", ["Bear.png"]),
        ("landscape", ["cut.png", "fox10.png"]),
        ("square", ["fox2.png"]),
        ("snow", ["Bear.png", "fox10.png"]),
        ("tag:snow", ["Bear.png", "fox10.png"]),
        ('tag:"a red fox"', ["fox10.png"]),
        ("tag:fox", []),
        ('"red fox"', ["fox10.png"]),
        ("name:fox", ["fox2.png", "fox10.png"]),
        ("caption:fox", ["fox10.png"]),
        ("width<600 height>=300", ["fox2.png"]),
        ("words>3", ["fox10.png"]),
        ("tags=2", ["Bear.png", "fox10.png"]),
        ("12:30", ["cut.png"]),
        ("time:", ["cut.png"]),
    ],
)
def test_filters(text: str, found: list[str]) -> None:
    assert arranged(ITEMS, parse_filter(text), CONTEXT) == found


@pytest.mark.parametrize("text", ["width<wide", "name<3", "is:purple"])
def test_what_makes_no_sense_is_said(text: str) -> None:
    with pytest.raises(FilterError):
        parse_filter(text)


@pytest.mark.parametrize(
    ("order", "first"),
    [("name", "Bear.png"), ("size", "broken.png"), ("aspect", "broken.png"), ("caption", "fox2.png"),
     ("problems", "Bear.png"), ("newest", "Bear.png")],
)  # fmt: skip
def test_orders(order: str, first: str) -> None:
    names = arranged(ITEMS, parse_filter(""), CONTEXT, order)
    assert names[0] == first
    assert len(names) == 5


def test_unsaved_captions_are_searched_instead_of_the_saved_ones() -> None:
    problem = Problem("fox2.png", "tiny", Severity.WARNING, "is tiny")
    context = context_of([problem], {"fox2.png": "a wolf"})
    assert arranged(ITEMS, parse_filter("wolf problem"), context) == ["fox2.png"]


@pytest.mark.parametrize(
    "tag",
    ["fox", "a red fox", 'say "hi"', '"', "\\", 'a \\"', "missing caption", "-dash", "two\nlines", "tag:x"],
)
def test_a_quoted_tag_finds_itself_alone(tag: str) -> None:
    items = [item("a.png", caption=f"snow, {tag}"), item("b.png", caption="")]
    assert arranged(items, parse_filter(f"tag:{quoted(tag)}"), Context()) == ["a.png"]


def test_words_in_quotation_marks_are_looked_for_as_they_are() -> None:
    items = [item("a.png", caption="No caption"), item("b.png", caption="")]
    assert arranged(items, parse_filter('"no caption"'), Context()) == ["a.png"]
    assert arranged(items, parse_filter("no caption"), Context()) == ["b.png"]
