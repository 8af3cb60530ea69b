"""A config that is being written: keys with comments, rendered as YAML."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from config.secrets import hide_tokens

_WIDTH = 100
_BAD_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f]+')
_ORDER = ("network", "save", "datasets", "train", "model", "sample", "logging")


@dataclass
class _Entry:
    key: str
    value: Any
    why: str | None


@dataclass
class Block:
    """One section: its keys in order, and what has no equal in it."""

    entries: list[_Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def set(self, key: str, value: Any, why: str | None = None) -> None:
        """Give ``key`` a value; a second time replaces the first. ``why`` becomes its comment."""
        for entry in self.entries:
            if entry.key == key:
                entry.value, entry.why = value, why
                return
        self.entries.append(_Entry(key, value, why))

    def get(self, key: str) -> Any:
        """The value that was set, or None."""
        return next((entry.value for entry in self.entries if entry.key == key), None)

    def why(self, key: str) -> str | None:
        """The comment on ``key``."""
        return next((entry.why for entry in self.entries if entry.key == key), None)

    def drop(self, key: str) -> None:
        """Remove a key."""
        self.entries = [entry for entry in self.entries if entry.key != key]

    def note(self, text: str) -> None:
        """Say in a comment what was not taken over."""
        if text not in self.notes:
            self.notes.append(text)

    def plain(self) -> dict[str, Any]:
        """The keys and values without comments."""
        return {entry.key: entry.value for entry in self.entries}


class Draft:
    """A whole config in ai-toolkit's shape, with comments.

    Attributes:
        name: Name of the run.
        process: Keys of the process itself.
        datasets: One block a dataset.
        meta: Keys of ``meta``.
        quiet: Keys of the source that need no key here, with the reason.
        urgent: What a person has to look at before training.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.process = Block()
        self.process.set("type", "sd_trainer")
        self.datasets: list[Block] = []
        self.meta: dict[str, Any] = {"name": "[name]", "version": "1.0"}
        self.quiet: dict[str, str] = {}
        self.urgent: list[str] = []
        self._blocks: dict[str, Block] = {name: Block() for name in _ORDER}

    def __getitem__(self, section: str) -> Block:
        return self._blocks[section] if section else self.process

    @property
    def without_equal(self) -> int:
        """How many remarks say that something was not taken over."""
        blocks = (self.process, *self._blocks.values(), *self.datasets)
        return sum(len(block.notes) for block in blocks)

    def render(self, heading: str) -> str:
        """The YAML text; nothing in it looks like a token of Hugging Face or Modal."""
        lines = _comment(heading, 0)
        for text in self.urgent:
            lines += ["#", *_comment(f"LOOK AT THIS: {text}", 0)]
        if self.quiet:
            lines.append("#")
            lines += _comment("Not needed here:", 0)
            by_reason: dict[str, list[str]] = {}
            for key, reason in self.quiet.items():
                by_reason.setdefault(reason, []).append(key)
            for reason, keys in by_reason.items():
                lines += _comment(f"{', '.join(keys)}: {reason}", 0, "# - ", "#   ")
        lines += ["job: extension", "config:", f"  name: {scalar(self.name)}", "  process:"]
        body = _block(self.process, 6)
        for section in _ORDER:
            block = self._blocks[section]
            if section == "datasets":
                body += _notes(block, 6) + _datasets(self.datasets)
            elif block.entries:
                body += [f"{'':6}{section}:", *_block(block, 8)]
            else:
                body += _notes(block, 6)
        body[0] = "    - " + body[0][6:]
        lines += [*body, "meta:"]
        lines += [f"  {key}: {scalar(value)}" for key, value in self.meta.items()]
        return hide_tokens("\n".join(lines) + "\n")


def run_name(text: str | None, fallback: str) -> str:
    """A name that is allowed as a file name."""
    name = _BAD_IN_NAMES.sub("-", text or "").strip(" .-")
    return name or _BAD_IN_NAMES.sub("-", fallback).strip(" .-") or "imported"


def scalar(value: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(scalar, value)) + "]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    # Only double quotes keep a line break on one line.
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text = yaml.safe_dump(
        [value], default_flow_style=True, default_style=style, allow_unicode=True, width=2**30
    )
    return text.strip()[1:-1].strip()


def shown(value: Any) -> str:
    """A value of the source for a comment: one line, not too long, no control characters."""
    text = " ".join(str(value).lower().split() if isinstance(value, bool) else str(value).split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 60 else text[:57] + "..."


def _datasets(blocks: Sequence[Block]) -> list[str]:
    if not blocks:
        return []
    lines = [f"{'':6}datasets:"]
    for block in blocks:
        body = _block(block, 10)
        first = next(index for index, line in enumerate(body) if not line.lstrip().startswith("#"))
        body[first] = f"{'':8}- {body[first][10:]}"
        lines += body
    return lines


def _block(block: Block, indent: int) -> list[str]:
    lines: list[str] = []
    for entry in block.entries:
        lines += _entry(entry, indent)
    return lines + _notes(block, indent)


def _entry(entry: _Entry, indent: int) -> list[str]:
    pad = " " * indent
    value = entry.value
    if isinstance(value, dict) and value:
        lines = _comment(entry.why, indent) if entry.why else []
        lines.append(f"{pad}{entry.key}:")
        for key, item in value.items():
            lines += _entry(_Entry(key, item, None), indent + 2)
        return lines
    if isinstance(value, list) and any(
        isinstance(item, dict | str) and len(str(item)) > 24 for item in value
    ):
        lines = _comment(entry.why, indent) if entry.why else []
        return [*lines, f"{pad}{entry.key}:", *(f"{pad}  - {scalar(item)}" for item in value)]
    line = f"{pad}{entry.key}: {scalar(value)}"
    if entry.why is None:
        return [line]
    if len(line) + len(entry.why) + 4 <= _WIDTH:
        return [f"{line}  # {_safe(entry.why)}"]
    return [*_comment(entry.why, indent), line]


def _notes(block: Block, indent: int) -> list[str]:
    return [line for note in block.notes for line in _comment(note, indent)]


def _safe(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _comment(text: str, indent: int, first: str = "# ", rest: str = "# ") -> list[str]:
    pad = " " * indent
    return textwrap.wrap(
        _safe(text),
        _WIDTH,
        initial_indent=pad + first,
        subsequent_indent=pad + rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
