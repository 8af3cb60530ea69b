"""The pages about one run: overview, files, all pictures, comparison. Every key that they show is pressed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Input, OptionList

from backend.events import CommandEvent, Event, Status, StepEvent, ValidationEvent, WarningEvent
from backend.launchers.base import RunFacts, RunFile
from backend.runs.notes import read_notes
from tests.tui.fakes import (
    LOG,
    NOW,
    FakeRun,
    FakeRuns,
    escapes,
    make_app,
    open_monitor,
    sample,
    screen_text,
    story,
    summary,
    until,
    write_picture,
)
from tui.app import FluxLoraApp
from tui.runs.sample_grid import SampleGrid
from tui.screens.ask_text import TextScreen
from tui.screens.compare import CompareScreen
from tui.screens.config_editor import ConfigEditorScreen
from tui.screens.help import HelpScreen
from tui.screens.monitor import MonitorScreen
from tui.screens.pick_run import PickRunScreen
from tui.screens.run_files import RunFilesScreen
from tui.screens.run_overview import RunOverviewScreen
from tui.screens.samples import SamplesScreen
from tui.settings import Settings
from tui.system_viewer import viewer_command
from tui.widgets.picture import GraphicsPicture, HalfCellPicture
from tui.widgets.yaml_area import YamlArea

if TYPE_CHECKING:
    from textual.pilot import Pilot

CONFIG = "config:\n  name: my-lora\n  process:\n  - train:\n      lr: {lr}\n      steps: 1000\n"
PICTURES = [
    sample(step, index, prompt)
    for step in (0, 100, 200)
    for index, prompt in enumerate(("a fox in the snow", "a red house"))
]


def numbered(*events: Event) -> list[Event]:
    first = len(story()) + 1
    return [replace(event, seq=first + n, t=NOW - 300 + n) for n, event in enumerate(events)]


def make_folder(path: Path, lr: str, events: list[Event]) -> Path:
    from backend.events import encode

    (path / "state").mkdir(parents=True)
    (path / "config.yaml").write_text(CONFIG.format(lr=lr), encoding="utf-8")
    (path / "events.jsonl").write_bytes(b"".join(map(encode, events)))
    for one in PICTURES:
        write_picture(path / one.path, (32, 32), one.step)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> FakeRuns:
    events = [
        *story(250, samples=PICTURES),
        *numbered(
            *(
                ValidationEvent(step=20 * n, loss=loss)
                for n, loss in enumerate((0.5, 0.4, 0.45, 0.46, 0.5), 1)
            ),
            WarningEvent(message="the disk is \x1b[31mnearly full"),
            CommandEvent(id="x", kind="save", ok=True, detail="saved"),
        ),
    ]
    events = [replace(event, seq=n) for n, event in enumerate(events, 1)]
    events = [replace(event, gpu=0.97) if isinstance(event, StepEvent) else event for event in events]
    mine = make_folder(tmp_path / "runs" / "mine", "1e-4", events)
    other = make_folder(tmp_path / "runs" / "other", "2e-4", events[:200])
    (mine / "checkpoints").mkdir()
    (mine / "checkpoints" / "my-lora.safetensors").write_bytes(b"abc")
    files = [
        RunFile(path="checkpoints/my-lora.safetensors", bytes=3, modified=NOW),
        RunFile(path="samples/0_0.png", bytes=9_999_999, modified=NOW),
    ]
    place = RunFacts(where="this machine", rate=4.0, dollars=1.5, projected=3.25, budget=5.0)
    return FakeRuns(
        FakeRun(summary(path=mine, updated=NOW), events, LOG, files=files, facts=place),
        FakeRun(summary("efgh2345", name="the-other", status=Status.FINISHED, path=other), events[:200]),
    )


async def open_page(pilot: Pilot, key: str, kind: type) -> FluxLoraApp:
    app = pilot.app
    assert isinstance(app, FluxLoraApp)
    await open_monitor(pilot, "step 250")
    await pilot.press(key)
    await until(lambda: isinstance(app.screen, kind))
    await pilot.pause()
    return app


async def close(pilot: Pilot) -> None:
    await pilot.press("escape")
    await until(lambda: isinstance(pilot.app.screen, MonitorScreen))


# Overview


async def test_the_overview_tells_all_about_a_run(runs: FakeRuns, tmp_path: Path) -> None:
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await open_page(pilot, "O", RunOverviewScreen)
        text = screen_text(app)
        for part in (
            "● training",
            "250 of 1000 (25 %)",
            "left · done at about",
            "overfitting: The validation loss was lowest at step 40",
            "Take the checkpoint of about step 40",
            "stall: No step for",
            "began at step 0 of 1000 on cpu",
            "cpu · 97 % busy · 1.2 GiB at the peak",
            "save: saved",
            "the disk is",
        ):
            assert part in text, part
        assert not escapes(text)
        listing = app.screen.query_one("#timeline", OptionList)
        await pilot.press("g")
        assert listing.highlighted == 0
        await pilot.press("G")
        assert listing.highlighted == listing.option_count - 1
        count = listing.option_count
        runs.say("abcd2345", WarningEvent(message="one more"))
        await until(lambda: listing.option_count == count + 1)
        assert listing.highlighted == count  # it follows the newest
        await pilot.press("question_mark")
        await until(lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("escape")
        await close(pilot)


async def test_note_tags_and_archive_are_stored_with_the_run(runs: FakeRuns, tmp_path: Path) -> None:
    app = make_app(runs, root=tmp_path)
    folder = tmp_path / "runs" / "mine"
    async with app.run_test(size=(100, 40)) as pilot:
        await open_page(pilot, "O", RunOverviewScreen)
        await pilot.press("n")
        await until(lambda: isinstance(app.screen, TextScreen))
        await pilot.press(*"good", "enter")
        await until(lambda: read_notes(folder).note == "good")
        await until(lambda: "Note      good" in screen_text(app))
        await pilot.press("t")
        await until(lambda: isinstance(app.screen, TextScreen))
        await pilot.press(*"Best cat", "enter")
        await until(lambda: read_notes(folder).tags == ("best", "cat"))
        await until(lambda: "#best #cat" in screen_text(app))
        await pilot.press("n")
        await until(lambda: isinstance(app.screen, TextScreen))
        assert app.screen.query_one(Input).value == "good"
        await pilot.press("x", "escape")
        await pilot.press("a")
        await until(lambda: read_notes(folder).archived)
        assert read_notes(folder).note == "good"
        await pilot.press("a")
        await until(lambda: not read_notes(folder).archived)


# Files


async def test_files_are_listed_copied_and_summed(runs: FakeRuns, tmp_path: Path) -> None:
    app = make_app(runs, root=tmp_path)
    asked = runs.local.asked
    async with app.run_test(size=(120, 30)) as pilot:
        await open_page(pilot, "B", RunFilesScreen)
        await until(lambda: "my-lora.safetensors" in screen_text(app))
        assert "✓     checkpoints/my-lora" in screen_text(app)
        assert "–     samples/0_0.png" in screen_text(app)  # noqa: RUF001 - not here whole
        await pilot.press("c")
        await until(lambda: "sha256 ba7816bf8f01cfea" in screen_text(app))
        await pilot.press("y")
        await until(lambda: "copied" in screen_text(app))
        assert app.clipboard.endswith("my-lora.safetensors")
        await pilot.press("down", "c")
        await until(lambda: "bring it home first" in screen_text(app))
        await pilot.press("d")
        await until(lambda: isinstance(app.screen, TextScreen))
        await pilot.press("enter")
        await until(lambda: runs.local.downloading is not None)
        assert asked[-1] == ("download", "samples/0_0.png")
        runs.local.downloading(500_000, 1_000_000)
        await until(lambda: "50 % · x cancels" in screen_text(app))
        await pilot.press("x")
        await until(lambda: runs.local.cancelled)
        await until(lambda: app.actions.downloads.get("abcd2345") is None)
        runs.local.downloaded.set()
        await pilot.press("a")
        await until(lambda: isinstance(app.screen, TextScreen))
        await pilot.press("enter")
        await until(lambda: len(asked[-1]) == 3)
        await pilot.press("r")
        await close(pilot)


async def test_some_files_are_marked_and_brought_home(runs: FakeRuns, tmp_path: Path) -> None:
    runs.update("abcd2345", backend="modal")
    asked, folder = runs.local.asked, runs.runs["abcd2345"].summary.path
    runs.runs["abcd2345"].files += [
        RunFile(path="samples/100_0.png", bytes=10, modified=NOW),
        RunFile(path="samples/100_1.png", bytes=10, modified=NOW),
    ]
    runs.local.downloaded.set()
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_page(pilot, "B", RunFilesScreen)
        await until(lambda: "4 files" in screen_text(app))
        await pilot.press("down", "space", "space", "up", "space")
        await until(lambda: "1 marked" in screen_text(app))
        await pilot.press("end", "space")
        await until(lambda: "2 marked" in screen_text(app))
        assert screen_text(app).count("● ") == 2
        (folder / "samples/100_1.png").write_bytes(b"0123456789")  # this one comes
        await pilot.press("d")
        await until(lambda: asked[-1] == ("download", "samples/0_0.png", "samples/100_1.png"))
        await until(lambda: "1 marked" in screen_text(app))


async def test_a_sum_is_known_before_the_file_is_here_and_compared_after(
    runs: FakeRuns, tmp_path: Path
) -> None:
    runs.update("abcd2345", backend="modal")
    right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    runs.runs["abcd2345"].files[:] = [
        RunFile(path="checkpoints/my-lora.safetensors", bytes=3, modified=NOW, sha256=right),
        RunFile(path="checkpoints/other.safetensors", bytes=3, modified=NOW, sha256=right),
        RunFile(path="samples/none.png", bytes=3, modified=NOW, sha256="ab" * 32),
    ]
    (runs.runs["abcd2345"].summary.path / "checkpoints" / "other.safetensors").write_bytes(b"abd")
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 30)) as pilot:
        await open_page(pilot, "B", RunFilesScreen)
        await until(lambda: "none.png" in screen_text(app))
        await pilot.press("c")
        await until(lambda: f"{right}, as on Modal" in screen_text(app))
        await pilot.press("down", "c")
        await until(lambda: "is not that of the file on Modal" in screen_text(app))
        await pilot.press("down", "c")
        await until(lambda: "ab" * 32 in screen_text(app) and "checked when" in screen_text(app))


@pytest.mark.parametrize("width", [80, 44])
async def test_long_paths_show_their_ends(runs: FakeRuns, tmp_path: Path, width: int) -> None:
    path = f"checkpoints/{'long-' * 20}000000250.safetensors"
    fake = next(iter(runs.runs.values()))
    fake.files = [RunFile(path=path, bytes=1, modified=NOW)] * 30  # more than fit: there is a scroll bar
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(width, 20)) as pilot:
        await open_page(pilot, "B", RunFilesScreen)
        await until(lambda: "…" in screen_text(app))
        assert "50.safetensors" in screen_text(app)
        await pilot.resize_terminal(width + 20, 20)
        await until(lambda: "000000250.safetensors" in screen_text(app))


async def test_files_of_a_run_on_modal_come_into_its_own_folder(runs: FakeRuns, tmp_path: Path) -> None:
    runs.update("abcd2345", backend="modal")
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_page(pilot, "B", RunFilesScreen)
        await until(lambda: "my-lora.safetensors" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: ("download", "checkpoints/my-lora.safetensors") in runs.local.asked)


# Pictures


def test_the_grid_flips_between_two_steps_and_keeps_its_choice() -> None:
    grid = SampleGrid(PICTURES)
    assert (grid.steps, grid.prompts, grid.step) == ([0, 100, 200], [0, 1], 2)
    assert grid.flip()
    assert grid.step == 1
    assert grid.flip()
    assert grid.step == 2
    grid.move(-2, 1)
    assert grid.chosen == PICTURES[1]
    assert grid.flip()
    assert grid.step == 2  # the one looked at before
    grid.flip()
    grid.show([*PICTURES, sample(300)])
    assert grid.step == 0  # it stays where it was
    grid.move(9, 0)
    grid.show([*PICTURES, sample(300), sample(400)])
    assert grid.steps[grid.step] == 400  # and follows the newest
    assert grid.chosen is None  # that prompt has not been drawn yet
    assert grid.baseline == PICTURES[1]
    assert grid.nearest(160, 0) == PICTURES[4]
    assert not SampleGrid([sample(5)]).flip()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 1), (2, 2), (9, 9)])
def test_the_chosen_picture_is_always_in_the_window(rows: int, columns: int) -> None:
    grid = SampleGrid(PICTURES)
    for _ in range(4):
        steps, prompts = grid.window(rows, columns)
        assert grid.step in steps
        assert grid.prompt in prompts
        assert len(steps) == min(rows, 3)
        grid.move(-1, 1)


async def test_pictures_are_flipped_enlarged_and_set_beside_others(
    runs: FakeRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "1")
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await open_page(pilot, "I", SamplesScreen)
        await until(lambda: "seed 42" in screen_text(app))

        def says(*parts: str) -> bool:
            return all(part in screen_text(app) for part in parts)

        assert says("a fox in the snow", "step 200 (3/3)", "prompt 1/2", "seed 42", "step 100")
        await pilot.press("space")
        await until(lambda: says("step 100 (2/3)"))
        await pilot.press("space")
        await until(lambda: says("step 200 (3/3)"))
        await pilot.press("l")
        await until(lambda: says("a red house", "seed 43"))
        await pilot.press("up", "up")
        await until(lambda: says("step 0 (1/3)"))
        await pilot.press("j", "h")
        await until(lambda: says("step 100 (2/3)", "seed 42"))
        await pilot.press("g")
        await until(lambda: says("step 0 (1/3)"))
        await pilot.press("G")
        await until(lambda: says("step 200 (3/3)"))
        cards = len(app.screen.query("GridCard"))
        await pilot.press("plus", "plus")
        await until(lambda: len(app.screen.query("GridCard")) < cards)
        await pilot.press("minus", "minus", "minus")
        await until(lambda: len(app.screen.query("GridCard")) >= cards)
        await pilot.press("z")
        await until(lambda: len(app.screen.query("GridCard")) == 1)
        await pilot.press("enter")
        await until(lambda: len(app.screen.query("GridCard")) > 1)
        await pilot.press("b")
        await until(lambda: says("baseline: step 0"))
        await pilot.press("b")
        await until(lambda: not says("baseline"))
        await pilot.press("r")
        await until(lambda: isinstance(app.screen, PickRunScreen))
        await pilot.press("enter")
        await until(lambda: says("the-other: none"))  # its events end before its first picture
        await pilot.press("r")
        await until(lambda: not says("the-other"))
        await pilot.press("o")
        await until(lambda: says("no desktop here"))
        assert app.clipboard.endswith("200_0.png")
        await pilot.press("y")
        await until(lambda: app.clipboard == "a fox in the snow\nseed 42")
        await close(pilot)


@pytest.mark.thorough  # in some runs of the whole suite it never got its picture; alone it always does
async def test_a_large_picture_is_drawn_by_the_terminal_itself_where_it_can(
    runs: FakeRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.terminal._is_tty", lambda: True)
    app = make_app(runs, root=tmp_path, settings=Settings(images="sixel"))
    async with app.run_test(size=(120, 40)) as pilot:
        await open_page(pilot, "I", SamplesScreen)
        await until(lambda: len(app.screen.query(HalfCellPicture)) == 6, 60)
        assert not app.screen.query(GraphicsPicture)  # of many, half cells

        def drawn() -> list[tuple[int, int]]:
            pictures = [picture._picture.image for picture in app.screen.query(GraphicsPicture)]
            return [picture.size for picture in pictures if picture is not None]

        await pilot.press("z")
        # As large as there is room, though the file has 32 pixels; it is decoded again if room comes later.
        await until(lambda: len(drawn()) == 1 and min(drawn()[0]) > 32 * 8, 60)
        await until(lambda: not app.screen.query(HalfCellPicture), 60)
        await pilot.press("b")
        await until(lambda: len(drawn()) == 2, 60)
        await pilot.press("b", "z")
        await until(lambda: len(app.screen.query(HalfCellPicture)) == 6, 60)
        await until(lambda: not app.screen.query(GraphicsPicture), 60)
        await close(pilot)


def test_pictures_are_opened_only_where_there_is_a_desktop() -> None:
    path = Path("/x/a.png")
    assert viewer_command(path, {"SSH_TTY": "x"}, "darwin") is None
    assert viewer_command(path, {}, "darwin") == ["open", str(path)]
    assert viewer_command(path, {}, "win32") == ["explorer", str(path)]
    assert viewer_command(path, {}, "linux") is None


# Comparison


async def test_two_runs_are_compared(runs: FakeRuns, tmp_path: Path) -> None:
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await open_page(pilot, "C", PickRunScreen)
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, MonitorScreen))
        await pilot.press("C")
        await until(lambda: isinstance(app.screen, PickRunScreen))
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, CompareScreen))
        await until(lambda: "the configs differ in 1 key" in screen_text(app))
        text = screen_text(app)
        for part in ("a ● training", "b ✓ finished", "train.lr", "1e-4", "2e-4"):
            assert part in text, part
        await pilot.press("Y")
        await until(lambda: "train.lr\t" in app.clipboard)
        (Path(runs.runs["efgh2345"].summary.path) / "config.yaml").unlink()
        await pilot.press("r")
        await until(lambda: "cannot be read" in screen_text(app))
        await pilot.press("tab", "shift+tab", "escape")
        await until(lambda: isinstance(app.screen, MonitorScreen))


async def test_a_copy_of_the_config_is_edited_to_restart(runs: FakeRuns, tmp_path: Path) -> None:
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await open_page(pilot, "R", ConfigEditorScreen)
        await until(lambda: "1e-4" in app.screen.query_one(YamlArea).text)
        assert "1e-4" in (tmp_path / "drafts" / "my-lora.yaml").read_text(encoding="utf-8")
