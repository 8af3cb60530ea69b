"""What the browser does with files, without a screen: what fails in the middle can be taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.datasets import journal as journal_module
from backend.datasets import trash as trash_module
from backend.datasets.edits import AddPrefix
from backend.datasets.errors import DatasetError
from backend.datasets.prepare import PrepareOptions
from backend.datasets.scan import scan_all
from tests.backend.datasets.conftest import full
from tests.tui.dataset_folders import make_dataset
from tui.datasets import pictures
from tui.datasets.pictures import Undo
from tui.datasets.session import DatasetSession

CAPTIONS: dict[str, str | None] = {"a.png": "a", "b.png": "b", "c.png": "c"}


@pytest.fixture
def session(tmp_path: Path) -> DatasetSession:
    folder = tmp_path / "data"
    folder.mkdir()
    made = DatasetSession(make_dataset(folder, CAPTIONS), tmp_path / "home")
    made.put_scan(scan_all(folder).items, (), ())
    return made


def texts(session: DatasetSession) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(session.folder.glob("*.txt"))]


def test_u_takes_back_the_bulk_edit_that_failed_and_not_the_one_before_it(
    session: DatasetSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.undos.append(Undo("something earlier", lambda: "no"))
    planned = session.plan(AddPrefix("zork "), session.texts(session.items))
    with monkeypatch.context() as patched:
        full(patched, journal_module, "atomic_file", 1)
        with pytest.raises(DatasetError, match="1 of 3 are done"):
            session.apply(planned)
    assert texts(session) == ["zork a", "b", "c"]
    undo = session.last_undo()
    assert undo is not None
    assert undo.back() == "Taken back: begin with 'zork '. 1 caption as before."
    assert texts(session) == ["a", "b", "c"]


def test_u_brings_back_what_was_deleted_before_it_failed(
    session: DatasetSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        full(patched, trash_module, "_move", 2)
        undo, problem = pictures.delete(list(session.items.values()), session.trash, ".txt")
    assert undo.what == "2 pictures deleted"
    assert "c.png cannot be deleted" in problem
    assert undo.back() == "2 files back from the trash."
    assert {path.name for path in session.folder.glob("*.png")} == set(CAPTIONS)


def test_pictures_that_are_gone_are_not_said_to_be_deleted(session: DatasetSession) -> None:
    items = list(session.items.values())
    for name in ("a.png", "a.txt"):
        (session.folder / name).unlink()
    with pytest.raises(DatasetError, match=r"a\.png is not there any more"):
        pictures.delete(items[:1], session.trash, ".txt")
    undo, problem = pictures.delete(items, session.trash, ".txt")
    assert (undo.what, problem) == ("2 pictures deleted", "")
    assert session.trash.last() is not None
    undo.back()
    assert session.trash.last() is None


def test_what_was_deleted_comes_back_in_a_later_session_and_what_was_prepared_does_not(
    session: DatasetSession, tmp_path: Path
) -> None:
    planned = session.plan(AddPrefix("zork "), session.texts(session.items))
    session.apply(planned)
    pictures.prepare([session.items["c.png"]], PrepareOptions(None), session.trash)
    pictures.delete([session.items["a.png"]], session.trash, ".txt")
    later = DatasetSession(session.folder, tmp_path / "home")
    assert DatasetSession(tmp_path, tmp_path / "home").last_undo() is not None
    assert DatasetSession(tmp_path / "other", tmp_path / "home").last_undo() is None
    undo = later.last_undo()
    assert undo is not None
    assert undo.back() == "2 files back from the trash."
    assert texts(session) == ["zork a", "zork b", "zork c"]
    undo = later.last_undo()
    assert undo is not None
    assert undo.back() == "Taken back: begin with 'zork '. 3 captions as before."
    assert texts(session) == ["a", "b", "c"]
    assert later.last_undo() is None
