"""Captions that were typed and not saved yet, each beside what its file held when typing began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Draft:
    """A caption that is not saved.

    Attributes:
        text: What was typed.
        base: What the file held when typing began; None for no file.
    """

    text: str
    base: str | None


class CaptionDesk:
    """Unsaved captions by the names of their pictures; going to another picture keeps them."""

    def __init__(self) -> None:
        self._drafts: dict[str, Draft] = {}

    def restore(self, drafts: Mapping[str, Draft]) -> None:
        """Take up drafts of an earlier session; those of this one win."""
        self._drafts = {**drafts, **self._drafts}

    @property
    def names(self) -> tuple[str, ...]:
        """Pictures with an unsaved caption, in the order of their first change."""
        return tuple(self._drafts)

    def __contains__(self, name: str) -> bool:
        return name in self._drafts

    def get(self, name: str) -> Draft | None:
        """The draft of a picture."""
        return self._drafts.get(name)

    def text(self, name: str, saved: str | None) -> str:
        """What the editor shows: the draft, else what is saved."""
        draft = self._drafts.get(name)
        return draft.text if draft is not None else saved or ""

    def edit(self, name: str, saved: str | None, text: str) -> bool:
        """Note what was typed; text that equals the saved one is no draft. Whether anything changed."""
        before = self._drafts.get(name)
        if text == (saved or ""):
            return self._drafts.pop(name, None) is not None
        if before is not None and before.text == text:
            return False
        self._drafts[name] = Draft(text, before.base if before is not None else saved)
        return True

    def rebase(self, name: str, saved: str) -> None:
        """The file holds ``saved`` now, by our own hand: what was typed meanwhile goes on from there."""
        if (draft := self._drafts.get(name)) is not None:
            self._drafts[name] = Draft(draft.text, saved)

    def in_conflict(self, name: str, saved: str | None) -> bool:
        """Whether the file was changed by somebody else since typing began."""
        draft = self._drafts.get(name)
        return draft is not None and (draft.base or "") != (saved or "")

    def drop(self, name: str) -> bool:
        """Forget a draft: it was saved, or is not wanted. Whether there was one."""
        return self._drafts.pop(name, None) is not None
