"""Which pictures of a dataset are shown, and in what order.

A filter is words, all of which must hold: ``missing caption``, ``tiny``, ``tag:fox``, ``rule:alpha``,
``-excluded``, ``width<512``, ``"red fox"``; any other word is looked for in names and captions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from backend.datasets.captions import folded, tags
from backend.datasets.errors import DatasetError

if TYPE_CHECKING:
    from backend.datasets.problems import Problem
    from backend.datasets.scan import Item


class FilterError(DatasetError):
    """A filter cannot be understood; the message says which part."""


TINY = 512  # pixels: below its square a picture is tiny, unless told otherwise


@dataclass(frozen=True)
class Context:
    """What is known of a dataset beside its items.

    Attributes:
        rules: Ids of the rules that each picture breaks.
        drafts: Pictures with a caption that is not saved.
        captions: Captions to look in instead of the saved ones.
        tiny: Edge in pixels of the square below whose area a picture is tiny.
    """

    rules: Mapping[str, Collection[str]] = field(default_factory=dict)
    drafts: Collection[str] = ()
    captions: Mapping[str, str] = field(default_factory=dict)
    tiny: int = TINY

    def caption(self, item: Item) -> str:
        """The caption as it is on the screen."""
        return self.captions.get(item.name, item.caption or "")


def context_of(problems: Iterable[Problem], drafts: Mapping[str, str], tiny: int = TINY) -> Context:
    """A context from what lint found and the unsaved captions by their pictures' names."""
    rules: dict[str, set[str]] = {}
    for problem in problems:
        rules.setdefault(problem.file, set()).add(problem.rule)
    return Context(rules, frozenset(drafts), dict(drafts), tiny)


Test = Callable[["Item", Context], bool]

_WORD = re.compile(
    r'(?P<no>-?)(?:(?P<key>[A-Za-z]+)(?P<op>:|<=|>=|<|>|=))?(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>\S+))'
)
# "missing caption" is one thing to say, though each word alone has a meaning too; not in quotation marks.
_MISSING = re.compile(r'"(?:[^"\\]|\\.)*"|\b(?:missing|no)[ :]captions?\b', re.IGNORECASE)


def _missing(item: Item, context: Context) -> bool:
    return not context.caption(item).strip()


def _tiny(item: Item, context: Context) -> bool:
    return item.header is not None and item.header.width * item.header.height < context.tiny**2


_STATES: dict[str, Test] = {
    "missing": _missing,
    "tiny": _tiny,
    "problem": lambda item, context: bool(context.rules.get(item.name)),
    "excluded": lambda item, context: item.excluded,
    "cropped": lambda item, context: item.crop is not None,
    "draft": lambda item, context: item.name in context.drafts,
    "broken": lambda item, context: item.header is None,
    "portrait": lambda item, context: item.header is not None and item.header.height > item.header.width,
    "landscape": lambda item, context: item.header is not None and item.header.width > item.header.height,
    "square": lambda item, context: item.header is not None and item.header.width == item.header.height,
}
_STATES["problems"] = _STATES["problem"]
_STATES["drafts"] = _STATES["draft"]
_STATES["crop"] = _STATES["cropped"]
WORDS = tuple(sorted(_STATES))
_NUMBERS: dict[str, Callable[[Item, Context], float | None]] = {
    "width": lambda item, context: item.header.width if item.header else None,
    "height": lambda item, context: item.header.height if item.header else None,
    "aspect": lambda item, context: item.header.width / item.header.height if item.header else None,
    "words": lambda item, context: len(context.caption(item).split()),
    "tags": lambda item, context: len(tags(context.caption(item))),
    "bytes": lambda item, context: item.bytes,
}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "=": lambda a, b: a == b,
    ":": lambda a, b: a == b,
}


@dataclass(frozen=True)
class Filter:
    """A filter that was understood; an empty one lets everything through.

    Attributes:
        text: As it was typed.
        tests: All of which must hold.
    """

    text: str = ""
    tests: tuple[Test, ...] = ()

    def matches(self, item: Item, context: Context) -> bool:
        """Whether a picture is to be shown."""
        return all(test(item, context) for test in self.tests)


def parse_filter(text: str) -> Filter:
    """Understand what was typed.

    Raises:
        FilterError: A comparison has no number, or names something that has none.
    """
    tests: list[Test] = []
    plain = _MISSING.sub(lambda it: it[0] if it[0].startswith('"') else "missing", text.strip())
    for match in _WORD.finditer(plain):
        test = _test(match)
        if test is None:
            continue
        tests.append(_opposite(test) if match["no"] else test)
    return Filter(text.strip(), tuple(tests))


def _opposite(test: Test) -> Test:
    return lambda item, context: not test(item, context)


def _test(match: re.Match[str]) -> Test | None:
    key, op = (match["key"] or "").casefold(), match["op"]
    quoted = match["quoted"]
    if quoted is not None:
        quoted = re.sub(r'\\(["\\])', r"\1", quoted)
    value = (quoted if quoted is not None else match["bare"] or "").strip()
    if key in _NUMBERS and op:
        return _number(key, op, value)
    if op == ":" and key in ("tag", "rule", "name", "caption", "is"):
        return _keyed(key, value)
    if op and op != ":" and key:
        raise FilterError(f"{key} is no number to compare; there are {', '.join(sorted(_NUMBERS))}.")
    if key:  # a colon in a caption means nothing
        value = f"{match['key']}{op}{value}"
    elif quoted is None and value.casefold() in _STATES:
        return _STATES[value.casefold()]
    return _words(value.casefold()) if value else None


def _words(wanted: str) -> Test:
    return lambda item, context: wanted in item.name.casefold() or wanted in context.caption(item).casefold()


def _keyed(key: str, value: str) -> Test:
    wanted = value.casefold()
    match key:
        case "tag":
            tag = folded(wanted)
            return lambda item, context: tag in tags(folded(context.caption(item).casefold()))
        case "rule":
            return lambda item, context: wanted in context.rules.get(item.name, ())
        case "name":
            return lambda item, context: wanted in item.name.casefold()
        case "caption":
            return lambda item, context: wanted in context.caption(item).casefold()
    if wanted not in _STATES:
        raise FilterError(f"is:{value} is unknown; there are {', '.join(WORDS)}.")
    return _STATES[wanted]


def _number(key: str, op: str, value: str) -> Test:
    try:
        limit = float(value)
    except ValueError:
        raise FilterError(f"{key}{op} needs a number, not {value!r}.") from None
    measure, compare = _NUMBERS[key], _COMPARE[op]

    def test(item: Item, context: Context) -> bool:
        measured = measure(item, context)
        return measured is not None and compare(measured, limit)

    return test


def quoted(word: str) -> str:
    """``word`` as a filter's value: in quotation marks if it needs them."""
    if word and not re.search(r'[\s"]', word):
        return word
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


# Order


@lru_cache(maxsize=65_536)  # the same names are sorted again with each change
def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key for which ``fox2`` comes before ``fox10``."""
    parts = re.split(r"(\d+)", name.casefold())
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


Order = Callable[["Item", Context], object]

ORDERS: dict[str, Order] = {
    "name": lambda item, context: 0,
    "size": lambda item, context: item.header.width * item.header.height if item.header else 0,
    "aspect": lambda item, context: item.header.width / item.header.height if item.header else 0.0,
    "caption": lambda item, context: len(context.caption(item)),
    "problems": lambda item, context: -len(context.rules.get(item.name, ())),
    "newest": lambda item, context: -item.mtime_ns,
}


def arranged(
    items: Iterable[Item], filtered: Filter, context: Context, order: str = "name", *, reverse: bool = False
) -> list[str]:
    """Names of the pictures that a filter lets through, in order; equals by name."""
    key = ORDERS[order]
    found = [item for item in items if filtered.matches(item, context)]
    found.sort(key=lambda item: (_natural(item.name), item.name))
    if order != "name":
        found.sort(key=lambda item: key(item, context), reverse=reverse)  # type: ignore[arg-type,return-value]
    elif reverse:
        found.reverse()
    return [item.name for item in found]
