"""Pictures of the library, both views, problems, completions, diff and launch sheet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tui.config_pilot import TEXT, app_in, checked, open_editor, project
from tests.tui.fakes import FakeRuns, screen_text, settled, still, until
from tui.screens.choose import ChooseScreen
from tui.screens.config_diff import ConfigDiffScreen
from tui.screens.config_launch import LaunchScreen

SIZES = [(80, 24), (120, 36)]
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose paths on the screen are the same in every test."""
    import os

    from tests.tui.fakes import NOW

    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    project(tmp_path, monkeypatch, fox=TEXT.replace("my_character", "fox"), ink=TEXT.replace("2000", "900"))
    for number, name in enumerate(("fox", "ink")):
        os.utime(tmp_path / f"{name}.yaml", (NOW - 3600 * (number + 1),) * 2)
    return tmp_path


def shoot(snap_compare, folder: Path, size, prepare, text: str | None = None) -> None:
    if text is not None:
        (folder / "fox.yaml").write_text(text, encoding="utf-8")

    async def run(pilot) -> None:
        screen = await open_editor(pilot, Path("fox.yaml"))
        screen.area.cursor_blink = False
        await prepare(pilot, screen)
        await pilot.pause()

    assert snap_compare(app_in(folder, FakeRuns()), terminal_size=size, run_before=run)


async def estimated(pilot, screen) -> None:
    if pilot.app.size.width >= 110:
        await until(lambda: "epochs" in screen_text(pilot.app))


@sizes
def test_library(snap_compare, folder: Path, size, monkeypatch) -> None:
    async def run(pilot) -> None:
        await settled(pilot)
        await pilot.press("5")
        await until(lambda: "my_character" in screen_text(pilot.app))
        pilot.app.screen.query_one("#about").display = False  # a path of this machine
        await pilot.pause()

    assert snap_compare(app_in(folder), terminal_size=size, run_before=run)


@sizes
def test_text_view(snap_compare, folder: Path, size) -> None:
    shoot(snap_compare, folder, size, estimated)


@sizes
def test_form_view(snap_compare, folder: Path, size) -> None:
    async def prepare(pilot, screen) -> None:
        await estimated(pilot, screen)
        await pilot.press("f2")
        await until(lambda: screen.form.fields.go_to("train.lr"))
        await checked(screen)
        await until(lambda: screen.form.fields.go_to("train.lr"))  # again: the check may have brought others
        await still(pilot)

    shoot(snap_compare, folder, size, prepare)


@sizes
def test_problems(snap_compare, folder: Path, size) -> None:
    text = TEXT.replace("batch_size: 1", "batch_sizes: 1").replace("steps: 2000", "steps: many")

    async def prepare(pilot, screen) -> None:
        await pilot.press("f8")
        await pilot.pause()
        if screen.has_class("-estimate"):
            await pilot.press("f12")

    shoot(snap_compare, folder, size, prepare, text)


@sizes
def test_completion(snap_compare, folder: Path, size) -> None:
    async def prepare(pilot, screen) -> None:
        if screen.has_class("-estimate"):
            await pilot.press("f12")
        screen.area.go_to(next(i for i, row in enumerate(TEXT.split("\n")) if "batch_size" in row))
        await pilot.press("end", "enter", *"opti")
        await until(lambda: screen.popup.is_open)
        await checked(screen)

    shoot(snap_compare, folder, size, prepare)


@sizes
def test_diff(snap_compare, folder: Path, size) -> None:
    async def prepare(pilot, screen) -> None:
        await estimated(pilot, screen)
        await pilot.press("f10")
        await until(lambda: isinstance(pilot.app.screen, ChooseScreen))
        await pilot.press(*"preset style", "enter")
        await until(lambda: isinstance(pilot.app.screen, ConfigDiffScreen))

    shoot(snap_compare, folder, size, prepare)


@sizes
def test_launch_sheet(snap_compare, folder: Path, size, monkeypatch) -> None:
    from tui.configs import review as config_review

    plain = config_review.summarise
    monkeypatch.setattr(
        config_review,
        "summarise",
        lambda path, base, ext="txt", options=None: replace(
            plain(path, base, ext, options), folder="./pictures"
        ),
    )
    monkeypatch.setattr("tui.configs.launching._has_token", lambda path: True)

    async def prepare(pilot, screen) -> None:
        await estimated(pilot, screen)
        await pilot.press("f5")
        await until(lambda: isinstance(pilot.app.screen, LaunchScreen))

    shoot(snap_compare, folder, size, prepare, TEXT.replace("lr: 1e-4", "lr: [1e-4, 2e-4]"))
