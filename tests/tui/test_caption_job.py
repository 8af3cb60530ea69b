"""Captions by a model, from the browser: the dialog, progress, drafts to accept or refuse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Checkbox, Input, RadioButton

from backend.captioning.place import ModalPlace
from backend.captioning.request import CaptionRequest
from tests.pretend_captioner import pretend_captioner
from tests.tui.dataset_folders import library_app, make_dataset, open_browser, said
from tests.tui.fakes import screen_text, until
from tui.screens.caption_job import Asked, CaptionJobScreen
from tui.screens.confirm import ConfirmScreen
from tui.widgets.caption_editor import CaptionEditor

if TYPE_CHECKING:
    from textual.pilot import Pilot


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "animals")


async def open_dialog(pilot: Pilot) -> CaptionJobScreen:
    await pilot.press("A")
    await until(lambda: isinstance(pilot.app.screen, CaptionJobScreen))
    await pilot.pause()
    screen = pilot.app.screen
    assert isinstance(screen, CaptionJobScreen)
    return screen


async def test_a_caption_arrives_as_a_draft_is_accepted_and_another_refused(
    tmp_path: Path, folder: Path, monkeypatch
) -> None:
    pretend_captioner(monkeypatch)
    (folder / "emu.txt").unlink()
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        dialog = await open_dialog(pilot)
        dialog.query_one("#prompt", Input).value = "short"
        dialog.query_one("#trigger", Input).value = "sks"
        await pilot.press("ctrl+s")
        await until(lambda: set(screen.session.desk.names) == {"cat.png", "emu.png"}, 60)
        await until(lambda: "2 drafts" in said(app), 60)
        assert not (folder / "cat.txt").exists()
        await pilot.press("down", "down", "enter")
        editor = screen.query_one(CaptionEditor)
        await until(lambda: editor.text == "sks, a 144 wide picture, short")
        await pilot.press("ctrl+s")
        await until(lambda: (folder / "cat.txt").exists())
        await until(lambda: screen.session.desk.names == ("emu.png",))
        assert (folder / "cat.txt").read_text(encoding="utf-8") == "sks, a 144 wide picture, short"
        await pilot.press("escape", "down", "down", "enter")
        await until(lambda: editor.text.startswith("sks, a 192"))
        await pilot.press("ctrl+r")
        await until(lambda: not screen.session.desk.names)
        await until(lambda: not screen.session.read_drafts())
        assert not (folder / "emu.txt").exists()


async def test_stopping_and_going_on(tmp_path: Path, folder: Path, monkeypatch) -> None:
    pretend_captioner(monkeypatch, str(tmp_path / "go"))
    (folder / "emu.txt").unlink()
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await open_browser(pilot)
        await open_dialog(pilot)
        await pilot.press("ctrl+s")
        await until(lambda: "captioning 0 of 2" in screen_text(app), 60)
        await pilot.press("A")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(lambda: "Stopped." in said(app), 60)
        assert screen.session.desk.names == ("cat.png",)
        (tmp_path / "go").touch()
        await open_dialog(pilot)
        await pilot.press("ctrl+s")
        await until(lambda: set(screen.session.desk.names) == {"cat.png", "emu.png"}, 60)


async def test_keys_of_the_dialog(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_browser(pilot)
        for leave in ("escape", "ctrl+c"):
            await open_dialog(pilot)
            await pilot.press(leave)
            await until(lambda: app.screen is browser_of(app))
        await pilot.press("space")
        dialog = await open_dialog(pilot)
        assert "Caption 1 picture" in screen_text(app)
        answers: list[Asked | None] = []
        monkey = dialog.dismiss
        dialog.dismiss = lambda result=None: (answers.append(result), monkey(None))[1]  # type: ignore[method-assign]
        assert app.focused is dialog.query_one("#where")
        await pilot.press("tab", "right", "right", "space")
        await until(lambda: dialog.query_one("#another", RadioButton).value)
        await pilot.press("f6")
        await until(lambda: "Name the model first." in screen_text(app))
        for text in ("me/model", "what", "sks"):
            await pilot.press(*text)
            await until(lambda text=text: text in screen_text(app))  # where it is typed
            await pilot.press("tab")
        await pilot.press("shift+tab", "shift+tab")
        assert app.focused is dialog.query_one("#prompt")
        await pilot.press("tab", "tab", "space")
        assert dialog.query_one(Checkbox).value
        await pilot.press("shift+tab", "enter")
        assert answers == [
            Asked(CaptionRequest(folder, "me/model", "what", "sks", True, ("ape.png",), ".txt")),
        ]


async def test_a_gpu_of_modals_and_what_it_may_cost(tmp_path: Path, folder: Path) -> None:
    app = library_app(tmp_path, folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_browser(pilot)
        dialog = await open_dialog(pilot)
        answers: list[Asked | None] = []
        dialog.dismiss = lambda result=None: answers.append(result)  # type: ignore[method-assign,assignment]
        assert not dialog.query_one("#cloud").display
        await pilot.press("right", "space")
        await until(lambda: "about $0.0" in screen_text(app))
        dialog.query_one("#gpu", Input).value = "l5"
        await until(lambda: "did you mean" in screen_text(app))
        await pilot.press("ctrl+s")
        assert app.focused is dialog.query_one("#budget")
        assert answers == []
        dialog.query_one("#gpu", Input).value = "l40s"
        dialog.query_one("#budget", Input).value = "0.001"
        await until(lambda: "$0.00 pays for" in screen_text(app))
        dialog.query_one("#budget", Input).value = "$2.5"
        await pilot.press("ctrl+s")
        (asked,) = answers
        assert asked is not None
        assert asked.place == ModalPlace("L40S", 2.5)


def browser_of(app):
    return next(screen for screen in app.screen_stack if type(screen).__name__ == "DatasetBrowserScreen")


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_dialog(snap_compare, tmp_path: Path, folder: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await open_browser(pilot)
        await until(lambda: screen_text(pilot.app).count("▀") > 20)
        screen = await open_dialog(pilot)
        for line in screen.query(Input):
            line.cursor_blink = False
        await pilot.pause()

    assert snap_compare(library_app(tmp_path, folder), terminal_size=size, run_before=prepare)
