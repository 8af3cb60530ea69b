from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len

from backend.events import (
    AttemptEvent,
    CheckpointEvent,
    ErrorEvent,
    PhaseEvent,
    Status,
    StatusEvent,
    StepEvent,
    WarningEvent,
)
from backend.launchers.base import RunState
from backend.runs.view import RunView
from tests.tui.fakes import (
    HOSTILE,
    LOG,
    NOW,
    FakeRun,
    FakeRuns,
    escapes,
    make_app,
    open_monitor,
    sample,
    screen_text,
    settled,
    story,
    summary,
    until,
    write_picture,
)
from tui.screens.confirm import ConfirmScreen
from tui.screens.jobs import JobsScreen
from tui.screens.monitor import MonitorScreen
from tui.widgets.chart import Chart
from tui.widgets.log_pane import LogPane
from tui.widgets.run_header import RunFacts, fact, join_facts
from tui.widgets.samples import Samples


def curve(app) -> list[tuple[float, float]]:
    """The points of the loss curve, once they are loaded."""
    loss = app.screen.query_one(Chart).series("loss")
    loss.load(0.9)
    return list(zip(loss.points.x.tolist(), loss.points.y.tolist(), strict=True))


def marks(app) -> list[tuple[float, str]]:
    return [(mark.x, mark.kind) for mark in app.screen.query_one(Chart).marks]


def step(number: int, loss: float = 0.5) -> StepEvent:
    return StepEvent(step=number, loss=loss, smoothed=loss, lr=1e-4, seconds=1.0, memory=1 << 30)


# The header


def facts(
    *events, status: str = "training", reason: str | None = None, saved: int | None = None, **row
) -> RunFacts:
    view = RunView()
    view.apply(events)
    return RunFacts(summary(**row), view, status, reason, NOW, saved)


@pytest.mark.parametrize("width", [0, 1, 7, 20, 40, 56, 76, 116, 196])
@pytest.mark.parametrize("name", HOSTILE)
def test_the_header_fits_any_width(width: int, name: str) -> None:
    events = story(3)
    events.append(WarningEvent(seq=99, message=name))
    for status in (*Status, "a-newer-status"):
        header = facts(*events, status=status, reason=name, name=name)
        for line in (header.first_line, header.progress_line, header.numbers_line, header.last_line):
            text = line(width)
            assert text.cell_length <= max(width, 30)
            assert "\n" not in text.plain
            assert not escapes(text.plain)


def test_the_header_counts_the_phase_before_there_are_steps() -> None:
    header = facts(
        AttemptEvent(seq=1, attempt=1, step=0, steps=500, device="cpu"),
        PhaseEvent(seq=2, phase="caching latents", done=3, total=12),
        status="starting",
    )
    assert "caching latents 3/12 · 25 %" in header.progress_line(100).plain


def test_the_header_names_the_phase_between_steps() -> None:
    header = facts(*story(10), PhaseEvent(seq=99, phase="sampling", done=1, total=2))
    line = header.progress_line(100).plain
    assert "step 10/1000" in line
    assert "sampling 1/2" in line


def test_an_interrupted_run_says_what_to_do() -> None:
    header = facts(*story(430), status="interrupted", reason="its process is gone", saved=400)
    assert header.last_line(80).plain == "its process is gone · press r to resume from step 400"


def test_what_to_do_is_said_even_where_the_reason_is_long() -> None:
    header = facts(*story(3), status="failed", reason="x" * 500, saved=3)
    assert header.last_line(60).plain.endswith("… · press r to resume from step 3")


def test_a_finished_run_says_where_its_lora_is() -> None:
    header = facts(
        *story(9),
        CheckpointEvent(seq=99, step=9, path="checkpoints/my-lora.safetensors", final=True),
        status="finished",
    )
    assert "LoRA: " in header.last_line(100).plain
    assert header.last_line(100).plain.endswith("my-lora.safetensors")


def test_facts_of_high_rank_go_first() -> None:
    line = [fact("must"), fact("may", 1), fact("might", 2)]
    assert join_facts(line, 100).plain == "must · may · might"
    assert join_facts(line, 12).plain == "must · may"
    assert join_facts(line, 5).plain == "must"
    assert join_facts(line, 3).cell_length == 3


# Following


async def test_a_running_run_shows_everything_and_goes_on(tmp_path: Path) -> None:
    runs = FakeRuns(FakeRun(summary(), story(250), LOG))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await open_monitor(pilot, "step 250/1000")
        for part in (
            "● training",
            "my-lora",
            "cpu",
            "25 %",
            "18m 45s left",
            "1.5 s/step",
            "1.2 GiB",
            "10m 00s elapsed",
        ):
            assert part in screen_text(app), part
        await until(lambda: "saved my-lora_000000200" in screen_text(app))
        assert len(curve(app)) == 250
        assert marks(app) == [(100, "checkpoint"), (200, "checkpoint")]
        runs.say("abcd2345", step(251, 0.1111), log=b"a new line\n")
        await until(lambda: "step 251/1000" in screen_text(app))
        await until(lambda: "a new line" in screen_text(app))
        assert curve(app)[-1] == (251, 0.1111)


async def test_a_finished_run_shows_everything(tmp_path: Path) -> None:
    runs = FakeRuns(
        FakeRun(summary(status=Status.FINISHED, step=250), story(250, 250, end=Status.FINISHED), LOG)
    )
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await open_monitor(pilot, "✓ finished", "step 250/250 · 100 %")
        await until(lambda: "saved my-lora_000000200" in screen_text(app))
        assert len(curve(app)) == 250
        assert " left" not in screen_text(app).splitlines()[2]


async def test_a_dead_run_is_interrupted_though_its_events_say_training(tmp_path: Path) -> None:
    truth = RunState(status=Status.INTERRUPTED, reason="its process is gone")
    dead = FakeRun(summary(status=Status.INTERRUPTED, reason=truth.reason), story(250), LOG, truth)
    app = make_app(FakeRuns(dead), root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_monitor(pilot, "! interrupted")
        await until(lambda: "its process is gone · press r to resume from step 200" in screen_text(app))


async def test_a_run_that_dies_while_watched(tmp_path: Path) -> None:
    runs = FakeRuns(FakeRun(summary(), story(250), LOG))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_monitor(pilot, "● training")
        runs.runs["abcd2345"].truth = RunState(status=Status.INTERRUPTED, reason="its process is gone")
        runs.update("abcd2345", status=Status.INTERRUPTED)
        await until(lambda: "! interrupted" in screen_text(app))


async def test_resume_goes_on_and_takes_the_curve_back(tmp_path: Path) -> None:
    truth = RunState(status=Status.INTERRUPTED, reason="its process is gone")
    runs = FakeRuns(FakeRun(summary(status=Status.INTERRUPTED), story(250), LOG, truth))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await open_monitor(pilot, "press r to resume from step 200")
        await pilot.press("r")
        await until(lambda: ("resume", "abcd2345") in runs.local.asked)
        await until(lambda: "press r to resume" not in screen_text(app))
        runs.say(
            "abcd2345",
            StatusEvent(status=Status.STARTING),
            AttemptEvent(attempt=2, step=200, steps=1000, device="cpu"),
            StatusEvent(status=Status.TRAINING),
            PhaseEvent(phase="training", done=200, total=1000),
            step(201, 0.25),
            log=b"resumed after step 200\n",
        )
        runs.update("abcd2345", status=Status.TRAINING)
        await until(lambda: "step 201/1000" in screen_text(app))
        await until(lambda: "resumed after step 200" in screen_text(app))
        assert "● training" in screen_text(app)
        assert curve(app)[-2:] == [(200, pytest.approx(curve(app)[-2][1])), (201, 0.25)]
        assert len(curve(app)) == 201
        assert (200, "resume") in marks(app)
        text = app.screen.query_one(LogPane).store
        assert text.stop - text.first == LOG.count(b"\n") + 1  # the log was not read twice


async def test_a_stopping_run_says_so(tmp_path: Path) -> None:
    runs = FakeRuns(FakeRun(summary(), story(250), LOG))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("2", "s")
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("y")
        await until(lambda: "◍ stopping" in screen_text(app))
        runs.say("abcd2345", StatusEvent(status=Status.STOPPED, reason="asked to"))
        runs.update("abcd2345", status=Status.STOPPED)
        await until(lambda: "■ stopped" in screen_text(app))
        await until(lambda: "press r to resume from step 250" in screen_text(app))  # stopping saves


async def test_a_failed_run_says_why(tmp_path: Path) -> None:
    events = [
        *story(5),
        ErrorEvent(seq=98, message="the loss is nan"),
        StatusEvent(seq=99, status=Status.FAILED),
    ]
    runs = FakeRuns(FakeRun(summary(status=Status.FAILED, step=5), events, LOG))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_monitor(pilot, "✗ failed", "the loss is nan")


async def test_warnings_show_while_it_goes_on(tmp_path: Path) -> None:
    runs = FakeRuns(FakeRun(summary(), [*story(5), WarningEvent(seq=99, message="a [b]corrupt[/] picture")]))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_monitor(pilot, "! a [b]corrupt[/] picture")


async def test_a_launcher_that_fails_is_a_toast(tmp_path: Path) -> None:
    runs = FakeRuns(FakeRun(summary(), story(5), LOG))
    runs.local.failure = OSError("[/] the network is down")
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await open_monitor(pilot, "[/] the network is down")
        await until(lambda: "saved my-lora" in screen_text(app))  # the log goes on all the same


async def test_a_long_history_is_taken_in_portions(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tui.runs.follower._PORTION", 100)
    runs = FakeRuns(FakeRun(summary(), story(5_000, 10_000)))
    app = make_app(runs, root=tmp_path)
    sizes = []
    take = MonitorScreen._take_events
    monkeypatch.setattr(
        MonitorScreen,
        "_take_events",
        lambda self, f, events: (sizes.append(len(events)), take(self, f, events)),
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await open_monitor(pilot, "step 5000/")
        assert len(curve(app)) == 5_000
        assert max(sizes) == 100


async def test_no_runs_says_what_to_do_and_the_first_one_opens(tmp_path: Path) -> None:
    runs = FakeRuns()
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("2", "s", "r", "left_square_bracket", "right_square_bracket", "z", "z", "i", "i")
        assert "No run to watch yet" in screen_text(app)
        runs.add(FakeRun(summary(name="the first"), story(3)))
        await until(lambda: "the first" in screen_text(app))
        await until(lambda: "step 3/1000" in screen_text(app))


# Keys


def three() -> FakeRuns:
    return FakeRuns(
        FakeRun(
            summary("newest23", name="newest", status=Status.FINISHED),
            story(3, end=Status.FINISHED),
            b"log newest\n",
        ),
        FakeRun(summary("middle23", name="middle"), story(7), b"log middle\n"),
        FakeRun(
            summary("oldest23", name="oldest", status=Status.STOPPED),
            story(5, end=Status.STOPPED),
            b"log oldest\n",
        ),
    )


async def test_the_run_that_goes_on_is_opened_first_and_brackets_walk(tmp_path: Path) -> None:
    app = make_app(three(), root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await open_monitor(pilot, "step 7/1000")
        await pilot.press("right_square_bracket")
        await until(lambda: "step 5/1000" in screen_text(app) and "log oldest" in screen_text(app))
        assert len(curve(app)) == 5
        assert "log middle" not in screen_text(app)
        await pilot.press("right_square_bracket")  # there is none further
        assert app.current_run == "oldest23"
        await pilot.press("left_square_bracket", "left_square_bracket")
        await until(lambda: "step 3/1000" in screen_text(app) and "log newest" in screen_text(app))
        assert len(curve(app)) == 3
        await pilot.press("left_square_bracket")
        assert app.current_run == "newest23"


async def test_a_run_left_behind_sends_nothing_more(tmp_path: Path) -> None:
    runs = three()
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await open_monitor(pilot, "step 7/1000")
        await pilot.press("right_square_bracket")
        await until(lambda: "log oldest" in screen_text(app))
        runs.say("middle23", step(8), log=b"late line\n")
        await pilot.pause()
        assert "late line" not in screen_text(app)
        assert len(curve(app)) == 5


async def test_zoom_leaves_one_pane_and_comes_back(tmp_path: Path) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(9), LOG)), root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("2", "i")
        await until(lambda: "step 9/1000" in screen_text(app))
        for pane in (LogPane, Chart, Samples):
            app.screen.query_one(pane).focus()
            await pilot.press("z")
            shown = [p for p in (LogPane, Chart, Samples) if app.screen.query_one(p).size.area]
            assert shown == [pane]
            assert "step 9/1000" in screen_text(app)  # the header stays
            await pilot.press("z")
            assert all(app.screen.query_one(p).size.area for p in (LogPane, Chart, Samples))
        await pilot.press("z", "escape")
        assert all(app.screen.query_one(p).size.area for p in (LogPane, Chart, Samples))
        assert isinstance(app.screen, MonitorScreen)
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, JobsScreen))


async def test_zoom_from_the_search_line_keeps_its_pane(tmp_path: Path) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(9), LOG)), root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("2", "slash", *"step", "enter", "z")
        assert app.screen.query_one(LogPane).size.area
        assert not app.screen.query_one(Chart).size.area


@pytest.mark.parametrize(("size", "side_by_side"), [((80, 24), False), ((99, 30), False), ((100, 30), True)])
async def test_panes_stack_when_it_is_narrow(
    tmp_path: Path, size: tuple[int, int], side_by_side: bool
) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(9), LOG)), root=tmp_path)
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("2")
        await pilot.pause()
        log, chart = app.screen.query_one(LogPane).region, app.screen.query_one(Chart).region
        assert (log.y == chart.y) == side_by_side
        assert (log.x == chart.x) != side_by_side


async def test_samples_show_where_there_is_room_and_a_key_overrides(tmp_path: Path) -> None:
    samples = [sample(100), sample(100, 1, "[b]two[/]")]
    for item in samples:
        write_picture(tmp_path / "run" / item.path)
    runs = FakeRuns(FakeRun(summary(path=tmp_path / "run"), story(250, samples=samples), LOG))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await open_monitor(pilot, "Samples of step 100")
        await until(lambda: "▀" in screen_text(app))
        assert "[b]two[/]" in screen_text(app)
        await pilot.resize_terminal(80, 24)
        await until(lambda: "Samples" not in screen_text(app))
        await pilot.press("i")
        await until(lambda: "Samples of step 100" in screen_text(app))
        app.screen.query_one(Samples).focus()
        await pilot.press("i")
        await until(lambda: "Samples" not in screen_text(app))
        assert isinstance(app.focused, LogPane)  # the focus is never in a hidden pane


async def test_the_focus_leaves_samples_that_a_resize_hides(tmp_path: Path) -> None:
    runs = FakeRuns(FakeRun(summary(), story(250, samples=[sample(100)]), LOG))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await open_monitor(pilot, "Samples of step 100")
        app.screen.query_one(Samples).focus()
        await pilot.resize_terminal(80, 24)
        await until(lambda: isinstance(app.focused, LogPane))


async def test_pictures_can_be_turned_off(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('images = "off"\n', encoding="utf-8")
    runs = FakeRuns(FakeRun(summary(), story(250, samples=[sample(100)]), LOG))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("2", "i")
        await until(lambda: 'images = "off"' in screen_text(app))
        assert "Samples" not in screen_text(app)


async def test_hostile_text_in_every_part(tmp_path: Path) -> None:
    for index, text in enumerate(HOSTILE):
        events = story(5, samples=[sample(5, 0, text)])
        events += [WarningEvent(seq=98, message=text), PhaseEvent(seq=99, phase=text or "x", detail=text)]
        log = text.encode("utf-8", "surrogateescape") + b"\n"
        fake = FakeRun(summary(name=text, path=Path(f"/x/{text}".replace("\0", ""))), events, log)
        app = make_app(FakeRuns(fake), root=tmp_path / str(index))
        async with app.run_test(size=(120, 44)) as pilot:
            await settled(pilot)
            await pilot.press("2", "i")
            await until(lambda: app.screen.query_one(Samples).has_samples)  # noqa: B023
            await pilot.pause()
            assert not escapes(screen_text(app)), repr(text)
            assert all(cell_len(line) <= 120 for line in screen_text(app).splitlines())
