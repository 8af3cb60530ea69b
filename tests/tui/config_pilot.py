"""What the tests of the config screens share: a project with configs, and an app in its editor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.presets import preset_text
from tests.tui.fakes import FakeRuns, make_app, settled, until
from tui.screens.config_editor import ConfigEditorScreen
from tui.screens.configs import ConfigsScreen

if TYPE_CHECKING:
    import pytest
    from textual.pilot import Pilot

TEXT = preset_text("character")


def project(folder: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> Path:
    """A folder with configs and two pictures, one with a caption; the working folder from now on."""
    monkeypatch.chdir(folder)
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
        "0000000d49444154789c6360f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
    )
    for name in ("one", "two"):
        (pictures / f"{name}.png").write_bytes(png)
    (pictures / "one.txt").write_text("a picture", encoding="utf-8")
    for name, text in (texts or {"fox": TEXT}).items():
        with (folder / f"{name}.yaml").open("w", encoding="utf-8", newline="") as file:
            file.write(text)
    return folder


def app_in(folder: Path, runs: FakeRuns | None = None, **options: Any):
    return make_app(runs, root=folder / "home", **options)


async def open_editor(pilot: Pilot, path: Path) -> ConfigEditorScreen:
    """Open a config and wait until it was looked at."""
    await settled(pilot)
    await pilot.press("5")
    await until(lambda: isinstance(pilot.app.screen, ConfigsScreen))
    pilot.app.screen.edit(path)
    return await editor_ready(pilot)


async def editor_ready(pilot: Pilot) -> ConfigEditorScreen:
    await until(lambda: isinstance(pilot.app.screen, ConfigEditorScreen))
    screen = pilot.app.screen
    assert isinstance(screen, ConfigEditorScreen)
    await checked(screen)
    await pilot.pause()
    return screen


async def checked(screen: ConfigEditorScreen) -> None:
    """Wait until the findings are of the text as it is."""
    await until(lambda: screen._loaded and screen._looked_at == screen.area.version)


@asynccontextmanager
async def editing(
    folder: Path, text: str = TEXT, *, runs: FakeRuns | None = None, size: tuple[int, int] = (120, 36)
) -> AsyncIterator[tuple[Pilot, ConfigEditorScreen]]:
    """The editor with a text, in an app that ends with the block."""
    path = folder / "edited.yaml"
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
    app = app_in(folder, runs)
    async with app.run_test(size=size) as pilot:
        yield pilot, await open_editor(pilot, path)
