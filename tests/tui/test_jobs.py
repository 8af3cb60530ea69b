from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.widgets import Input

from backend.events import Status
from backend.launchers.base import LaunchError
from config.problems import Problem
from tests.tui.fakes import (
    HOSTILE,
    NOW,
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
from tui.screens.jobs import JobsScreen
from tui.screens.monitor import MonitorScreen
from tui.screens.new_run import NewRunScreen
from tui.widgets.demo_card import DemoCard
from tui.widgets.run_row import RunLine, columns, header
from tui.widgets.run_table import RunTable


def many(count: int) -> list:
    return [summary(f"run{n:05}", name=f"run number {n}", status=Status.FINISHED) for n in range(count)]


def table(app) -> RunTable:
    return app.screen.query_one(RunTable)


# One row


@pytest.mark.parametrize("width", range(0, 220, 7))
@pytest.mark.parametrize("status", [*Status, "a-newer-status"])
def test_a_row_fits_any_width_and_stands_under_its_titles(width: int, status: str) -> None:
    line = RunLine(summary(status=status, name="猫" * 40, backend="modal"), NOW).content(width)
    least = sum(column.width for column in columns(0)) + 2
    assert line.cell_length == header(width).cell_length
    assert line.cell_length <= max(width, least)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_cannot_leave_their_cell(name: str) -> None:
    line = RunLine(summary(name=name), NOW).content(120)
    assert line.cell_length == header(120).cell_length
    assert not escapes(line.plain)
    assert "\n" not in line.plain


def test_a_row_says_how_it_stands() -> None:
    text = RunLine(summary(), NOW).content(140).plain
    for part in (
        "● training",
        "my-lora",
        "abcd2345",
        "local",
        "250/1000",
        "0.1234",
        "1.5 s/step",
        "18m 45s",
        "10m",
    ):
        assert part in text
    ended = RunLine(summary(status=Status.FAILED), NOW).content(140).plain
    assert "✗ failed" in ended
    assert "s/step" not in ended  # a speed of the past would be taken for one of now


def test_narrow_tables_keep_what_matters() -> None:
    assert [c.key for c in columns(76)] == ["status", "name", "progress", "loss", "eta", "age"]
    assert [c.key for c in columns(40)] == ["status", "name"]
    assert {"id", "backend", "pace"} < {c.key for c in columns(116)}


def test_unknown_totals_and_losses() -> None:
    text = RunLine(summary(steps=0, step=7, loss=None), NOW).content(120).plain
    assert " 7 " in text
    assert "nan" in RunLine(summary(loss=float("nan")), NOW).content(120).plain
    assert cell_len(text) == header(120).cell_length


# The live table


async def test_the_cursor_stays_on_its_run_while_rows_change(tmp_path: Path) -> None:
    runs = FakeRuns(*many(60))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press(*["down"] * 30)
        assert table(app).chosen_id == "run00030"
        top = table(app).scroll_offset.y
        row = (
            screen_text(app)
            .splitlines()
            .index(next(x for x in screen_text(app).splitlines() if "number 30 " in x))
        )
        runs.update("run00030", loss=0.5555)
        await until(lambda: "0.5555" in screen_text(app))
        assert table(app).scroll_offset.y == top
        runs.add(summary("brandnew", name="brand new"))
        await until(lambda: len(app.feed.runs) == 61 and table(app).option_count == 61)
        await pilot.pause()
        assert table(app).chosen_id == "run00030"
        after = screen_text(app).splitlines()
        assert "number 30 " in after[row]  # not even by a line


async def test_a_new_run_shows_at_the_top(tmp_path: Path) -> None:
    runs = FakeRuns(*many(3))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        runs.add(summary("brandnew", name="brand new"))
        await until(lambda: "brand new" in screen_text(app))
        assert table(app).chosen_id == "run00000"
        await pilot.press("up")
        assert table(app).chosen_id == "brandnew"


async def test_a_run_that_goes_leaves_the_cursor_at_its_neighbour(tmp_path: Path) -> None:
    runs = FakeRuns(*many(5))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("end")
        del runs.runs["run00004"]
        runs.wake()
        await until(lambda: table(app).option_count == 4)
        assert table(app).chosen_id == "run00003"
        runs.runs.clear()
        runs.wake()
        await until(lambda: "No runs yet." in screen_text(app))


async def test_every_key_of_the_table(tmp_path: Path) -> None:
    app = make_app(FakeRuns(*many(60)), root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        for key, wanted in (
            ("j", 1), ("down", 2), ("k", 1), ("up", 0), ("G", 59), ("g", 0), ("end", 59), ("home", 0)
        ):  # fmt: skip
            await pilot.press(key)
            assert table(app).highlighted == wanted, key
        await pilot.press("pagedown")
        page = table(app).highlighted
        assert page is not None
        assert page > 5
        await pilot.press("pageup")
        assert table(app).highlighted == 0


async def test_details_follow_the_cursor(tmp_path: Path) -> None:
    runs = FakeRuns(
        summary(),
        summary("dead2345", name="dead", status=Status.INTERRUPTED, step=430, reason="its process is gone"),
    )
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert "abcd2345 · local" in screen_text(app)
        await pilot.press("down")
        assert "its process is gone · press r to resume" in screen_text(app)


async def test_ages_grow_without_news(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tui.screens.jobs._TICK", 0.02)
    now = [NOW]
    app = make_app(FakeRuns(summary(status=Status.FINISHED)), root=tmp_path, clock=lambda: now[0])
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert " 10m" in screen_text(app)
        now[0] += 3600 * 5
        await until(lambda: " 5h" in screen_text(app))


async def test_enter_and_click_open_the_monitor(tmp_path: Path) -> None:
    runs = FakeRuns(
        FakeRun(summary("first234", name="first"), story()), FakeRun(summary("second23", name="second"))
    )
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("down", "enter")
        await until(lambda: isinstance(app.screen, MonitorScreen))
        assert app.current_run == "second23"
        await pilot.press("1")
        await pilot.click(RunTable, offset=(5, 0))
        await until(lambda: isinstance(app.screen, MonitorScreen))
        assert app.current_run == "first234"


# Stop and resume


async def test_stop_asks_first_and_a_second_time_ends_it_at_once(tmp_path: Path) -> None:
    runs = FakeRuns(summary(name="[b]x[/]"))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("s")
        assert isinstance(app.screen, ConfirmScreen)
        assert "Stop [b]x[/]?" in screen_text(app)
        await pilot.press("escape")
        assert runs.local.asked == []
        await pilot.press("s", "y")
        await until(lambda: runs.local.asked == [("stop", "abcd2345")])
        await until(lambda: "◍ stopping" in screen_text(app))
        await pilot.press("s")
        assert "loses the steps since the last checkpoint" in " ".join(
            screen_text(app).replace("│", " ").split()
        )
        await pilot.press("y")
        await until(lambda: runs.local.asked[-1] == ("stop now", "abcd2345"))


async def test_resume(tmp_path: Path) -> None:
    runs = FakeRuns(summary(status=Status.INTERRUPTED))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("r")
        await until(lambda: runs.local.asked == [("resume", "abcd2345")])
        await until(lambda: "◌ starting" in screen_text(app))


async def test_keys_that_make_no_sense_do_nothing(tmp_path: Path) -> None:
    runs = FakeRuns(summary(status=Status.FINISHED))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("s", "r", "d")
        await pilot.pause()
        assert isinstance(app.screen, JobsScreen)
        assert runs.local.asked == []
        assert runs.launched == []


# The demo


@pytest.mark.parametrize("key", ["enter", "d"])
async def test_one_key_starts_the_demo(tmp_path: Path, key: str) -> None:
    runs = FakeRuns()
    app = make_app(runs, root=tmp_path, demo=FakeDemo())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert "Demo ready: press Enter or d to start." in screen_text(app)
        await pilot.press(key, key)  # a second press starts no second run
        await until(lambda: isinstance(app.screen, MonitorScreen))
        assert [request.config_path for request in runs.launched] == [FakeDemo().config]
        assert app.current_run == "newrun22"
        await pilot.press("1")
        assert not app.screen.query(DemoCard)


async def test_a_click_starts_the_demo(tmp_path: Path) -> None:
    runs = FakeRuns()
    app = make_app(runs, root=tmp_path, demo=FakeDemo())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.click(DemoCard)
        await until(lambda: runs.launched)


async def test_a_demo_that_does_not_start_invites_again(tmp_path: Path) -> None:
    runs = FakeRuns()
    runs.launch_failure = LaunchError("training needs torch: pip install 'fluxlora-tui[train]'")
    app = make_app(runs, root=tmp_path, demo=FakeDemo())
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("d")
        await until(lambda: "fluxlora-tui[train]" in screen_text(app))
        await until(lambda: "Demo ready" in screen_text(app))
        runs.launch_failure = None
        await pilot.press("d")
        await until(lambda: isinstance(app.screen, MonitorScreen))


async def test_without_a_demo_the_newcomer_is_told_what_to_do(tmp_path: Path) -> None:
    app = make_app(root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        text = screen_text(app)
        assert "No runs yet." in text
        assert "fluxlora-tui demo" in text
        assert "Demo ready" not in text
        assert "Start demo" not in text.splitlines()[-1]


# A new run


async def test_a_config_with_errors_is_not_started(tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("config:\n  name: x\n  process:\n  - type: sd_trainer\n", encoding="utf-8")
    runs = FakeRuns()
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        await pilot.press("n")
        app.screen.query_one(Input).value = str(config)
        await pilot.press("enter")
        await until(lambda: "✗ error" in screen_text(app))
        assert "bad.yaml:" in screen_text(app)
        assert "mend the file" in screen_text(app)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, NewRunScreen)
        await pilot.press("escape")
        assert runs.launched == []


async def test_warnings_take_a_second_enter(tmp_path: Path, monkeypatch) -> None:
    problems = [Problem("warning", "train.lr", "is [b]high[/]", 3, 1)]
    monkeypatch.setattr("tui.screens.new_run._problems", lambda path, changes: problems)
    runs = FakeRuns()
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        await pilot.press("n", *"a.yaml", "enter")
        await until(lambda: "a.yaml:3: train.lr: is [b]high[/]" in screen_text(app))
        assert runs.launched == []
        await pilot.press("enter")
        await until(lambda: runs.launched)
        assert runs.launched[0].config_path == Path("a.yaml")
        await until(lambda: isinstance(app.screen, MonitorScreen))


async def test_an_empty_or_missing_path_says_so(tmp_path: Path) -> None:
    app = make_app(root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        await pilot.press("n", "enter")
        assert "Type the path" in screen_text(app)
        await pilot.press(*"[b]x", "enter")
        await until(lambda: "[b]x: cannot be read: no such file" in screen_text(app))


@pytest.mark.parametrize("size", [(80, 24), (60, 18)])
async def test_hostile_rows_on_the_screen(tmp_path: Path, size: tuple[int, int]) -> None:
    rows = [
        summary(
            f"run{n:05}",
            name=text,
            reason=text,
            path=Path(f"/x/{text}"),
            status=Status.FAILED,
            backend=text[:9],
        )
        for n, text in enumerate(HOSTILE)
    ]
    app = make_app(FakeRuns(*rows), root=tmp_path)
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        for _ in rows:
            assert not escapes(screen_text(app))
            assert all(cell_len(line) <= size[0] for line in screen_text(app).splitlines())
            await pilot.press("down")
