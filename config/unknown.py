"""Keys that nobody reads: misspelt, misplaced, or without effect here."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

from config import compat
from config.problems import Problem
from config.schema import ProcessConfig
from config.walk import SECTIONS, names_of, section_of

_TOP_KEYS = ("job", "config", "meta")


def unread_keys(process: dict[str, Any]) -> Iterator[Problem]:
    """A problem for every key of the process that has no effect, without places in the file.

    The key of each is its path inside the process, list items as ``datasets.0.key``.
    """
    yield from _walk(process, "", "")


def _walk(data: dict[str, Any], section: str, shown: str) -> Iterator[Problem]:
    model = SECTIONS[section]
    known = names_of(model)
    quiet = compat.SECTIONS.get(section, {}) if section else compat.PROCESS
    for key, value in data.items():
        name = str(key)
        path = f"{shown}.{name}" if shown else name
        if name in known:
            inner, is_list = section_of(model.model_fields[known[name]].annotation)
            if inner is None:
                continue
            below = f"{section}.{known[name]}" if section else known[name]
            if is_list and isinstance(value, list):
                for index, item in enumerate(value):
                    if isinstance(item, dict):
                        yield from _walk(item, below + "[]", f"{path}.{index}")
            elif not is_list and isinstance(value, dict):
                yield from _walk(value, below, path)
        elif name in quiet:
            sentence = quiet[name]
            if sentence and not _neutral(name, value, data):
                yield Problem("warning", path, sentence, code="unread")
        else:
            said = _explain(name, section, shown, known)
            yield Problem("warning", path, said.sentence, code=said.code, meant=said.meant)
            yield from _inside_misnamed(name, value, section, path)


def _inside_misnamed(name: str, value: Any, section: str, path: str) -> Iterator[Problem]:
    """Where the keys of a section with a wrong name belong (``dataset:`` with ``resolution:`` in it)."""
    meant = compat.SYNONYMS.get(section, {}).get(name.lower())
    home = next((place for place in (meant, f"{meant}[]") if meant and place in SECTIONS), None)
    if home is None or not isinstance(value, dict):
        return
    for key in value:
        if str(key) in names_of(SECTIONS[home]):
            said = f"is not read here; it belongs in {_readable(home)}"
            yield Problem("warning", f"{path}.{key}", said, code="misplaced", meant=_dotted(home))


def _neutral(name: str, value: Any, section: dict[str, Any]) -> bool:
    if name in compat.SETTINGS_OF:
        return not section.get(compat.SETTINGS_OF[name]) or value in compat.NEUTRAL.get(name, ())
    return not value or any(value is v or value == v for v in compat.NEUTRAL.get(name, ()))


class _Said(NamedTuple):
    """A sentence about an unknown key, and what it means for a fix."""

    sentence: str
    code: str
    meant: str | None = None


def _did_you_mean(path: str) -> _Said:
    return _Said(f"is not a key; did you mean {path}?", "misspelt", _dotted(path))


def _dotted(path: str) -> str:
    """``datasets[0].resolution`` as ``datasets.0.resolution``."""
    return path.replace("[]", ".0").replace("[", ".").replace("]", "")


def _explain(name: str, section: str, shown: str, known: dict[str, str]) -> _Said:
    """What is wrong with an unknown key, and where it belongs or what was probably meant."""
    if meant := compat.SYNONYMS.get(section, {}).get(name.lower()):
        if "[]" in meant and shown:
            meant = meant.replace(section, shown, 1)
        return _did_you_mean(meant)
    lowered = name.lower()
    exact = [
        path
        for path, model in SECTIONS.items()
        if path != section and (lowered in names_of(model) or lowered in compat.SECTIONS.get(path, {}))
    ]
    close = difflib.get_close_matches(lowered, known, n=1, cutoff=0.75)
    if close:
        return _did_you_mean(f"{shown}.{close[0]}" if shown else close[0])
    if exact:
        home = _readable(exact[0])
        where = f"in {home}" if home else "one level up"
        return _Said(f"is not read here; it belongs {where}", "misplaced", _dotted(home))
    for synonyms in compat.SYNONYMS.values():
        if meant := synonyms.get(lowered):
            return _did_you_mean(_readable(meant))
    for path, model in SECTIONS.items():
        if near := difflib.get_close_matches(lowered, names_of(model), n=1, cutoff=0.85):
            home = _readable(path)
            return _did_you_mean(f"{home}.{near[0]}" if home else near[0])
    return _Said("is not a key that anything reads; it has no effect", "unread")


def _readable(section: str) -> str:
    return section.replace("[]", "[0]")


def unread_top(data: dict[str, Any]) -> Iterator[Problem]:
    """The same for the file's top level and its ``config`` section."""
    for key in data:
        name = str(key)
        if name in _TOP_KEYS:
            continue
        if name in names_of(ProcessConfig) or name in ("process", "name"):
            where = "config" if name in ("process", "name") else "config.process[0]"
            yield Problem(
                "warning", name, f"is not read here; it belongs in {where}", code="misplaced", meant=where
            )
        else:
            close = difflib.get_close_matches(name.lower(), _TOP_KEYS, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; it has no effect"
            code, meant = ("misspelt", close[0]) if close else ("unread", None)
            yield Problem("warning", name, f"is not a key{hint}", code=code, meant=meant)
    config = data.get("config")
    if isinstance(config, dict):
        for key in config:
            name = str(key)
            if name in ("name", "process"):
                continue
            if name in names_of(ProcessConfig):
                yield Problem(
                    "warning",
                    f"config.{name}",
                    "is not read here; it belongs in config.process[0]",
                    code="misplaced",
                    meant="config.process[0]",
                )
            else:
                yield Problem("warning", f"config.{name}", "is not a key; it has no effect", code="unread")
