"""The dialogs over a dataset: their keys, every bulk edit, and windows that hardly hold them."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input, OptionList

from tests.tui.dataset_folders import (
    CAPTIONS,
    browser,
    library_app,
    make_dataset,
    open_browser,
    open_library,
    said,
)
from tests.tui.fakes import screen_text, until, write_picture
from tui.screens.ask_text import TextScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.dataset_browser import DatasetBrowserScreen
from tui.screens.dataset_bulk import BulkScreen
from tui.screens.dataset_crop import CropScreen
from tui.screens.dataset_options import TrainingScreen
from tui.screens.dataset_prepare import PrepareScreen
from tui.screens.datasets import DatasetsScreen
from tui.text import plural
from tui.widgets.picture_list import PictureList


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "animals")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_a_bulk_edit_shows_its_preview_in_the_lowest_window(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(40, 12)) as pilot:
        await open_browser(pilot)
        await pilot.press("b")
        assert "Find" in screen_text(app)
        await pilot.press("enter", *"snow", "tab", *"ice")
        await until(lambda: "2 captions would change" in screen_text(app))
        assert "snow" in screen_text(app)
        assert "- a bear, snow, snow" in screen_text(app)
        await pilot.resize_terminal(100, 30)
        await pilot.pause()
        assert "Replace by" in screen_text(app)
        assert "ctrl+s or enter applies" in screen_text(app)
        await pilot.resize_terminal(40, 12)
        await pilot.press("ctrl+s")
        await until(lambda: (folder / "dog.txt").read_text() == "sks, a dog, ice")


async def test_what_it_is_checked_for_fits_the_lowest_window(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(40, 12)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("T", "tab", *"zork")
        assert "zork" in screen_text(app)
        await pilot.press("up", *"5 x", "enter")
        assert "is no resolution" in screen_text(app)
        app.screen.query_one("#resolutions", Input).value = "256"
        await pilot.press("down", "shift+tab", "enter")
        await until(lambda: screen.session.training.resolutions == (256,))
        assert screen.session.training.trigger == "zork"


async def test_preparing_fits_the_lowest_window(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(40, 12)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("P")
        await until(lambda: isinstance(app.screen, PrepareScreen))
        for words in ("PNG", "JPEG", "Make the crops", "Change this dataset", "Else into this folder"):
            assert words in screen_text(app)
        app.screen.query_one("#target", Input).value = str(folder / "x")
        await pilot.press("ctrl+s")
        await until(lambda: "That is inside this dataset" in screen_text(app))
        app.screen.query_one("#target", Input).value = str(tmp_path / "out")
        await pilot.press("enter")
        await until(lambda: (tmp_path / "out" / "ape.png").is_file())
        assert app.screen is screen


async def test_the_keys_of_a_long_preview(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "many", {f"{n:02}.png": "snow" for n in range(20)})
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_browser(pilot)
        await pilot.press("b", "enter", *"snow", "tab", *"ice")
        await until(lambda: "+ ice" in screen_text(app))
        preview = app.screen.query_one("#preview")
        assert "00.txt" in screen_text(app)
        await pilot.press("pagedown")
        await until(lambda: preview.scroll_y > 0 and "00.txt" not in screen_text(app))
        await pilot.press("pageup")
        await until(lambda: preview.scroll_y == 0)
        assert app.screen.query_one("#field-1", Input).value == "ice"


@pytest.mark.parametrize(
    ("key", "dialog"),
    [("b", BulkScreen), ("T", TrainingScreen), ("P", PrepareScreen), ("c", CropScreen), ("D", ConfirmScreen)],
)
async def test_every_dialog_is_left_with_ctrl_c_and_changes_nothing(
    tmp_path: Path, folder: Path, key: str, dialog: type
) -> None:
    app = library_app(tmp_path, folder)
    before = contents(folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_browser(pilot)
        await pilot.press(key)
        await until(lambda: isinstance(app.screen, dialog))
        if dialog is BulkScreen:
            await pilot.press("enter", "x")  # a line has the keys
        await pilot.press("ctrl+c")
        await until(lambda: isinstance(app.screen, DatasetBrowserScreen))
        assert not browser(pilot).session.undos
    assert contents(folder) == before


@pytest.mark.parametrize(("key", "dialog"), [("n", TextScreen), ("i", TextScreen), ("D", ConfirmScreen)])
@pytest.mark.parametrize("leave", ["escape", "ctrl+c"])
async def test_the_dialogs_of_the_library_are_left(
    tmp_path: Path, folder: Path, key: str, dialog: type, leave: str
) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await open_library(pilot)
        await until(lambda: screen._entries)
        await pilot.pause()
        await pilot.press(key)
        await until(lambda: isinstance(app.screen, dialog))
        await pilot.press(leave)
        await until(lambda: isinstance(app.screen, DatasetsScreen))
        assert "animals" in screen_text(app)


EVERY_EDIT = [
    ("Find and replace", ("snow", "ice"), {"bear": "a bear, ice, ice", "dog": "sks, a dog, ice"}),
    ("Add a prefix", ("a",), {"ape": "a[trigger], an ape, tree", "dog": "asks, a dog, snow",
                              "emu": "a  an emu "}),
    ("Remove a prefix", ("a ",), {"bear": "bear, snow, snow"}),
    ("Add a suffix", (", tree",), {"bear": "a bear, snow, snow, tree", "dog": "sks, a dog, snow, tree",
                                   "emu": "  an emu , tree"}),
    ("Remove a suffix", ("tree",), {"ape": "[trigger], an ape, "}),
    ("Add a tag", ("snow",), {"ape": "[trigger], an ape, tree, snow", "emu": "  an emu, snow"}),
    ("Remove a tag", ("snow",), {"bear": "a bear", "dog": "sks, a dog"}),
    ("Rename a tag", ("snow", "ice"), {"bear": "a bear, ice", "dog": "sks, a dog, ice"}),
    ("Put the trigger in", ("sks",), {"bear": "sks a bear, snow, snow", "emu": "sks   an emu "}),
    ("Take the trigger out", ("sks",), {"ape": "an ape, tree", "dog": "a dog, snow"}),
    ("Create missing captions", ("a cat",), {"cat": "a cat"}),
    ("Trim white space", (), {"emu": "an emu"}),
    ("Remove repeated tags", (), {"bear": "a bear, snow"}),
    ("Sort tags", (), {"dog": "a dog, sks, snow", "ape": "[trigger], an ape, tree"}),
]  # fmt: skip


async def test_every_bulk_edit_is_previewed_applied_and_taken_back(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    before = contents(folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        await pilot.press("b")
        kinds = app.screen.query_one("#kinds", OptionList)
        titles = [str(kinds.get_option_at_index(at).prompt) for at in range(kinds.option_count)]
        assert titles == [title for title, *_ in EVERY_EDIT]
        await pilot.press("escape")
        for at, (_, values, texts) in enumerate(EVERY_EDIT):
            changed = {
                name: text for name, text in texts.items() if before.get(f"{name}.txt") != text.encode()
            }
            await pilot.press("b", *["down"] * at)
            dialog = app.screen
            assert isinstance(dialog, BulkScreen)
            await pilot.pause()
            for number, value in enumerate(values):
                dialog.query_one(f"#field-{number}", Input).value = value
            await until(
                lambda dialog=dialog, changed=changed: (
                    dialog.planned is not None
                    and {it.path.stem: it.after for it in dialog.planned.changes} == changed
                )
            )
            await until(
                lambda changed=changed: f"{plural(len(changed), 'caption')} would" in screen_text(app)
            )
            await pilot.press("ctrl+s")
            await until(lambda: len(screen.session.undos) == 1)
            now = contents(folder)
            assert {name: now[f"{name}.txt"].decode() for name in changed} == changed
            await pilot.press("u")
            await until(lambda: not screen.session.undos)
            assert contents(folder) == before
            await until(lambda: screen.feed is not None and screen.feed.calm)


async def test_pictures_dropped_on_the_terminal_are_copied_after_a_question(
    tmp_path: Path, folder: Path
) -> None:
    more = make_dataset(tmp_path / "my [b]more", {"yak.png": "a yak", "ape.png": "another"})
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        pictures = screen.query_one(PictureList)
        for dropped, words in (("  ", "No path"), ("/no/where.png", "/no/where.png: no such")):
            pictures.post_message(events.Paste(dropped))
            await until(lambda words=words: words in said(app))
        pictures.post_message(events.Paste(f"'{more}'"))
        await until(lambda: isinstance(app.screen, ConfirmScreen) and "Copy my [b]more" in screen_text(app))
        await pilot.press("n")
        assert app.screen is screen
        pictures.post_message(events.Paste(f"'{more / 'ape.png'}' '{more / 'yak.png'}'"))
        await until(lambda: isinstance(app.screen, ConfirmScreen) and "Copy 2 files" in screen_text(app))
        await pilot.press("y")
        await until(lambda: "2 pictures copied; u takes it back" in said(app))
        assert (folder / "ape-2.txt").read_text() == "another"
        assert (folder / "ape.txt").read_text() == CAPTIONS["ape.png"]
        await until(lambda: "yak.png" in screen.shelf.names)
        await pilot.press("u")
        await until(lambda: not (folder / "yak.png").exists() and not (folder / "ape-2.txt").exists())
        assert (more / "yak.png").is_file()
        pictures.post_message(events.Paste(str(folder / "ape.txt")))
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(lambda: "no picture among these" in said(app))


async def test_a_bulk_edit_is_previewed_applied_and_taken_back(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        await open_browser(pilot)
        await pilot.press("b")
        await until(lambda: isinstance(app.screen, BulkScreen))
        screen = app.screen
        await pilot.press("enter", *"a (", "enter", *"the ")
        await until(lambda: "0 captions would change" in screen_text(app))
        await pilot.press("tab", "space")
        assert screen.query_one("#box-0").value
        await until(lambda: screen.planned is None and "pattern" in screen_text(app).lower())
        screen.query_one("#field-0", Input).value = r"\ba (?=\w)"
        await until(lambda: "2 captions would change" in screen_text(app))
        await until(lambda: "+ the bear, snow, snow" in screen_text(app))
        await pilot.press("pagedown", "pageup", "shift+tab", "ctrl+s")
        await until(lambda: (folder / "bear.txt").read_text() == "the bear, snow, snow")
        await until(lambda: "2 captions changed" in said(app))
        await pilot.press("u")
        await until(lambda: (folder / "bear.txt").read_text() == "a bear, snow, snow")
        await pilot.press("b")
        await until(lambda: isinstance(app.screen, BulkScreen))
        await pilot.press("escape")
        assert isinstance(app.screen, DatasetBrowserScreen)


async def test_a_bulk_edit_works_on_the_chosen_only(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        await open_browser(pilot)
        await pilot.press("end", "space", "b", "G")
        await until(lambda: isinstance(app.screen, BulkScreen))
        kinds = app.screen.query_one("#kinds")
        kinds.highlighted = 11  # trim
        await until(lambda: "1 caption would change" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: (folder / "emu.txt").read_text() == "an emu")
        assert (folder / "bear.txt").read_text() == CAPTIONS["bear.png"]


async def test_resolutions_and_trigger(tmp_path: Path, folder: Path) -> None:
    write_picture(folder / "ape.png", (1200, 900))
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await open_browser(pilot)
        assert "trains as 1152x864" in screen_text(app) or "trains as 1" in screen_text(app)
        before = screen._resolution
        await pilot.press("r")
        assert screen._resolution != before
        await pilot.press("T")
        dialog = app.screen
        assert isinstance(dialog, TrainingScreen)
        dialog.query_one("#resolutions", Input).value = "many"
        await pilot.press("enter")
        assert "many is no resolution" in screen_text(app)
        dialog.query_one("#resolutions", Input).value = "256"
        await pilot.press("tab", *"sks", "enter")
        await until(lambda: screen.session.training.trigger == "sks" and "288x" in screen_text(app))
        await until(lambda: "trains as sks" in screen_text(app))
        await pilot.press("T", "escape")
        assert app.screen is screen
    app = library_app(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        assert (await open_browser(pilot)).session.training.resolutions == (256,)
