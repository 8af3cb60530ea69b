"""Pictures of the datasets screens, at both sizes.

After a wanted change: ``pytest tests/tui/test_dataset_snapshots.py --snapshot-update``, and look at the diff.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tui.dataset_folders import browser, library_app, make_dataset, open_browser, open_library
from tests.tui.fakes import make_app, screen_text, until
from tui.widgets.caption_editor import CaptionEditor
from tui.widgets.picture_grid import PictureGrid

if TYPE_CHECKING:
    from textual.pilot import Pilot

SIZES = [(80, 24), (120, 36)]
EDGE = "▀"


@pytest.fixture(params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    value: tuple[int, int] = request.param
    return value


@pytest.fixture
def app(tmp_path: Path):
    return library_app(tmp_path, make_dataset(tmp_path / "animals"))


async def ready(pilot: Pilot) -> None:
    """The browser, with its large picture drawn."""
    await open_browser(pilot)
    await until(lambda: screen_text(pilot.app).count(EDGE) > 20)
    await pilot.pause()


def shoot(snap_compare, app, size, prepare) -> None:
    assert snap_compare(app, terminal_size=size, run_before=prepare)


def test_library_empty(snap_compare, tmp_path: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await open_library(pilot)
        await until(lambda: "No datasets yet" in screen_text(pilot.app))
        await pilot.pause()

    shoot(snap_compare, make_app(root=tmp_path), size, prepare)


def test_library(snap_compare, tmp_path: Path, size) -> None:
    for name in ("animals", "[b]plants[/b]"):
        make_dataset(tmp_path / name)
    app = library_app(tmp_path, tmp_path / "animals", tmp_path / "[b]plants[/b]")

    async def prepare(pilot: Pilot) -> None:
        screen = await open_library(pilot)
        await until(lambda: len(screen._counts) == 2)
        # The folders of tests are called differently each time.
        from dataclasses import replace

        screen._entries = [replace(e, path=Path("/data") / e.path.name) for e in screen._entries]
        screen._counts = {Path("/data") / path.name: counts for path, counts in screen._counts.items()}
        await pilot.pause()
        screen.workers.cancel_group(screen, "library")
        screen._show()
        await pilot.pause()

    shoot(snap_compare, app, size, prepare)


def test_list(snap_compare, app, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await ready(pilot)
        await pilot.press("down", "space")
        await until(lambda: screen_text(pilot.app).count(EDGE) > 20)
        await pilot.pause()

    shoot(snap_compare, app, size, prepare)


def test_grid(snap_compare, app, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await ready(pilot)
        await pilot.press("v", "right", "space", "left")
        grid = browser(pilot).query_one(PictureGrid)
        await until(lambda: grid.complete)
        await until(lambda: screen_text(pilot.app).count(EDGE) > 200)
        await pilot.pause()

    shoot(snap_compare, app, size, prepare)


def test_caption_editor(snap_compare, app, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await ready(pilot)
        browser(pilot).query_one(CaptionEditor).cursor_blink = False
        await pilot.press("enter", *"red ")
        await pilot.pause()

    shoot(snap_compare, app, size, prepare)


@pytest.mark.parametrize("key", ["w", "p"])
def test_side_panes(snap_compare, app, size, key: str) -> None:
    async def prepare(pilot: Pilot) -> None:
        await ready(pilot)
        await pilot.press(key)
        await pilot.pause()

    shoot(snap_compare, app, size, prepare)


def test_bulk_preview(snap_compare, app, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await ready(pilot)
        await pilot.press("b")
        for line in pilot.app.screen.query("Input"):
            line.cursor_blink = False  # type: ignore[attr-defined]
        await pilot.press("enter", *"snow", "enter", *"ice")
        await until(lambda: "+ a bear, ice, ice" in screen_text(pilot.app))
        await pilot.pause()

    shoot(snap_compare, app, size, prepare)


def test_crop(snap_compare, app, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await ready(pilot)
        await pilot.press("c")
        await until(lambda: screen_text(pilot.app).count(EDGE) > 200)
        await pilot.press("a")
        picture = pilot.app.screen.query_one("HalfCellPicture")
        await until(lambda: not any(w.node is picture and w.is_running for w in pilot.app.workers))
        await pilot.pause()
        await pilot.pause()

    shoot(snap_compare, app, size, prepare)
