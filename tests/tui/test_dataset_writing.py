"""Captions under the keys: nothing typed is lost or goes astray, and undo spares what others wrote."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from textual import events

from backend.datasets.drafts import Drafts
from backend.datasets.edits import FindReplace
from backend.datasets.errors import DatasetError
from tests.tui.dataset_folders import CAPTIONS, library_app, make_dataset, open_browser, said
from tests.tui.fakes import screen_text, until
from tui.datasets.session import DatasetSession
from tui.widgets.caption_editor import CaptionBox, CaptionEditor
from tui.widgets.picture_list import PictureList


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "animals")


async def test_a_caption_is_edited_saved_and_taken_back(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        editor = screen.query_one(CaptionEditor)
        await pilot.press("down", "enter")
        assert screen.focused is editor
        await pilot.press("home", *"big ", "ctrl+t")
        assert editor.text == "big [trigger]a bear, snow, snow"
        assert "Caption * not saved" in screen_text(app)
        assert (folder / "bear.txt").read_text() == "a bear, snow, snow"
        await pilot.press("ctrl+s")
        await until(lambda: (folder / "bear.txt").read_text() == "big [trigger]a bear, snow, snow")
        await until(lambda: "not saved" not in screen_text(app))
        await pilot.press("escape", "u")
        await until(lambda: (folder / "bear.txt").read_text() == "a bear, snow, snow")
        await until(lambda: editor.text == "a bear, snow, snow")


async def test_what_is_pasted_into_a_caption_is_text_and_no_path(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("enter", "end")
        app.post_message(events.Paste(", in a tree"))
        await until(lambda: screen.query_one(CaptionEditor).text == "[trigger], an ape, tree, in a tree")
        await pilot.press("escape")  # its handling comes after the paste's
        await until(lambda: screen.focused is screen.pictures)
        assert not screen.workers or all(worker.group != "import" for worker in screen.workers)
        assert said(app) == ""


async def test_every_printable_key_is_text_in_the_editor(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("down", "down", "enter")
        text = "1234590otq?vsSbwpucxDPrTajkhlgGVnfF/*+-=["  # all that is a key elsewhere
        await pilot.press(*text)
        assert screen.query_one(CaptionEditor).text == text
        assert app.screen is screen


async def test_going_on_keeps_what_is_not_saved_and_its_undo(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        editor = screen.query_one(CaptionEditor)
        await pilot.press("enter", *"red ", "ctrl+down")
        assert editor.text == CAPTIONS["bear.png"]
        assert "1 not saved" in screen_text(app)
        await pilot.press("f8", "f7", "ctrl+up")
        assert editor.text == "red [trigger], an ape, tree"
        await pilot.press("ctrl+z")
        assert editor.text == CAPTIONS["ape.png"]
        await pilot.press("ctrl+y")
        assert editor.text == "red [trigger], an ape, tree"
        await pilot.press("ctrl+r")
        assert editor.text == CAPTIONS["ape.png"]
        assert not screen.session.desk.names


async def test_drafts_outlive_the_app(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await open_browser(pilot)
        await pilot.press("enter", *"red ")
    app = library_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        await until(lambda: screen.session.desk.names == ("ape.png",))
        assert screen.query_one(CaptionEditor).text == "red [trigger], an ape, tree"


async def test_a_caption_that_others_changed_too_is_not_overwritten_unasked(
    tmp_path: Path, folder: Path
) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("enter", *"mine ")
        (folder / "ape.txt").write_text("[b]theirs", encoding="utf-8")
        await until(lambda: "Caption * changed outside " in screen_text(app))
        box = screen.query_one("#trained")
        assert str(box.visual) == "ctrl+s keeps yours, ctrl+r takes the file's: [b]theirs"
        assert "[b]theirs" in screen_text(app)
        await pilot.press("ctrl+r")
        await until(lambda: screen.query_one(CaptionEditor).text == "[b]theirs")
        await pilot.press(*"mine ")
        (folder / "ape.txt").write_text("theirs again", encoding="utf-8")
        await until(lambda: "theirs again" in screen_text(app))
        assert screen.query_one(CaptionEditor).text.startswith("mine")
        await pilot.press("f6")
        await until(lambda: (folder / "ape.txt").read_text().startswith("mine"))


async def test_a_picture_stays_while_its_caption_is_written_whatever_the_filter_says(
    tmp_path: Path, folder: Path
) -> None:
    (folder / "dog.txt").unlink()
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("slash", *"missing", "space", *"caption", "enter")
        assert screen.shelf.names == ("cat.png", "dog.png")
        await pilot.press("enter", *"a cat")
        screen.show_all()  # as any change from outside does
        await pilot.press(*" on a mat", "ctrl+s")
        await until(lambda: (folder / "cat.txt").is_file() and not screen.session.desk.names)
        await pilot.press("f6")
        await pilot.pause()
        assert (folder / "cat.txt").read_text() == "a cat on a mat"
        assert not (folder / "dog.txt").exists()
        assert screen.query_one(CaptionEditor).picture == "cat.png"
        await pilot.press("escape")
        assert screen.shelf.names == ("dog.png",)


async def test_keys_do_not_go_to_the_neighbour_of_a_picture_that_is_deleted(
    tmp_path: Path, folder: Path
) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("enter", *"red ")
        (folder / "ape.png").unlink()
        await until(lambda: "ape.png" not in screen.session.items)
        await until(lambda: screen.focused is screen.query_one(PictureList))
        await pilot.press("z")
        assert screen.query_one(CaptionEditor).text == CAPTIONS["bear.png"]
    assert [draft.text for draft in Drafts(tmp_path / "home" / "datasets" / "drafts").all(folder)] == [
        "red [trigger], an ape, tree"
    ]


async def test_what_is_typed_outlives_a_change_that_is_shown_before_it_is_told(
    tmp_path: Path, folder: Path
) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("enter")
        editor = screen.query_one(CaptionEditor)
        editor.insert("red ", (0, 0))  # its message is on its way
        screen.show_all()
        assert editor.text == "red [trigger], an ape, tree"
        await pilot.pause()
        assert screen.session.caption("ape.png") == "red [trigger], an ape, tree"


async def test_saving_twice_at_once_and_typing_meanwhile_is_no_conflict(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = library_app(tmp_path, folder)
    hold, held = threading.Event(), threading.Event()
    save = DatasetSession.save_caption

    def slow(self: DatasetSession, *values):  # type: ignore[no-untyped-def]
        held.set()
        hold.wait(30)
        return save(self, *values)

    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        monkeypatch.setattr(DatasetSession, "save_caption", slow)
        await pilot.press("enter", *"red ", "ctrl+s")
        await until(held.is_set)
        await pilot.press(*"hot ", "ctrl+s")
        hold.set()
        await until(lambda: (folder / "ape.txt").read_text() == "red hot [trigger], an ape, tree")
        await until(lambda: not screen.session.desk.names)
        assert "not saved" not in said(app)
        await pilot.press("escape", "u", "u")
        await until(lambda: (folder / "ape.txt").read_text() == CAPTIONS["ape.png"])


async def test_typing_while_it_is_saved_is_not_called_a_change_from_outside(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("enter", *"red ")
        saving = threading.Event()
        save = DatasetSession.save_caption

        def slow(self: DatasetSession, *values):  # type: ignore[no-untyped-def]
            saving.wait(30)
            return save(self, *values)

        monkeypatch.setattr(DatasetSession, "save_caption", slow)
        await pilot.press("ctrl+s", *"hot ")
        saving.set()
        await until(lambda: (folder / "ape.txt").read_text() == "red [trigger], an ape, tree")
        await until(lambda: screen.item is not None and (screen.item.caption or "").startswith("red"))
        await until(lambda: "Caption * not saved" in screen_text(app))
        assert "changed outside" not in screen_text(app)


async def test_undo_spares_what_others_wrote_since(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("enter", *"red ", "ctrl+s")
        await until(lambda: len(screen.session.undos) == 1)
        (folder / "ape.txt").write_text("theirs", encoding="utf-8")
        await until(lambda: screen.item is not None and screen.item.caption == "theirs")
        await pilot.press("escape", "u")
        await until(lambda: "was changed since and stays as it is" in said(app))
        assert (folder / "ape.txt").read_text() == "theirs"


async def test_undo_of_a_saved_caption_gives_back_every_byte(tmp_path: Path, folder: Path) -> None:
    before = b"\xff\xfe" + "a b\u00e4r".encode("utf-16-le")
    (folder / "ape.txt").write_bytes(before)
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        await open_browser(pilot)
        await pilot.press("enter", *"red ", "ctrl+s")
        await until(lambda: (folder / "ape.txt").read_bytes() == "red a b\u00e4r".encode())
        await pilot.press("escape", "u")
        await until(lambda: (folder / "ape.txt").read_bytes() == before)


async def test_undo_twice_at_once_takes_back_two_things(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        for name in ("ape", "bear"):
            await pilot.press("D", "y")
            await until(lambda name=name: not (folder / f"{name}.png").exists())
            await until(lambda name=name: f"{name}.png" not in screen.shelf.names)
        await until(lambda: len(screen.session.undos) == 2)
        screen.action_undo()
        screen.action_undo()  # before the first is done
        await until(lambda: (folder / "ape.png").exists() and (folder / "bear.png").exists())
        await until(lambda: not screen.session.undos)


async def test_a_caption_that_is_too_long_says_so_in_the_narrowest_frame(
    tmp_path: Path, folder: Path
) -> None:
    (folder / "ape.txt").write_text("fox " * 600, encoding="utf-8")
    (folder / "bear.txt").write_text("fox " * 100, encoding="utf-8")
    (folder / "cat.txt").write_text("fox " * 6000, encoding="utf-8")
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await open_browser(pilot)
        box = screen.query_one(CaptionBox)
        await until(lambda: "! T5 ~" in screen_text(app))
        assert ": too long" in screen_text(app)
        await pilot.press("down")
        await until(lambda: str(box.border_subtitle) == "CLIP ~102/77 · T5 ~126/512 · CLIP sees the start")
        await pilot.press("down")  # of the longest only the beginning is counted
        await until(lambda: str(box.border_subtitle).startswith("! T5 over 62"))


def test_an_edit_that_failed_half_way_is_the_next_to_be_taken_back(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backend.datasets import journal
    from tui.datasets.pictures import exclude

    session = DatasetSession(folder, tmp_path / "home")
    session.put_scan([item for batch in session.scan(lambda: False) for item in batch.items], (), ())
    session.undos.append(exclude([session.items["ape.png"]]))
    planned = session.plan(FindReplace("snow", "ice"), session.texts(session.items))
    write = journal.atomic_file

    def full(path: Path, **options: bool):  # type: ignore[no-untyped-def]
        if path.name == "dog.txt":
            raise OSError(28, "No space left on device")
        return write(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "atomic_file", full)
        with pytest.raises(DatasetError, match="undo brings them back"):
            session.apply(planned)
    assert (folder / "bear.txt").read_text() == "a bear, ice, ice"
    undo = session.last_undo()
    assert undo is not None
    undo.back()
    assert (folder / "bear.txt").read_text() == "a bear, snow, snow"


async def test_a_draft_that_could_not_be_kept_is_kept_later(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = library_app(tmp_path, folder)

    def full(*values: object, **options: object) -> None:
        raise DatasetError("the disk is full")

    async with app.run_test(size=(100, 30)) as pilot:
        await open_browser(pilot)
        with monkeypatch.context() as patch:
            patch.setattr(Drafts, "save", full)
            await pilot.press("enter", *"red ")
            await until(lambda: "the disk is full" in said(app))
    (draft,) = Drafts(tmp_path / "home" / "datasets" / "drafts").all(folder)
    assert draft.text == "red [trigger], an ape, tree"


async def test_a_draft_that_is_written_while_its_caption_is_saved_does_not_outlive_it(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = DatasetSession.save_caption

    def slow(self: DatasetSession, item, text):  # type: ignore[no-untyped-def]
        undo = save(self, item, text)
        self.keep_draft(item.caption_path, self.desk.get(item.name))  # as the timer's thread may
        return undo

    monkeypatch.setattr(DatasetSession, "save_caption", slow)
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("enter", *"red ", "ctrl+s")
        await until(lambda: not screen.session.desk.names)
    assert Drafts(tmp_path / "home" / "datasets" / "drafts").all(folder) == []


def test_what_is_taken_back_of_an_earlier_session_is_said(tmp_path: Path, folder: Path) -> None:
    def opened() -> DatasetSession:
        session = DatasetSession(folder, tmp_path / "home")
        session.put_scan([item for batch in session.scan(lambda: False) for item in batch.items], (), ())
        return session

    first = opened()
    first.apply(first.plan(FindReplace("snow", "ice"), first.texts(first.items)))
    undo = opened().last_undo()
    assert undo is not None
    assert undo.back() == "Taken back: replace 'snow' by 'ice'. 2 captions as before."
