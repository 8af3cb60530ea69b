"""Small datasets for the tests of the datasets screens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.datasets.library import Library
from tests.tui.fakes import make_app, screen_text, settled, until, write_picture
from tui.app import FluxLoraApp
from tui.screens.dataset_browser import DatasetBrowserScreen
from tui.screens.datasets import DatasetsScreen

if TYPE_CHECKING:
    from textual.pilot import Pilot

CAPTIONS = {
    "ape.png": "[trigger], an ape, tree",
    "bear.png": "a bear, snow, snow",
    "cat.png": None,
    "dog.png": "sks, a dog, snow",
    "emu.png": "  an emu ",
}


def make_dataset(folder: Path, captions: dict[str, str | None] = CAPTIONS) -> Path:
    """Pictures of different shapes, with captions."""
    for number, (name, caption) in enumerate(captions.items()):
        write_picture(folder / name, (96 + 24 * number, 120 - 6 * number), shift=40 * number)
        if caption is not None:
            (folder / name).with_suffix(".txt").write_text(caption, encoding="utf-8")
    return folder


def library_app(tmp_path: Path, *folders: Path, **options: Any) -> FluxLoraApp:
    """The app, with these folders in its library."""
    root = tmp_path / "home"
    for folder in folders:
        Library(root).add(folder)
    return make_app(root=root, **options)


async def open_library(pilot: Pilot[Any]) -> DatasetsScreen:
    """Go to the library."""
    await settled(pilot)
    await pilot.press("4")
    await until(lambda: isinstance(pilot.app.screen, DatasetsScreen))
    screen = pilot.app.screen
    assert isinstance(screen, DatasetsScreen)
    await until(lambda: "counting" not in screen_text(pilot.app) and "Datasets ─" in screen_text(pilot.app))
    return screen


async def open_browser(pilot: Pilot[Any]) -> DatasetBrowserScreen:
    """Go to the first dataset of the library, and wait until it is read and checked."""
    await open_library(pilot)
    await until(lambda: pilot.app.screen._entries)  # type: ignore[attr-defined]
    await pilot.pause()
    await pilot.press("enter")
    await until(lambda: isinstance(pilot.app.screen, DatasetBrowserScreen))
    screen = pilot.app.screen
    assert isinstance(screen, DatasetBrowserScreen)
    await until(lambda: screen.feed is not None and screen.feed.calm)
    await pilot.pause()
    return screen


def browser(pilot: Pilot[Any]) -> DatasetBrowserScreen:
    """The browser that is open."""
    screen = pilot.app.screen
    assert isinstance(screen, DatasetBrowserScreen)
    return screen


def said(app: Any) -> str:
    """All notifications, as one text."""
    return "\n".join(f"{note.title} {note.message}" for note in app._notifications)
