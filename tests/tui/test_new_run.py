"""The screen that starts a run: where it trains, and what that may cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input, RadioButton

from tests.tui.fakes import FakeRuns, make_app, screen_text, settled, until
from tui.runs.launch_cost import ModalChoice, choice_of, cost_words, overrides
from tui.screens.jobs import JobsScreen
from tui.screens.new_run import NewRunScreen

CHOICE = ModalChoice("H100, A100-80GB", "10", 4.0, 32, 24.0)


@pytest.fixture(autouse=True)
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Modal token that nobody accepts, and a data folder without prices."""
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "none.toml"))
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-1")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-1")
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FLUXLORA_STAND_IN", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (512, 512)).save(tmp_path / "pictures" / "a.png")
    (tmp_path / "pictures" / "a.txt").write_text("a fox", encoding="utf-8")
    path = tmp_path / "fox.yaml"
    path.write_text(
        """\
config:
  name: fox
  process:
    - type: sd_trainer
      datasets: [{folder_path: pictures, caption_ext: txt}]
      train: {steps: 20, lr: 1e-4}
      model: {name_or_path: some/model}
      modal: {gpu: [L40S], budget: 2.5}
""",
        encoding="utf-8",
    )
    return path


async def open_screen(pilot) -> None:
    await settled(pilot)
    await pilot.press("n")
    await until(lambda: isinstance(pilot.app.screen, NewRunScreen))
    await until(lambda: pilot.app.screen.query_one("#gpus", Input).value)


# The words


def test_the_cost_of_a_choice() -> None:
    words = cost_words(CHOICE)
    assert words.problem == ""
    assert words.warning == ""
    assert words.text.startswith("$2.94-$4.39/h · stops at $10.00, after 2h ")
    assert "prices of 2026-07-01 (modal.com/pricing)" in words.text
    free = cost_words(ModalChoice("H100", "", 4.0, 32, 24.0))
    assert "no budget: at most $105" in free.text
    assert "monthly credit of $30.00" in free.warning


@pytest.mark.parametrize(
    ("gpus", "budget", "said"),
    [
        ("H10000", "5", "'H10000' is no GPU of Modal's"),
        ("", "5", "name at least one GPU"),
        ("H100", "much", "the budget is 'much'"),
        ("H100", "-1", "the budget is '-1'"),
        ("H100", "nan", "the budget is 'nan'"),
    ],
)
def test_what_is_wrong_with_a_choice_is_one_line(gpus: str, budget: str, said: str) -> None:
    words = cost_words(ModalChoice(gpus, budget, 4.0, 32, 24.0))
    assert said in words.problem
    assert "\n" not in words.problem
    assert words.text == ""


def test_a_broken_price_list_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "prices.toml").write_text("[gpu", encoding="utf-8")
    words = cost_words(CHOICE)
    assert "is not valid TOML" in words.problem
    assert words.text


def test_only_what_differs_is_overridden(config: Path) -> None:
    from dataclasses import replace

    chosen = choice_of(config)
    assert (chosen.gpus, chosen.budget) == ("L40S", "2.5")
    assert choice_of(None) == CHOICE
    assert choice_of(config.with_name("none.yaml")) == CHOICE
    assert overrides(chosen, chosen) == ()
    assert overrides(replace(chosen, gpus=" L40S ,"), chosen) == ()
    assert overrides(replace(chosen, gpus="H100,L40S", budget=""), chosen) == (
        "modal.gpu=H100,L40S",
        "modal.budget=null",
    )


# The screen


async def test_a_run_on_this_machine_as_ever(tmp_path: Path, config: Path) -> None:
    runs = FakeRuns()
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_screen(pilot)
        assert "GPUs in order" not in screen_text(app)
        await pilot.press(*"fox.yaml", "enter")
        await until(lambda: "press Enter again" in screen_text(app) or runs.launched)
        if not runs.launched:
            await pilot.press("enter")
        await until(lambda: runs.launched)
        assert runs.backends == ["local"]
        assert runs.launched[0].overrides == ()


async def choose_modal(pilot) -> None:
    await pilot.press("tab", "right", "enter")
    await until(lambda: "GPUs in order" in screen_text(pilot.app))


async def test_a_run_on_modal_with_its_cost(tmp_path: Path, config: Path) -> None:
    runs = FakeRuns()
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await open_screen(pilot)
        await choose_modal(pilot)
        await until(lambda: "$2.94-$4.39/h · stops at $10.00" in screen_text(app))
        app.screen.query_one("#path").focus()
        await pilot.press(*"fox.yaml")
        gpus = app.screen.query_one("#gpus", Input)
        await until(lambda: gpus.value == "L40S")
        await until(lambda: "stops at $2.50" in screen_text(app))
        gpus.focus()
        await pilot.press("end", *", H100")
        await until(lambda: "-$4.39/h" in screen_text(app))
        budget = app.screen.query_one("#budget", Input)
        budget.focus()
        await pilot.press("end", "backspace", "backspace", "backspace", "x")
        await until(lambda: "the budget is 'x'" in screen_text(app))
        await pilot.press("backspace", "7")
        await until(lambda: "stops at $7.00" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: "press Enter again" in screen_text(app) or runs.launched)
        if not runs.launched:
            await pilot.press("enter")
        await until(lambda: runs.launched)
        assert runs.backends == ["modal"]
        assert runs.launched[0].overrides == ("modal.gpu=L40S,H100", "modal.budget=7")
        assert runs.launched[0].config_path == Path("fox.yaml")


async def test_a_wrong_gpu_is_found_before_anything_is_launched(tmp_path: Path, config: Path) -> None:
    runs = FakeRuns()
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await open_screen(pilot)
        await choose_modal(pilot)
        app.screen.query_one("#gpus").focus()
        await pilot.press("end", *"x")
        app.screen.query_one("#path").focus()
        await pilot.press(*"fox.yaml", "enter")
        await until(lambda: "is no GPU of Modal's" in screen_text(app))
        await until(lambda: "1 error" in screen_text(app))
        assert runs.launched == []
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, JobsScreen))


async def test_modal_needs_a_token(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODAL_TOKEN_ID")
    monkeypatch.delenv("MODAL_TOKEN_SECRET")
    app = make_app(root=tmp_path, backend="modal")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_screen(pilot)
        await until(lambda: "fluxlora-tui login modal" in screen_text(app))
        button = app.screen.query_one("#modal", RadioButton)
        assert button.disabled
        assert not button.value
        await until(lambda: "GPUs in order" not in screen_text(app))
        (config.parent / ".env").write_text("MODAL_TOKEN_ID=ak\nMODAL_TOKEN_SECRET=as\n", encoding="utf-8")
        await pilot.press(*"fox.yaml")
        await until(lambda: not button.disabled)
        await until(lambda: "login modal" not in screen_text(app))


async def test_a_stand_in_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXLORA_STAND_IN", "http://127.0.0.1:1")
    app = make_app(root=tmp_path, backend="modal")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_screen(pilot)
        assert "Local stand-in for modal" in screen_text(app)
        await until(lambda: "GPUs in order" in screen_text(app))
