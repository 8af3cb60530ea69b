"""What edits make of captions, and that no crash leaves half of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.datasets.edits import (
    AddPrefix,
    AddSuffix,
    AddTag,
    CreateMissing,
    DedupeTags,
    Edit,
    EditError,
    FindReplace,
    PutTrigger,
    RemovePrefix,
    RemoveSuffix,
    RemoveTag,
    RenameTag,
    SortTags,
    TakeTrigger,
    Trim,
    plan,
)
from backend.datasets.journal import Journal, JournalError
from backend.datasets.substitute import PatternError
from backend.datasets.trash import Trash, TrashError
from tests.backend.datasets.conftest import captioned, draw


@pytest.mark.parametrize(
    ("edit", "before", "after"),
    [
        (FindReplace("cat", "dog"), "a cat, Cat", "a dog, Cat"),
        (FindReplace("cat", r"\1", ignore_case=True), "a cat, Cat", r"a \1, \1"),
        (FindReplace("(c)(at)", r"\2\1", regex=True), "a cat", "a atc"),
        (FindReplace("C(?P<x>.)", r"\g<x>", regex=True, ignore_case=True), "a cat", "a at"),
        (AddPrefix("photo of "), "a cat\n", "photo of a cat\n"),
        (AddPrefix("photo of "), "photo of a cat", "photo of a cat"),
        (RemovePrefix("photo of "), "photo of a cat", "a cat"),
        (AddSuffix(", film"), "a cat\n", "a cat, film\n"),
        (AddSuffix(", film"), "a cat, film\n", "a cat, film\n"),
        (RemoveSuffix(", film"), "a cat, film\n", "a cat\n"),
        (AddTag("new"), "a, b\n", "a, b, new\n"),
        (AddTag("new", first=True), "a, b\n", "new, a, b\n"),
        (AddTag("b"), "a,b", "a,b"),
        (AddTag("b"), "", "b"),
        (RemoveTag("b"), "a,b, c\n", "a, c\n"),
        (RemoveTag("b"), "a bad, c", "a bad, c"),
        (RenameTag("b", "c"), "a, b, c", "a, c"),
        (RenameTag("red fox", "fox"), "a, red\n fox", "a, fox"),
        (RemoveTag("red fox"), "a, red\n fox, b", "a, b"),
        (AddTag("red fox"), "a, red  fox", "a, red  fox"),
        (PutTrigger("zork"), "a cat", "zork a cat"),
        (PutTrigger("zork"), "a zork, [trigger]", "a zork, [trigger]"),
        (PutTrigger("", placeholder=True), "a cat", "[trigger] a cat"),
        (TakeTrigger("zork"), "zork, a cat", "a cat"),
        (TakeTrigger("zork"), "photo of zork, a cat", "photo of, a cat"),
        (TakeTrigger("zork"), "a [trigger] cat, zork", "a cat"),
        (TakeTrigger("zork"), "zorkish cat", "zorkish cat"),
        (Trim(), "  a   cat \n b\t\n\n", "a cat\nb"),
        (DedupeTags(), "a, b,a , c\n", "a, b, c\n"),
        (SortTags(), "c, a, B", "a, B, c"),
        (SortTags(keep=1), "c, b, a", "c, a, b"),
    ],
)
def test_what_an_edit_makes_of_a_caption(edit: Edit, before: str, after: str) -> None:
    found = plan(edit, {Path("a.txt"): before, Path("missing.txt"): None})
    assert [change.after for change in found.changes] == ([after] if after != before else [])
    assert edit.title


def test_missing_captions_are_created_and_others_left() -> None:
    found = plan(CreateMissing("zork"), {Path("a.txt"): "x", Path("b.txt"): None})
    assert [(change.path.name, change.before, change.after) for change in found.changes] == [
        ("b.txt", None, "zork")
    ]
    assert found.unchanged == 1


@given(st.text(alphabet="ab, \n[]tzork", max_size=40))
@settings(max_examples=200, deadline=None)
def test_edits_of_form_change_nothing_the_second_time(text: str) -> None:
    for edit in (
        AddPrefix("p "),
        AddTag("x"),
        RemoveTag("a"),
        PutTrigger("zork"),
        Trim(),
        DedupeTags(),
        SortTags(),
    ):
        once = edit.change(text)
        assert edit.change(once) == once


@pytest.mark.parametrize(
    "edit",
    [
        FindReplace("", "x"),
        AddPrefix(""),
        AddTag(" "),
        AddTag("a,b"),
        RenameTag("a", "b\nc"),
        PutTrigger(" "),
    ],
)
def test_edits_without_sense_are_refused(edit: Edit) -> None:
    with pytest.raises(EditError):
        plan(edit, {})


@pytest.mark.parametrize(
    ("find", "replace"), [("(", ""), ("a", r"\1"), ("(a)", r"\g<no>"), ("a{99999999999}", "")]
)
def test_patterns_that_are_wrong_are_said(find: str, replace: str) -> None:
    with pytest.raises(PatternError, match="pattern"):
        plan(FindReplace(find, replace, regex=True), {Path("a.txt"): "a"})


def test_a_pattern_without_end_is_stopped() -> None:
    edit = FindReplace("(a+)+$", "", regex=True, seconds=1.0)
    with pytest.raises(PatternError, match="takes longer"):
        plan(edit, {Path("a.txt"): "a" * 60 + "!"})


# -- the journal -----------------------------------------------------------------------------------


@pytest.fixture
def captions(folder: Path) -> dict[Path, str | None]:
    found: dict[Path, str | None] = {}
    for n in range(6):
        path = folder / f"{n}.txt"
        path.write_bytes(f"a cat {n}\n".encode())
        found[path] = f"a cat {n}\n"
    found[folder / "new.txt"] = None
    return found


def contents(captions: dict[Path, str | None]) -> list[bytes | None]:
    return [path.read_bytes() if path.exists() else None for path in captions]


def test_undo_gives_back_every_byte(captions: dict[Path, str | None], folder: Path) -> None:
    (folder / "0.txt").write_bytes(b"\xef\xbb\xbfa cat 0\n")
    before = contents(captions)
    journal = Journal()
    applied = journal.apply(plan(FindReplace("cat", "dög"), captions))
    assert len(applied.changed) == 6
    assert (folder / "1.txt").read_text(encoding="utf-8") == "a dög 1\n"
    created = journal.apply(plan(CreateMissing("x"), captions))
    assert (folder / "new.txt").read_text(encoding="utf-8") == "x"
    last = journal.last(folder)
    assert last is not None
    assert (last.id, last.finished) == (created.id, True)
    journal.undo(created.id)
    last = journal.last(folder)
    assert last is not None
    assert last.id == applied.id
    journal.undo(applied.id)
    assert contents(captions) == before
    assert journal.last(folder) is None


def test_what_somebody_changed_meanwhile_is_left_alone(
    captions: dict[Path, str | None], folder: Path
) -> None:
    found = plan(FindReplace("cat", "dog"), captions)
    (folder / "2.txt").write_text("mine", encoding="utf-8")
    journal = Journal()
    applied = journal.apply(found)
    assert applied.conflicts == (folder / "2.txt",)
    (folder / "3.txt").write_text("mine too", encoding="utf-8")
    undone = journal.undo(applied.id)
    assert undone.conflicts == (folder / "3.txt",)
    assert (folder / "2.txt").read_text(encoding="utf-8") == "mine"
    assert (folder / "3.txt").read_text(encoding="utf-8") == "mine too"
    assert (folder / "4.txt").read_text(encoding="utf-8") == "a cat 4\n"


def test_without_a_place_for_undo_nothing_is_changed(
    captions: dict[Path, str | None], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(JournalError, match="nothing was changed"):
        Journal(tmp_path / "file").apply(plan(FindReplace("cat", "dog"), captions))
    assert contents(captions)[0] == b"a cat 0\n"


_KILLED = """
import os, signal, sys
from pathlib import Path
from backend.datasets.edits import FindReplace, plan
from backend.datasets.journal import Journal
folder, at = Path(sys.argv[1]), int(sys.argv[2])
captions = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))}
def progress(done, total):
    if done == at:
        os.kill(os.getpid(), signal.SIGKILL)
Journal().apply(plan(FindReplace("cat", "dog"), captions), progress)
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("at", [1, 4])
@pytest.mark.parametrize("way", ["undo", "finish"])
def test_a_kill_between_two_files_leaves_each_caption_old_or_new(
    captions: dict[Path, str | None], folder: Path, at: int, way: str
) -> None:
    before = contents(captions)
    after = [text and text.replace(b"cat", b"dog") for text in before]
    result = subprocess.run([sys.executable, "-P", "-c", _KILLED, str(folder), str(at)], check=False)
    assert result.returncode == -signal.SIGKILL
    now = contents(captions)
    assert now[:at] == after[:at]
    assert now[at:] == before[at:]
    journal = Journal()
    (entry,) = journal.unfinished(folder)
    assert not entry.finished
    journal.undo(entry.id) if way == "undo" else journal.finish(entry.id)
    assert contents(captions) == (before if way == "undo" else after)
    assert journal.unfinished(folder) == []
    assert sorted(path.name for path in folder.iterdir()) == [f"{n}.txt" for n in range(6)]


# -- the trash -------------------------------------------------------------------------------------


def test_the_trash_gives_back_pictures_with_their_captions(folder: Path) -> None:
    path = captioned(folder / "a [b].png", "text")
    draw(folder / "b.png")
    trash = Trash()
    ticket = trash.delete([path, folder / "gone.png"])
    assert [file.name for file in folder.iterdir()] == ["b.png"]
    last = trash.last()
    assert last is not None
    assert last.id == ticket.id
    assert set(trash.undo(ticket.id)) == {path, path.with_suffix(".txt")}
    assert path.with_suffix(".txt").read_text(encoding="utf-8") == "text"
    assert trash.last() is None


def test_a_caption_that_another_picture_needs_stays(folder: Path) -> None:
    path = captioned(folder / "a.png", "text")
    draw(folder / "a.jpg")
    Trash().delete([path])
    assert sorted(file.name for file in folder.iterdir()) == ["a.jpg", "a.txt"]


def test_a_place_that_is_taken_is_not_overwritten(folder: Path) -> None:
    path = draw(folder / "a.png", seed=1)
    trash = Trash()
    ticket = trash.delete([path])
    draw(path, seed=2)
    now = path.read_bytes()
    with pytest.raises(TrashError, match="exists again"):
        trash.undo(ticket.id)
    assert path.read_bytes() == now
    path.unlink()
    assert trash.undo(ticket.id) == [path]


def test_another_file_system_is_no_obstacle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = draw(folder / "a.png")
    content = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("backend.datasets.trash.os.rename", refuse)
    ticket = Trash().delete([path])
    assert not path.exists()
    Trash().undo(ticket.id)
    assert path.read_bytes() == content
