"""The form view: every key of it, and that a change is only that change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.config_pilot import TEXT, checked, editing, project
from tests.tui.fakes import screen_text, until
from tui.screens.config_help import KeyHelpScreen
from tui.screens.config_list import ConfigListScreen
from tui.screens.confirm import ConfirmScreen
from tui.widgets.config_form import suggest_path


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)


async def form_at(pilot, screen, key: str) -> None:
    """Open the form with the cursor on a field."""
    if not screen.in_form:
        await pilot.press("f2")
    await until(lambda: screen.form.fields.go_to(key))
    await pilot.pause()


async def test_both_views_are_the_same_file_and_cursor(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        line = next(i for i, row in enumerate(TEXT.split("\n")) if "lr: 1e-4" in row)
        screen.area.go_to(line, 9)
        await pilot.press("f2")
        await until(
            lambda: screen.form.fields.field is not None and screen.form.fields.field.key == "train.lr"
        )
        await pilot.press("right")
        await until(lambda: "lr: 2e-4" in screen.area.text or "lr: 0.0002" in screen.area.text)
        changed = [a for a, b in zip(TEXT.split("\n"), screen.area.text.split("\n"), strict=True) if a != b]
        assert len(changed) == 1
        await pilot.press("f2")
        await until(lambda: screen.area.cursor_location[0] == line)
        await pilot.press("ctrl+z")
        assert screen.area.text == TEXT


@pytest.mark.parametrize(
    ("key", "press", "wanted"),
    [
        ("network.linear", ["right"], "linear: 32 "),
        ("network.linear", ["left"], "linear: 8 "),
        ("train.steps", ["shift+right"], "steps: 3000"),
        ("train.steps", ["shift+left"], "steps: 1000"),
        ("train.gradient_checkpointing", ["left"], "gradient_checkpointing: false"),
        ("datasets.0.flip_x", ["enter"], "flip_x: true"),
        ("datasets.0.flip_x", ["space"], "flip_x: true"),
        ("network.linear", ["right", "right"], "linear: 64 "),
    ],
)
async def test_keys_change_values(tmp_path: Path, key: str, press: list[str], wanted: str) -> None:
    async with editing(tmp_path) as (pilot, screen):
        await form_at(pilot, screen, key)
        await pilot.press(*press)
        await until(lambda: wanted in screen.area.text)
        before, after = TEXT.split("\n"), screen.area.text.split("\n")
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


async def test_enums_cycle_and_texts_do_not_step(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        await form_at(pilot, screen, "train.lr_scheduler")
        await pilot.press("right")
        await until(lambda: screen.area.text != TEXT)
        await pilot.press("left")
        await until(lambda: screen.area.text == TEXT)
        await form_at(pilot, screen, "config.name")
        await pilot.press("right", "left")
        await pilot.pause(0.1)
        assert screen.area.text == TEXT


async def test_typing_a_value_and_a_wrong_one(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        await form_at(pilot, screen, "train.steps")
        await pilot.press("enter", *"many", "enter")
        await until(lambda: "must be a" in screen_text(pilot.app))
        assert screen.area.text == TEXT
        await pilot.press("escape", "enter", *"1234", "enter")
        await until(lambda: "steps: 1234" in screen.area.text)
        assert pilot.app.focused is screen.form.fields


async def test_reset_undo_redo(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        await form_at(pilot, screen, "train.max_grad_norm")
        await pilot.press("r")
        await until(lambda: "max_grad_norm" not in screen.area.text)
        await pilot.press("u")
        assert screen.area.text == TEXT
        await pilot.press("ctrl+y")
        assert "max_grad_norm" not in screen.area.text


async def test_filter_changed_and_moves(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        await form_at(pilot, screen, "train.steps")
        await pilot.press("slash", *"lr_sch")
        await until(lambda: screen.form.fields.field.key == "train.lr_scheduler")
        await pilot.press("down", "up", "enter", "escape")
        await pilot.pause()
        assert not screen.form.filtered
        every = screen.form.fields.option_count
        await pilot.press("c")
        await until(lambda: screen.form.fields.option_count < every)
        await pilot.press("c", "home")
        first = screen.form.fields.field
        await pilot.press("right_square_bracket")
        assert screen.form.fields.field.key == "network.type"
        await pilot.press(
            "left_square_bracket", "end", "G", "g", "j", "k", "down", "up", "pagedown", "pageup"
        )
        await pilot.press("home")
        assert screen.form.fields.field.key == first.key


async def test_help_and_another_dataset(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        await form_at(pilot, screen, "train.lr")
        await pilot.press("K")
        await until(lambda: isinstance(pilot.app.screen, KeyHelpScreen))
        await pilot.press("escape", "a")
        await pilot.pause()
        await pilot.press(*"more", "enter")
        await until(lambda: screen.area.text.count("folder_path") == 2)


async def test_the_list_of_prompts(tmp_path: Path) -> None:
    async with editing(tmp_path) as (pilot, screen):
        await form_at(pilot, screen, "sample.prompts")
        await pilot.press("enter")
        await until(lambda: isinstance(pilot.app.screen, ConfigListScreen))
        await pilot.press("a", *"fox", "enter")
        await until(lambda: "fox" in screen.area.text)
        await pilot.press("K")
        await until(lambda: screen.area.text.index("fox") < screen.area.text.index("soft light"))
        await pilot.press("J")
        await until(lambda: screen.area.text.index("fox") > screen.area.text.index("soft light"))
        await pilot.press("enter", *"es", "enter")
        await until(lambda: "es" in screen.area.text)
        await pilot.press("down", "up", "d")
        await until(lambda: screen.area.text.count("- ") == TEXT.count("- "))
        await pilot.press("a", "escape", "escape")
        await until(lambda: pilot.app.screen is screen)
        assert '# - "a photo of a landscape' in screen.area.text


async def test_an_anchor_asks_before_both_change(tmp_path: Path) -> None:
    text = TEXT.replace("width: 1024", "width: &side 1024").replace("height: 1024", "height: *side")
    async with editing(tmp_path, text) as (pilot, screen):
        await form_at(pilot, screen, "sample.width")
        await pilot.press("right")
        await until(lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(lambda: "&side 1088" in screen.area.text)


async def test_a_text_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    async with editing(tmp_path, "a: [1\nb: 2") as (pilot, screen):
        await pilot.press("f2")
        await checked(screen)
        await until(lambda: "mend that first" in screen_text(pilot.app))


def test_paths_complete(tmp_path: Path) -> None:
    assert suggest_path(tmp_path, "./pic") == "./pictures/"
    assert suggest_path(tmp_path, "pictures/o") == "pictures/one.png"
    assert suggest_path(tmp_path, "nowhere/x") is None
