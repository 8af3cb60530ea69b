"""Names that are no Unicode, as files from old disks and archives have them: everything works on them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from backend.captioning.delivery import accept, deliver
from backend.captioning.request import CaptionRequest
from backend.datasets.drafts import Drafts
from backend.datasets.edits import AddPrefix, plan
from backend.datasets.journal import Journal
from backend.datasets.scan import scan_all
from backend.datasets.sidecar import SIDECAR, Box, Marks, marks_of, set_marks
from backend.datasets.trash import Trash
from tests.backend.datasets.conftest import captioned

pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")


@pytest.fixture
def odd(folder: Path) -> Path:
    return captioned(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")), "a cat")


def test_a_bulk_edit_and_its_undo(folder: Path, odd: Path) -> None:
    other = captioned(folder / "b.png", "a dog")
    texts = {item.caption_path: item.caption for item in scan_all(folder).items}
    applied = Journal().apply(plan(AddPrefix("zork "), texts))
    assert set(applied.changed) == {odd.with_suffix(".txt"), other.with_suffix(".txt")}
    last = Journal().last(folder)
    assert last is not None
    Journal().undo(last.id)
    assert odd.with_suffix(".txt").read_text(encoding="utf-8") == "a cat"


def test_the_trash(odd: Path) -> None:
    ticket = Trash().delete([odd])
    assert not odd.exists()
    assert set(Trash().undo(ticket.id)) == {odd, odd.with_suffix(".txt")}


def test_marks(folder: Path, odd: Path) -> None:
    set_marks(odd, Marks(excluded=True, crop=Box(0, 0, 8, 8)))
    assert marks_of(odd) == Marks(excluded=True, crop=Box(0, 0, 8, 8))
    (item,) = scan_all(folder).items
    assert (item.excluded, item.size) == (True, (8, 8))


def test_names_that_are_unicode_stay_readable(folder: Path) -> None:
    set_marks(captioned(folder / "🦊é.png", "a fox"), Marks(excluded=True))
    assert "🦊é.png" in (folder / SIDECAR).read_text(encoding="utf-8")


def test_drafts_of_a_person_and_of_a_model(folder: Path, odd: Path) -> None:
    caption, drafts = odd.with_suffix(".txt"), Drafts()
    drafts.save(caption, "typed")
    assert [(draft.path, draft.text) for draft in Drafts().all(folder)] == [(caption, "typed")]
    drafts.discard(caption)
    assert deliver(CaptionRequest(folder, "m", everything=True), caption, "a model's", drafts, "m") == ""
    applied = accept(drafts, Journal(), [caption])
    assert applied is not None
    assert caption.read_text(encoding="utf-8") == "a model's"
