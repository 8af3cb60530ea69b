"""A job's captions as drafts, and drafts as captions. A caption is never replaced without consent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backend.captioning.request import CaptionRequest
from backend.datasets.captions import read
from backend.datasets.drafts import Drafts
from backend.datasets.edits import Change, Plan

if TYPE_CHECKING:
    from backend.datasets.journal import Applied, Journal
    from backend.datasets.scan import Item


def wanted(request: CaptionRequest, items: Iterable[Item], drafts: Drafts) -> list[Item]:
    """The pictures that a request is for.

    Left out: excluded ones, those that have a caption unless ``everything`` is asked for, those whose
    caption cannot be read, and those for which a person has typed something that is not saved yet.
    """
    only = None if request.names is None else set(request.names)
    return [
        item
        for item in items
        if not item.excluded
        and (only is None or item.name in only)
        and _may(request, item.caption, item.caption_problem or "")
        and not _typed(drafts, item.caption_path)
    ]


def deliver(request: CaptionRequest, caption_path: Path, text: str, drafts: Drafts, source: str) -> str:
    """Keep a caption as a draft; says why not if it was not kept, else nothing.

    The file is looked at again: a person may have written a caption while the model was thinking.

    Raises:
        DatasetError: The draft cannot be kept.
    """
    if _typed(drafts, caption_path):
        return "somebody began to type its caption meanwhile"
    now = read(caption_path)
    if not _may(request, now.text, now.problem or ""):
        return f"its caption {now.problem}" if now.problem else "it got a caption meanwhile"
    drafts.save(caption_path, text, base=now.text, source=source)
    return ""


def accept(drafts: Drafts, journal: Journal, paths: Sequence[Path]) -> Applied | None:
    """Write a model's drafts for these caption files, as one edit that can be taken back; None without any.

    Files that changed since the draft was made keep what they say, and the draft stays.

    Raises:
        DatasetError: A caption cannot be written; what was done can be taken back.
    """
    found = [draft for path in paths if (draft := drafts.load(path)) is not None and draft.source]
    changes = tuple(Change(draft.path, draft.base, draft.text) for draft in found)
    if not changes:
        return None
    applied = journal.apply(Plan("captions by a model", changes, 0))
    conflicts = set(applied.conflicts)
    for draft in found:
        if draft.path not in conflicts:
            drafts.discard(draft.path)
    return applied


def _may(request: CaptionRequest, caption: str | None, problem: str) -> bool:
    return not problem and (request.everything or not (caption or "").strip())


def _typed(drafts: Drafts, path: Path) -> bool:
    draft = drafts.load(path)
    return draft is not None and not draft.source
