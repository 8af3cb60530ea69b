from __future__ import annotations

import asyncio
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input

from backend.events import Status
from tests.tui.fakes import (
    HOSTILE,
    LOG,
    FakeDemo,
    FakeRun,
    FakeRuns,
    escapes,
    make_app,
    screen_text,
    settled,
    story,
    summary,
    until,
)
from tui.screens.confirm import ConfirmScreen
from tui.screens.help import HelpScreen
from tui.screens.jobs import JobsScreen
from tui.screens.jump import JumpScreen
from tui.screens.monitor import MonitorScreen
from tui.settings import Settings, load_settings
from tui.startup import calm_over_ssh
from tui.widgets.chart import Chart
from tui.widgets.log_pane import LogPane
from tui.widgets.run_table import RunTable

ENDED = summary("ended234", name="done", status=Status.FINISHED, step=1000)


def toasts(app) -> list[str]:
    return [notification.message for notification in app._notifications]


async def test_number_keys_switch_screens(tmp_path: Path) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story())), root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert isinstance(app.screen, JobsScreen)
        await pilot.press("2")
        assert isinstance(app.screen, MonitorScreen)
        await pilot.press("1")
        assert isinstance(app.screen, JobsScreen)


async def test_a_click_on_a_title_switches_screens(tmp_path: Path) -> None:
    app = make_app(root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.click("ModeBar", offset=(screen_text(app).splitlines()[0].index("Monitor"), 0))
        await until(lambda: isinstance(app.screen, MonitorScreen))


async def test_a_click_in_the_key_bar_presses_the_key(tmp_path: Path) -> None:
    app = make_app(FakeRuns(summary()), root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        bar = screen_text(app).splitlines()[-1]
        await pilot.click("KeyBar", offset=(bar.index("Help"), 0))
        await until(lambda: isinstance(app.screen, HelpScreen))


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
async def test_quit_is_immediate_when_nothing_goes_on(tmp_path: Path, key: str) -> None:
    app = make_app(FakeRuns(ENDED), root=tmp_path)
    async with app.run_test() as pilot:
        await settled(pilot)
        await pilot.press(key)
        await until(lambda: not app.is_running)
    assert app.return_value == 0


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
async def test_quit_asks_when_a_run_goes_on(tmp_path: Path, key: str) -> None:
    runs = FakeRuns(summary())
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press(key)
        assert isinstance(app.screen, ConfirmScreen)
        assert "1 run goes on without the app" in screen_text(app)
        await pilot.press("n")
        assert isinstance(app.screen, JobsScreen)
        await pilot.press("q", "ctrl+q")  # asking twice asks once
        assert len(app.screen_stack) == 2
        await pilot.press("y")
        await until(lambda: not app.is_running)
    assert app.return_value == 0
    assert runs.local.asked == []  # leaving never touches a run


async def test_quit_does_not_ask_about_a_run_that_ended_a_moment_ago(tmp_path: Path) -> None:
    runs = FakeRuns(summary())
    app = make_app(runs, root=tmp_path)
    async with app.run_test() as pilot:
        await settled(pilot)
        run = runs.runs["abcd2345"]
        run.summary = replace(run.summary, status=Status.STOPPED)  # the watch has not heard of it yet
        assert app.feed.going
        await pilot.press("q")
        await until(lambda: not app.is_running)
    assert app.return_value == 0


async def test_quit_says_what_would_be_cut_short(tmp_path: Path) -> None:
    app = make_app(FakeRuns(ENDED), root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        app.actions.busy.append("starting demo.yaml")
        await pilot.press("q")
        assert "starting demo.yaml" in screen_text(app)
        assert app.focused is not None
        assert app.focused.id == "no"  # the safe answer has the focus
        await pilot.press("enter")
        assert isinstance(app.screen, JobsScreen)


async def test_confirm_arrows_and_enter(tmp_path: Path) -> None:
    app = make_app(FakeRuns(summary()), root=tmp_path)
    async with app.run_test() as pilot:
        await settled(pilot)
        await pilot.press("q")
        assert app.focused is not None
        assert app.focused.id == "yes"
        await pilot.press("right")
        assert app.focused.id == "no"
        await pilot.press("left")
        assert app.focused.id == "yes"
        await pilot.press("tab", "enter")
        assert isinstance(app.screen, JobsScreen)
        await pilot.press("q", "enter")
        await until(lambda: not app.is_running)


async def test_theme_is_remembered_with_the_comments_around_it(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('# mine\nimages = "half"  # slow link\n', encoding="utf-8")
    app = make_app(root=tmp_path)
    async with app.run_test() as pilot:
        await settled(pilot)
        app.theme = "nord"
        await until(lambda: "nord" in path.read_text(encoding="utf-8"))
    text = path.read_text(encoding="utf-8")
    assert "# mine" in text
    assert "# slow link" in text
    assert tomllib.loads(text) == {"images": "half", "theme": "nord"}
    assert load_settings(path).theme == "nord"


async def test_theme_key_opens_the_list_of_themes(tmp_path: Path) -> None:
    app = make_app(root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("t", *"high-con")
        await until(lambda: "high-contrast" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: app.theme == "high-contrast")
        await until(lambda: (tmp_path / "settings.toml").exists())


@pytest.mark.parametrize(
    ("name", "theme"), [("ansi", "ansi-dark"), ("light", "textual-light"), ("high-contrast", "high-contrast")]
)
async def test_themes_of_the_settings(tmp_path: Path, name: str, theme: str) -> None:
    app = make_app(FakeRuns(summary()), root=tmp_path, settings=Settings(theme=name))
    async with app.run_test() as pilot:
        await settled(pilot)
        assert app.theme == theme
        await pilot.press("2")
        assert "my-lora" in screen_text(app)
    assert not (tmp_path / "settings.toml").exists()  # opening the app writes nothing


async def test_unknown_theme_is_reported_and_replaced(tmp_path: Path) -> None:
    app = make_app(root=tmp_path, settings=Settings(theme="[b]nope"))
    async with app.run_test() as pilot:
        await settled(pilot)
        assert app.theme == "textual-dark"
        assert any("there is no theme '[b]nope'" in text for text in toasts(app))


async def test_broken_settings_are_a_toast_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('theme = "nord"\nimages = = 3\n', encoding="utf-8")
    app = make_app(root=tmp_path)
    async with app.run_test() as pilot:
        await settled(pilot)
        assert app.theme == "textual-dark"
        assert any("settings.toml:2: " in text for text in toasts(app))


async def test_a_theme_cannot_be_saved_over_broken_settings(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("theme = = 3\n", encoding="utf-8")
    app = make_app(root=tmp_path)
    async with app.run_test() as pilot:
        await settled(pilot)
        app.theme = "nord"
        await until(lambda: any("is no valid TOML" in text for text in toasts(app)))
    assert path.read_text(encoding="utf-8") == "theme = = 3\n"  # nothing was lost


# Jump mode


@pytest.mark.parametrize("key", ["ctrl+o", "o"])
async def test_jump_reaches_every_pane_of_the_monitor(tmp_path: Path, key: str) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(), LOG)), root=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("2", "i")
        for pane in list(app.screen.focus_chain):
            await pilot.press(key)
            assert isinstance(app.screen, JumpScreen)
            letter = next(t.letter for t in app.screen._targets.values() if t.pane is pane)
            assert f"[{letter}]" in screen_text(app)
            await pilot.press(letter)
            assert app.focused is pane


async def test_jump_works_on_jobs_and_can_be_left(tmp_path: Path) -> None:
    app = make_app(FakeRuns(summary()), root=tmp_path, demo=FakeDemo())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("o", "s")
        assert isinstance(app.focused, RunTable)
        for leave in ("escape", "ctrl+o", "ctrl+c"):
            await pilot.press("o")
            assert isinstance(app.screen, JumpScreen)
            await pilot.press(leave)
            await until(lambda: isinstance(app.focused, RunTable), 5)
        await pilot.press("o", "2")
        await until(lambda: isinstance(app.screen, MonitorScreen))


async def test_a_resize_ends_jump_mode(tmp_path: Path) -> None:
    app = make_app(FakeRuns(summary()), root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("o")
        await pilot.resize_terminal(100, 30)
        await until(lambda: isinstance(app.screen, JobsScreen))


# Command palette


async def test_palette_opens_stops_and_resumes_runs(tmp_path: Path) -> None:
    runs = FakeRuns(
        FakeRun(summary("live2345"), story()), FakeRun(summary("dead2345", name="old", status=Status.STOPPED))
    )
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await settled(pilot)

        async def choose(words: str, shown: str) -> None:
            await pilot.press("ctrl+p", *words.replace(" ", "_").replace("_", " "))
            await until(lambda: shown in screen_text(app))
            await pilot.press("down", "enter")

        await choose("resume old", "Resume run old (dead2345)")
        await until(lambda: ("resume", "dead2345") in runs.local.asked)
        await choose("stop run my", "Stop run my-lora (live2345)")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(lambda: ("stop", "live2345") in runs.local.asked)
        await choose("open run my", "Open run my-lora (live2345)")
        await until(lambda: isinstance(app.screen, MonitorScreen))
        await choose("go to jobs", "Go to Jobs")
        await until(lambda: isinstance(app.screen, JobsScreen))


async def test_palette_shows_hostile_names_as_they_are(tmp_path: Path) -> None:
    app = make_app(FakeRuns(*(summary(f"run{n:05}", name=n_) for n, n_ in enumerate(HOSTILE))), root=tmp_path)
    async with app.run_test(size=(120, 50)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+p", *"open run")
        await until(lambda: "Open run [/ (run00000)" in screen_text(app))
        assert "Open run [b]bold[/b] (run00001)" in screen_text(app)
        assert not escapes(screen_text(app))


# When things go wrong


async def test_a_broken_registry_is_said_and_tried_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tui.runs.feed._RETRY", 0.02)
    runs = FakeRuns(summary())
    runs.list_failure = OSError("the [b]disk[/] is gone")
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "The runs cannot be read." in screen_text(app))
        assert "the [b]disk[/] is gone" in screen_text(app)
        runs.list_failure = None
        await until(lambda: "my-lora" in screen_text(app))
        await pilot.press("2")
        await until(lambda: "my-lora" in screen_text(app))


async def test_the_app_opens_without_a_backend(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tui.runs.feed._RETRY", 0.02)

    def broken():
        raise ImportError("no module named sqlite3")

    from tui.app import FluxLoraApp

    app = FluxLoraApp(runs=broken, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "no module named sqlite3" in screen_text(app))
        await pilot.press("2")
        assert "no module named sqlite3" in screen_text(app)
        await pilot.press("1", "n", "escape", "q")
        await until(lambda: not app.is_running)


async def test_what_fails_is_a_toast_without_markup(tmp_path: Path) -> None:
    runs = FakeRuns(summary(status=Status.STOPPED))
    runs.local.failure = RuntimeError("[/] no [b]room")
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("r")
        await until(lambda: "[/] no [b]room" in screen_text(app))
        assert "Resume failed" in screen_text(app)


async def test_the_last_sessions_table_is_there_at_once(tmp_path: Path) -> None:
    first = make_app(FakeRuns(summary(name="kept-name")), root=tmp_path)
    async with first.run_test() as pilot:
        await settled(pilot)
    gate = asyncio.Event()
    runs = FakeRuns(summary(name="new-name"))
    listed = runs.list

    async def slow():
        await gate.wait()
        return await listed()

    runs.list = slow  # type: ignore[method-assign]
    second = make_app(runs, root=tmp_path)
    async with second.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "kept-name" in screen_text(second)
        assert "from the last session" in screen_text(second)
        gate.set()
        await until(lambda: "new-name" in screen_text(second))
        assert "from the last session" not in screen_text(second)


async def test_a_damaged_table_of_the_last_session_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "run-table.json").write_text('[{"id": 3}]', encoding="utf-8")
    app = make_app(FakeRuns(summary()), root=tmp_path)
    async with app.run_test() as pilot:
        await settled(pilot)
        assert "my-lora" in screen_text(app)


# Size


@pytest.mark.parametrize("key", ["1", "2"])
async def test_a_storm_of_resizes(tmp_path: Path, key: str) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(), LOG)), root=tmp_path, demo=FakeDemo())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press(key)
        sizes = [
            (200, 60),
            (60, 18),
            (20, 5),
            (1, 1),
            (10, 3),
            (100, 34),
            (99, 33),
            (300, 100),
            (5, 40),
            (80, 24),
        ]
        for width, height in sizes * 2:
            await pilot.resize_terminal(width, height)
        await pilot.pause()
        lines = screen_text(app).splitlines()
        assert len(lines) == 24
        assert lines[0].startswith(" fluxlora")
        assert "Help" in lines[-1]


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (60, 18)])
@pytest.mark.parametrize("key", ["1", "2"])
async def test_bars_hold_at_every_size(tmp_path: Path, size: tuple[int, int], key: str) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(), LOG)), root=tmp_path)
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press(key)
        await until(lambda: "my-lora" in screen_text(app))
        last = screen_text(app).splitlines()[-1]
        assert "? Help" in last
        assert "q Quit" in last


async def test_no_color(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = make_app(FakeRuns(FakeRun(summary(), story(), LOG)), root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert app.no_color
        assert "● training" in screen_text(app)
        cursor = next(s for s in app.screen._compositor.render_strips() if "my-lora" in s.text)
        assert any(
            segment.style and segment.style.underline for segment in cursor
        )  # no colour is needed to see it


async def test_tab_goes_round_and_comes_back(tmp_path: Path) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(), LOG)), root=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("2", "i")
        start, seen = app.focused, [app.focused]
        await pilot.press("tab")
        while app.focused is not start:
            seen.append(app.focused)
            assert len(seen) < 10
            await pilot.press("tab")
        assert {type(pane).__name__ for pane in seen} == {"LogPane", "LossChart", "Samples"}
        await pilot.press("shift+tab")
        assert app.focused is seen[-1]


async def test_global_letters_are_typed_in_inputs(tmp_path: Path) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(), LOG)), root=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        typed = "qot12?sriz[]fwnN/yeEpc0"
        await pilot.press("n", *typed)
        assert app.screen.query_one(Input).value == typed
        await pilot.press("escape", "2", "slash", *typed)
        assert app.screen.query_one(LogPane).query_one(Input).value == typed
        assert isinstance(app.screen, MonitorScreen)
        await pilot.press("f1")  # help needs no letter
        assert isinstance(app.screen, HelpScreen)


async def test_a_run_asked_for_is_opened_at_once(tmp_path: Path) -> None:
    runs = FakeRuns(
        FakeRun(summary("newer234", name="newer"), story()),
        FakeRun(summary("older234", name="older"), story()),
    )
    app = make_app(runs, root=tmp_path, open_run="older234")
    async with app.run_test(size=(80, 24)):
        await until(lambda: isinstance(app.screen, MonitorScreen) and "older" in screen_text(app))
        await until(lambda: len(app.screen.query_one(Chart).curves) == 1)


def test_ssh_asks_for_fewer_frames_and_leaves_the_users_choice() -> None:
    local: dict[str, str] = {}
    calm_over_ssh(local)
    assert local == {}
    remote = {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}
    calm_over_ssh(remote)
    assert remote["TEXTUAL_FPS"] == "15"
    assert remote["TEXTUAL_ANIMATIONS"] == "none"
    own = {"SSH_TTY": "/dev/pts/1", "TEXTUAL_FPS": "60"}
    calm_over_ssh(own)
    assert own["TEXTUAL_FPS"] == "60"
