"""Changes that fail in the middle, and many mends at once: all that was done can be taken back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from backend.datasets import journal as journal_module
from backend.datasets import trash as trash_module
from backend.datasets.edits import AddPrefix, plan
from backend.datasets.journal import Journal, JournalError
from backend.datasets.lint import LintOptions, lint
from backend.datasets.mend import mend
from backend.datasets.problems import Problem
from backend.datasets.scan import Item, scan_all
from backend.datasets.trash import Trash, TrashError
from tests.backend.datasets.conftest import captioned, draw, full

OPTIONS = LintOptions(resolutions=(32,), trigger="zork")
MANY = 60  # more than the journal keeps edits


@pytest.fixture
def items(folder: Path) -> tuple[Item, ...]:
    for name in "abc":
        captioned(folder / f"{name}.png", name, seed=ord(name))
    return scan_all(folder).items


def found(folder: Path, rule: str) -> list[Problem]:
    batch = scan_all(folder)
    problems = lint(folder, batch.items, OPTIONS, orphans=batch.orphans)
    return [problem for problem in problems if problem.rule == rule]


@pytest.mark.parametrize("rule", ["trigger-missing", "caption-missing"])
def test_however_many_captions_are_mended_all_are_taken_back(folder: Path, rule: str) -> None:
    source = draw(folder / "000.png")
    for n in range(MANY):
        path = folder / f"{n:03}.png"
        path.write_bytes(source.read_bytes())
        if rule == "trigger-missing":
            path.with_suffix(".txt").write_text(f"thing {n}", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    problems = found(folder, rule)
    assert len(problems) == MANY
    results = mend(problems, folder, scan_all(folder).items, OPTIONS)
    assert [result.failure for result in results] == [None] * MANY
    assert found(folder, rule) == []
    for result in reversed(results):
        assert result.back is not None
        result.back()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_caption_that_came_meanwhile_is_not_said_to_be_made(folder: Path) -> None:
    draw(folder / "a.png")
    draw(folder / "b.png", seed=1)
    problems, items = found(folder, "caption-missing"), scan_all(folder).items
    (folder / "a.txt").write_text("somebody's", encoding="utf-8")
    (folder / "b.png").unlink()
    results = {it.problem.file: it for it in mend(problems, folder, items[:1], OPTIONS)}
    assert results["a.png"].failure == "has a caption that changed meanwhile"
    assert results["b.png"].failure == "is not in the dataset any more"
    assert results["a.png"].back is None
    assert (folder / "a.txt").read_text(encoding="utf-8") == "somebody's"


def test_an_edit_that_fails_in_the_middle_is_taken_back_by_its_id(
    folder: Path, items: tuple[Item, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(AddPrefix("zork "), {item.caption_path: item.caption for item in items})
    with monkeypatch.context() as patched:
        full(patched, journal_module, "atomic_file", 1)
        with pytest.raises(JournalError, match="1 of 3 are done, and undo") as raised:
            Journal().apply(planned)
    assert (folder / "a.txt").read_text(encoding="utf-8") == "zork a"
    Journal().undo(raised.value.edit)
    assert [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))] == ["a", "b", "c"]


def test_an_edit_that_changes_nothing_is_not_cut_short(
    folder: Path, items: tuple[Item, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(AddPrefix("zork "), {item.caption_path: item.caption for item in items})
    full(monkeypatch, journal_module, "atomic_file", 0)
    with pytest.raises(JournalError, match="no space left on device; nothing was changed") as raised:
        Journal().apply(planned)
    assert raised.value.edit == ""
    assert Journal().unfinished() == []
    assert Journal().last() is None


def test_what_was_mended_before_the_disk_was_full_is_taken_back(
    folder: Path, items: tuple[Item, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        full(patched, journal_module, "atomic_file", 2)
        results = mend(found(folder, "trigger-missing"), folder, items, OPTIONS)
    assert all("2 of 3 are done" in (result.failure or "") for result in results)
    for result in results:
        assert result.back is not None
        result.back()
    assert [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))] == ["a", "b", "c"]


def test_what_was_deleted_before_one_could_not_be_comes_back(
    folder: Path, items: tuple[Item, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patched:
        full(patched, trash_module, "_move", 2)
        with pytest.raises(TrashError, match=r"c\.png cannot be deleted: no space") as raised:
            Trash().delete([item.path for item in items])
    done = raised.value.done
    assert done is not None
    assert set(done.paths) == {folder / "a.png", folder / "b.png"}
    Trash().undo(done.id)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    full(monkeypatch, trash_module, "_move", 0)
    with pytest.raises(TrashError) as raised:
        Trash().delete([items[0].path])
    assert raised.value.done is None


def test_what_a_read_only_folder_does_not_let_go_is_not_in_the_trash(
    folder: Path, items: tuple[Item, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.unlink

    def refuses(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    def keeps(path: str | Path, **options: int) -> None:
        refuses(Path(path)) if str(path).startswith(str(folder)) else real(path, **options)

    trash = Trash()
    with monkeypatch.context() as patched:  # as such a folder does, to root as well
        patched.setattr("backend.datasets.trash.os.rename", refuses)
        patched.setattr("backend.datasets.trash.os.unlink", keeps)
        with pytest.raises(TrashError, match="cannot be deleted: permission denied"):
            trash.delete([items[0].path])
    assert items[0].path.exists()
    assert trash.last() is None


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("other_disk", [False, True])
def test_links_come_back_as_links(
    folder: Path, items: tuple[Item, ...], monkeypatch: pytest.MonkeyPatch, other_disk: bool
) -> None:
    links = [folder / "link.png", folder / "broken.png"]
    links[0].symlink_to("a.png")  # which leads nowhere from within the trash
    links[1].symlink_to("nowhere.png")

    def refuses(path: Path, *_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link", str(path))

    if other_disk:
        monkeypatch.setattr("backend.datasets.trash.os.rename", refuses)
    ticket = Trash().delete(links)
    assert not any(os.path.lexists(link) for link in links)
    assert Trash().holds(ticket.id)
    assert Trash().undo(ticket.id) == links
    assert [os.readlink(link) for link in links] == ["a.png", "nowhere.png"]
