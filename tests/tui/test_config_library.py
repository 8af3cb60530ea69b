"""The library of configs and the launch sheet: every key."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.events import Status
from tests.tui.config_pilot import TEXT, app_in, editing, project
from tests.tui.fakes import FakeRun, FakeRuns, screen_text, settled, summary, until
from tui.configs.review import free_name, review
from tui.screens.choose import Choice, ChooseScreen, fitting
from tui.screens.config_editor import ConfigEditorScreen
from tui.screens.config_launch import LaunchScreen
from tui.screens.configs import ConfigsScreen


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    project(
        tmp_path,
        monkeypatch,
        fox=TEXT.replace("my_character", "fox"),
        cat=TEXT.replace("my_character", "cat"),
    )


async def library(pilot) -> ConfigsScreen:
    await settled(pilot)
    await pilot.press("5")
    await until(lambda: isinstance(pilot.app.screen, ConfigsScreen) and pilot.app.screen.table.entries)
    screen = pilot.app.screen
    screen._refresh(Path.cwd() / "fox.yaml")
    await until(lambda: screen.table.entry is not None and screen.table.entry.name == "fox")
    await pilot.pause()
    return screen


def names(screen: ConfigsScreen) -> set[str]:
    return {entry.path.name for entry in screen.table.entries}


async def test_moving_and_opening(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await library(pilot)
        await pilot.press("home", "j", "k", "end", "G", "g", "down", "up", "pagedown", "pageup")
        assert screen.table.highlighted == 0
        chosen = screen.table.entry.path
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, ConfigEditorScreen))
        await until(lambda: app.screen._loaded)
        assert app.screen.area.text == chosen.read_text()
        await pilot.press("escape")
        await until(lambda: app.screen is screen)


async def test_new_from_a_preset(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await library(pilot)
        await pilot.press("n")
        await until(lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press(*"preset style", "enter")
        await until(lambda: "Name of the LoRA" in screen_text(app))
        await pilot.press(*"ink", "enter")
        await until(lambda: isinstance(app.screen, ConfigEditorScreen))
        assert "name: ink" in (tmp_path / "ink.yaml").read_text()


async def test_copy_rename_delete_and_undelete(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = await library(pilot)
        await pilot.press("c")
        await until(lambda: "Name of the copy" in screen_text(app))
        await pilot.press(*"hen", "enter")
        await until(lambda: "hen.yaml" in names(screen))
        assert screen.table.entry.path.name == "hen.yaml"
        await pilot.press("r")
        await until(lambda: "New name" in screen_text(app))
        await pilot.press(*"owl", "enter")
        await until(lambda: "owl.yaml" in names(screen))
        assert "hen.yaml" not in names(screen)
        await pilot.press("D")
        await until(lambda: "It goes to the trash" in screen_text(app))
        await pilot.press("y")
        await until(lambda: "owl.yaml" not in names(screen))
        await pilot.press("u")
        await until(lambda: "owl.yaml" in names(screen))
        (tmp_path / "cat.yaml").unlink()
        await pilot.press("f5")
        await until(lambda: "cat.yaml" not in names(screen))


async def test_diff_against_another(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await library(pilot)
        await pilot.press("d")
        await until(lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press(*"cat.yaml", "enter")
        await until(lambda: "config.name" in screen_text(app))
        await pilot.press("escape")


async def test_the_external_editor_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib
    import sys

    script = tmp_path / "ed.py"
    script.write_text("import sys; open(sys.argv[1], 'a').write('# mine\\n')")
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    app = app_in(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await library(pilot)
        monkeypatch.setattr(app, "suspend", contextlib.nullcontext)
        await pilot.press("e")
        await until(lambda: (tmp_path / "fox.yaml").read_text().endswith("# mine\n"))


async def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    for path in tmp_path.glob("*.yaml"):  # noqa: ASYNC240
        path.unlink()
    app = app_in(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("5")
        await until(lambda: "No configs in this folder" in screen_text(app))


# -- launching ------------------------------------------------------------------------------------


async def sheet(pilot) -> LaunchScreen:
    await pilot.press("f5")
    await until(lambda: isinstance(pilot.app.screen, LaunchScreen))
    await pilot.pause()
    return pilot.app.screen


async def test_one_key_launches_what_was_saved(tmp_path: Path) -> None:
    runs = FakeRuns()
    async with editing(tmp_path, runs=runs) as (pilot, screen):
        screen.area.replace_all_text(TEXT.replace("steps: 2000", "steps: 2500"))
        await sheet(pilot)
        text = screen_text(pilot.app)
        assert "train.steps" in text
        assert "2 pictures, 1 without caption" in text
        await pilot.press("pagedown", "pageup", "tab", "shift+tab", "f5")
        await until(lambda: runs.launched)
        assert runs.launched[0].config_path == tmp_path / "edited.yaml"
        assert "2500" in (tmp_path / "edited.yaml").read_text()
        assert runs.backends == ["local"]


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (40, 12)])
async def test_the_answers_are_seen_however_much_there_is_to_read(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    text = TEXT.replace("steps: 2000", "steps: 2500").replace("linear: 32", "linear: 48")
    runs = FakeRuns(FakeRun(summary(name="my_character", status=Status.STOPPED), []))
    async with editing(tmp_path, text, runs=runs, size=size) as (pilot, _screen):
        shown = await sheet(pilot)
        await until(lambda: "Launch (f5)" in screen_text(pilot.app))
        await until(lambda: shown.query_one("#review").region.height > 0)
        assert "Cancel (esc)" in screen_text(pilot.app)
        await pilot.press("escape")


async def test_errors_prevent_a_launch(tmp_path: Path) -> None:
    runs = FakeRuns()
    async with editing(tmp_path, TEXT.replace("steps: 2000", "steps: many"), runs=runs) as (pilot, screen):
        await sheet(pilot)
        await pilot.press("f5")
        await pilot.pause()
        assert "must be mended first" in screen_text(pilot.app)
        await pilot.press("escape")
        assert pilot.app.screen is screen
        assert not runs.launched


def named(status: Status) -> FakeRuns:
    return FakeRuns(FakeRun(summary(name="my_character", status=status)))


async def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    runs = named(Status.FINISHED)
    async with editing(tmp_path, runs=runs) as (pilot, _screen):
        await sheet(pilot)
        assert "my_character_2" in screen_text(pilot.app)
        await pilot.press("f5")
        await until(lambda: runs.launched)
        assert runs.launched[0].overrides == ('config.name="my_character_2"',)


async def test_the_run_of_that_name_is_resumed(tmp_path: Path) -> None:
    runs = named(Status.STOPPED)
    async with editing(tmp_path, runs=runs) as (pilot, _screen):
        shown = await sheet(pilot)
        shown.query_one("#resume").value = True
        await pilot.pause()
        await pilot.press("f5")
        await until(lambda: ("resume", "abcd2345") in runs.local.asked)


async def test_the_run_of_that_name_is_replaced(tmp_path: Path) -> None:
    runs = named(Status.STOPPED)
    async with editing(tmp_path, runs=runs) as (pilot, _screen):
        shown = await sheet(pilot)
        shown.query_one("#replace").value = True
        await pilot.pause()
        await pilot.press("f5")
        await until(lambda: ("delete", "abcd2345") in runs.local.asked)
        assert runs.launched[0].overrides == ()


async def test_a_sweep_launches_all(tmp_path: Path) -> None:
    runs = FakeRuns()
    async with editing(tmp_path, TEXT.replace("lr: 1e-4", "lr: [1e-4, 2e-4]"), runs=runs) as (pilot, _screen):
        assert "sweep of 2 runs" in screen_text(pilot.app)
        await sheet(pilot)
        assert "Launch 2" in screen_text(pilot.app)
        assert "On this machine all 2 runs start at once" in screen_text(pilot.app)
        await pilot.press("f5")
        await until(lambda: len(runs.launched) == 2)
        assert runs.launched[0].overrides != runs.launched[1].overrides


async def test_modal_has_gpus_a_budget_and_a_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.configs.launching._has_token", lambda path: True)
    runs = FakeRuns()
    async with editing(tmp_path, runs=runs) as (pilot, _screen):
        shown = await sheet(pilot)
        shown.query_one("#modal").value = True
        await until(lambda: "prices of" in str(shown.query_one("#cost").content))
        shown.query_one("#budget").value = "3"
        await pilot.pause()
        await pilot.press("f5")
        await until(lambda: runs.launched)
        assert runs.backends == ["modal"]
        assert "modal.budget=3" in runs.launched[0].overrides


def test_names_and_reviews(tmp_path: Path) -> None:
    assert free_name("a", ["a", "a_2"]) == "a_3"
    known = review(tmp_path / "fox.yaml", ())
    assert known.preset == "character"
    assert [change.key for change in known.changes] == ["config.name"]
    assert known.datasets[0].captions == 1


def test_choices_narrow() -> None:
    choices = [Choice("train.lr"), Choice("sample.seed", "a number for lr"), Choice("lr_x")]
    assert fitting(choices, "lr") == [0, 2, 1]
