"""Changes to many captions at once: what each would make of a caption, without touching a file.

An edit becomes a plan (:func:`plan`), which is shown, and then applied and undone by
:class:`backend.datasets.journal.Journal`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.datasets.captions import folded, join_tags, tags
from backend.datasets.errors import DatasetError
from backend.datasets.substitute import SECONDS, substitute


class EditError(DatasetError):
    """An edit makes no sense; the message is one sentence for people."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an edit does to one caption file.

    Attributes:
        path: The caption's file.
        before: Its text; None if there is no file.
        after: Its text afterwards.
    """

    path: Path
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What an edit will do.

    Attributes:
        title: The edit in a few words.
        changes: The captions that it changes.
        unchanged: How many it leaves as they are.
    """

    title: str
    changes: tuple[Change, ...]
    unchanged: int = 0


class Edit:
    """A change to captions. Only :class:`CreateMissing` makes captions that are not there."""

    @property
    def title(self) -> str:
        """The edit in a few words."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise :class:`EditError` if the edit makes no sense."""

    def change(self, text: str) -> str:
        """What it makes of one caption."""
        raise NotImplementedError

    def change_all(self, texts: Sequence[str]) -> list[str]:
        """What it makes of all captions."""
        return [self.change(text) for text in texts]


def plan(edit: Edit, captions: Mapping[Path, str | None]) -> Plan:
    """What ``edit`` would do to captions, by file; None is a caption that is missing.

    Raises:
        EditError: The edit makes no sense.
        PatternError: Its regular expression is wrong or takes too long.
    """
    edit.check()
    if isinstance(edit, CreateMissing):
        changes = [Change(path, None, edit.text) for path, text in captions.items() if text is None]
    else:
        present = [(path, text) for path, text in captions.items() if text is not None]
        after = edit.change_all([text for _, text in present])
        changes = [
            Change(path, text, new) for (path, text), new in zip(present, after, strict=True) if new != text
        ]
    return Plan(edit.title, tuple(changes), len(captions) - len(changes))


@dataclass(frozen=True, slots=True)
class FindReplace(Edit):
    """Replace text; with ``regex``, by the rules of Python's ``re``."""

    find: str
    replace: str
    regex: bool = False
    ignore_case: bool = False
    seconds: float = SECONDS

    @property
    def title(self) -> str:
        return f"replace {self.find!r} by {self.replace!r}"

    def check(self) -> None:
        if not self.find:
            raise EditError("say what to look for")

    def change_all(self, texts: Sequence[str]) -> list[str]:
        if self.regex:
            return substitute(
                self.find, self.replace, texts, ignore_case=self.ignore_case, seconds=self.seconds
            )
        return [self.change(text) for text in texts]

    def change(self, text: str) -> str:
        if not self.ignore_case:
            return text.replace(self.find, self.replace)
        return re.sub(re.escape(self.find), lambda _: self.replace, text, flags=re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _WithText(Edit):
    text: str

    def check(self) -> None:
        if not self.text:
            raise EditError("say which text")


@dataclass(frozen=True, slots=True)
class AddPrefix(_WithText):
    """Put a text in front of captions that do not begin with it."""

    @property
    def title(self) -> str:
        return f"begin with {self.text!r}"

    def change(self, text: str) -> str:
        return text if text.startswith(self.text) else self.text + text


@dataclass(frozen=True, slots=True)
class RemovePrefix(_WithText):
    """Take a text from the beginning."""

    @property
    def title(self) -> str:
        return f"do not begin with {self.text!r}"

    def change(self, text: str) -> str:
        return text.removeprefix(self.text)


@dataclass(frozen=True, slots=True)
class AddSuffix(_WithText):
    """Put a text at the end, before the last line break, of captions that do not end with it."""

    @property
    def title(self) -> str:
        return f"end with {self.text!r}"

    def change(self, text: str) -> str:
        body, end = _parted(text)
        return text if body.endswith(self.text) else body + self.text + end


@dataclass(frozen=True, slots=True)
class RemoveSuffix(_WithText):
    """Take a text from the end."""

    @property
    def title(self) -> str:
        return f"do not end with {self.text!r}"

    def change(self, text: str) -> str:
        body, end = _parted(text)
        return body.removesuffix(self.text) + end


@dataclass(frozen=True, slots=True)
class AddTag(Edit):
    """Add a tag to captions that lack it, at the end or in front."""

    tag: str
    first: bool = False

    @property
    def title(self) -> str:
        return f"add the tag {self.tag!r}"

    def check(self) -> None:
        _check_tag(self.tag)

    def change(self, text: str) -> str:
        tag = self.tag.strip()
        parts = tags(text)
        if folded(tag) in map(folded, parts):
            return text
        body, end = _parted(text)
        if not parts:
            return tag + end
        return f"{tag}, {text}" if self.first else f"{body.rstrip().rstrip(',')}, {tag}{end}"


@dataclass(frozen=True, slots=True)
class RemoveTag(Edit):
    """Remove a tag wherever it stands as one."""

    tag: str

    @property
    def title(self) -> str:
        return f"remove the tag {self.tag!r}"

    def check(self) -> None:
        _check_tag(self.tag)

    def change(self, text: str) -> str:
        parts = tags(text)
        kept = [part for part in parts if folded(part) != folded(self.tag)]
        return join_tags(kept) + _parted(text)[1] if len(kept) < len(parts) else text


@dataclass(frozen=True, slots=True)
class RenameTag(Edit):
    """Write a tag differently; where the new one stands already, the old one goes."""

    old: str
    new: str

    @property
    def title(self) -> str:
        return f"rename the tag {self.old!r} to {self.new!r}"

    def check(self) -> None:
        _check_tag(self.old)
        _check_tag(self.new)

    def change(self, text: str) -> str:
        old, new = folded(self.old), self.new.strip()
        parts = tags(text)
        if old not in map(folded, parts):
            return text
        renamed = (new if folded(part) == old else part for part in parts)
        return join_tags(dict.fromkeys(renamed)) + _parted(text)[1]


@dataclass(frozen=True, slots=True)
class PutTrigger(Edit):
    """Put the trigger word, or ``[trigger]``, in front where neither it nor a placeholder stands."""

    trigger: str
    placeholder: bool = False

    @property
    def title(self) -> str:
        return f"put {'[trigger]' if self.placeholder else repr(self.trigger)} in"

    def check(self) -> None:
        if not self.placeholder and not self.trigger.strip():
            raise EditError("there is no trigger word: set one, or put the placeholder [trigger] in")

    def change(self, text: str) -> str:
        if (self.trigger and self.trigger in text) or "[trigger]" in text or "[name]" in text:
            return text
        word = "[trigger]" if self.placeholder else self.trigger.strip()
        return f"{word} {text}" if text.strip() else word + text


@dataclass(frozen=True, slots=True)
class TakeTrigger(Edit):
    """Take the trigger word and its placeholders out, with the comma or space that they leave."""

    trigger: str = ""

    @property
    def title(self) -> str:
        return "take the trigger word out"

    def change(self, text: str) -> str:
        words = [re.escape(word) for word in ("[trigger]", "[name]") if word in text]
        trigger = self.trigger.strip()
        if trigger:
            words.append(rf"(?<!\w){re.escape(trigger)}(?!\w)")
        if not words:
            return text
        either = "|".join(words)
        # In front: with what parts it from the rest. Elsewhere: with what stands before it.
        new = re.sub(rf"^[ \t]*(?:{either})[ \t]*(?:,[ \t]*)?", "", text)
        return re.sub(rf"(?:[ \t]*,)?[ \t]*(?:{either})(?=[ \t]*(?:,|$|\n))|[ \t]?(?:{either})", "", new)


@dataclass(frozen=True, slots=True)
class CreateMissing(Edit):
    """Write a caption for every picture that has none."""

    text: str = ""

    @property
    def title(self) -> str:
        return f"create missing captions: {self.text!r}" if self.text else "create missing captions, empty"

    def change(self, text: str) -> str:
        return text


@dataclass(frozen=True, slots=True)
class Trim(Edit):
    """Take white space from both ends, from the ends of lines, and double spaces from between words."""

    @property
    def title(self) -> str:
        return "trim"

    def change(self, text: str) -> str:
        lines = (re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines())
        return "\n".join(lines).strip()


@dataclass(frozen=True, slots=True)
class DedupeTags(Edit):
    """Leave each tag once, where it stands first."""

    @property
    def title(self) -> str:
        return "remove repeated tags"

    def change(self, text: str) -> str:
        parts = tags(text)
        once = list(dict.fromkeys(parts))
        return text if once == parts else join_tags(once) + _parted(text)[1]


@dataclass(frozen=True, slots=True)
class SortTags(Edit):
    """Sort tags by the alphabet; the first ``keep`` stay in front."""

    keep: int = 0

    @property
    def title(self) -> str:
        return "sort tags"

    def change(self, text: str) -> str:
        parts = tags(text)
        ordered = parts[: self.keep] + sorted(parts[self.keep :], key=str.casefold)
        return text if ordered == parts else join_tags(ordered) + _parted(text)[1]


def _parted(text: str) -> tuple[str, str]:
    """The text, and the white space with line breaks at its end."""
    body = text.rstrip()
    end = text[len(body) :]
    return (body, end) if "\n" in end else (text, "")


def _check_tag(tag: str) -> None:
    if not tag.strip():
        raise EditError("say which tag")
    if "," in tag or "\n" in tag:
        raise EditError("a tag has neither a comma nor a line break in it")
