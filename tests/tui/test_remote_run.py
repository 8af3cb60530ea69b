"""The monitor of a run that trains on Modal: its place, its cost, and every key that asks something of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from backend.events import CheckpointEvent, CommandEvent, PhaseEvent, Status, StatusEvent
from backend.launchers.base import LaunchError, RunFacts, RunFile
from backend.runs.view import RunView
from tests.tui.fakes import (
    HOSTILE,
    LOG,
    NOW,
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
from tui.screens.ask_number import NumberScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.jobs import JobsScreen
from tui.widgets import run_header
from tui.widgets.place_line import offline_line, place_line, progress_words
from tui.widgets.run_header import RunHeader

REMOTE = RunFacts(
    where="Modal, H100",
    remote=True,
    safe_to_close=True,
    rate=4.3,
    dollars=0.42,
    projected=0.8,
    budget=5.0,
    folder="flux-lora-models/my-lora",
)


def remote(path: Path = Path("/data/runs/my-lora"), facts: RunFacts = REMOTE, **fields) -> FakeRun:
    """A run on Modal that trains."""
    return FakeRun(summary(backend="modal", path=path, dollars=0.42, **fields), story(), LOG, facts=facts)


def launching(phase: PhaseEvent, facts: RunFacts, path: Path = Path("/data/runs/my-lora")) -> FakeRun:
    """A run on Modal whose launch is in a phase."""
    events = [StatusEvent(seq=1, t=NOW - 95, status=Status.QUEUED), replace(phase, seq=2)]
    row = summary(backend="modal", path=path, status=Status.QUEUED, step=0, loss=None, seconds_per_step=None)
    return FakeRun(row, events, b"checking\n", facts=facts)


def said(app) -> str:
    """All messages that are on the screen as toasts."""
    return "\n".join(note.message for note in app._notifications)


async def watch(pilot, wanted: str) -> None:
    """Open the monitor and wait for something on it."""
    await settled(pilot)
    await pilot.press("2")
    await until(lambda: wanted in screen_text(pilot.app))


# What is said of the place


@pytest.mark.parametrize("width", [0, 1, 7, 20, 40, 76, 116, 196])
@pytest.mark.parametrize("text", HOSTILE)
def test_the_lines_of_the_place_fit_any_width(width: int, text: str) -> None:
    place = replace(REMOTE, where=text, folder=text, link_why=text, link_since=NOW, online=False)
    for live in (True, False):
        for line in (place_line(place, live=live, width=width), offline_line(place, width)):
            assert line.cell_length <= max(width, 1)
            assert "\n" not in line.plain
            assert not escapes(line.plain)
    header = run_header.RunFacts(summary(), RunView(), "training", None, NOW, place=place)
    assert not escapes(header.first_line(max(width, 30)).plain)


def test_the_cost_is_said_as_far_as_it_is_known() -> None:
    line = place_line(REMOTE, live=True, width=120).plain
    assert line == "safe to close: yes · $0.42 so far · about $0.80 in the end · stops at $5.00"
    unknown = replace(REMOTE, safe_to_close=False, dollars=None)
    assert place_line(unknown, live=True, width=120).plain == "safe to close: not yet · up to $4.30/h"
    bare = replace(REMOTE, projected=None, budget=None)
    assert place_line(bare, live=True, width=120).plain == "safe to close: yes · $0.42 so far"
    ended = place_line(REMOTE, live=False, width=120).plain
    assert ended == "cost $0.42 · on Modal: flux-lora-models/my-lora"
    assert not place_line(RunFacts(where="this machine"), live=True, width=120)


def test_the_banner_never_says_that_an_unsafe_launch_goes_on_there(monkeypatch: pytest.MonkeyPatch) -> None:
    place = replace(REMOTE, online=False, link_since=NOW, link_why="no route to host")
    assert "the run continues on Modal; reconnecting (no route to host)" in offline_line(place, 120).plain
    assert "no route" not in offline_line(place, 70).plain
    assert "continues" not in offline_line(replace(place, safe_to_close=False), 120).plain


def test_phases_count_in_their_own_unit() -> None:
    assert progress_words("uploading", 3 << 20, 12 << 20) == "uploading 3.0 MiB/12.0 MiB"
    assert progress_words("caching latents", 3, 12) == "caching latents 3/12"
    assert progress_words("building image", 0, 0, 75) == "building image… 1m 15s"
    assert progress_words("building image", 0, 0) == "building image…"


async def test_a_run_on_modal_shows_where_and_what_it_costs(tmp_path: Path) -> None:
    app = make_app(FakeRuns(remote()), root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "safe to close: yes · $0.42 so far · about $0.80 in the end · stops at $5.00")
        assert "Modal, H100" in screen_text(app)
        assert app.screen.query_one(RunHeader).size.height == 4


async def test_a_run_of_this_machine_says_nothing_of_closing(tmp_path: Path) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(), LOG)), root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "step 250")
        assert "safe to close" not in screen_text(app)
        assert "Bring home" not in screen_text(app)
        await pilot.press("b")
        assert app.actions.downloads.get("abcd2345") is None


async def test_the_launch_shows_its_phases_and_when_it_is_safe(tmp_path: Path) -> None:
    unsafe = replace(REMOTE, safe_to_close=False, dollars=None, projected=None)
    runs = FakeRuns(launching(PhaseEvent(phase="uploading", done=3 << 20, total=12 << 20), unsafe))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "uploading 3.0 MiB/12.0 MiB")
        await until(lambda: "safe to close: not yet · up to $4.30/h" in screen_text(app))
        runs.say("abcd2345", PhaseEvent(phase="building image", t=NOW - 75))
        await until(lambda: "building image… 1m 15s" in screen_text(app))
        runs.runs["abcd2345"].facts = REMOTE
        await until(lambda: "safe to close: yes" in screen_text(app))
        await until(lambda: "you may close this computer" in said(app))


async def test_a_launch_that_is_safe_at_the_first_look_says_so_too(tmp_path: Path) -> None:
    fake = launching(PhaseEvent(phase="waiting for a GPU", t=NOW - 1), REMOTE)
    fake.summary = replace(fake.summary, created=NOW - 2)
    app = make_app(FakeRuns(fake), root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await watch(pilot, "safe to close: yes")
        assert "you may close this computer" in said(app)
    app = make_app(FakeRuns(remote()), root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await watch(pilot, "safe to close: yes")
        assert "you may close this computer" not in said(app)  # it has been so for long


async def test_an_outage_is_a_banner_and_no_status(tmp_path: Path) -> None:
    runs = FakeRuns(remote())
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "safe to close: yes")
        runs.runs["abcd2345"].facts = replace(REMOTE, online=False, link_since=NOW, link_why="no network")
        await until(lambda: "the run continues on Modal; reconnecting (no network)" in screen_text(app))
        assert "● training" in screen_text(app)
        runs.runs["abcd2345"].facts = REMOTE
        await until(lambda: "reconnecting" not in screen_text(app))


async def test_the_end_of_a_run_on_modal_says_what_it_cost(tmp_path: Path) -> None:
    run = remote(status=Status.FINISHED)
    run.events = story(250, 250, end=Status.FINISHED)
    app = make_app(FakeRuns(run), root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "cost $0.42 · on Modal: flux-lora-models/my-lora")


# Waiting for a GPU


def waiting(tmp_path: Path, since: float, gpu: str = "H100") -> FakeRun:
    """A run that waits for a GPU; its config is there."""
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "pictures").mkdir()
    (folder / "config.yaml").write_text(
        f"""\
config:
  name: my-lora
  process:
    - type: sd_trainer
      datasets: [{{folder_path: {tmp_path / "pictures"}}}]
      train: {{steps: 1000, lr: 1e-4}}
      model: {{name_or_path: some/model}}
      modal: {{gpu: [{gpu}]}}
""",
        encoding="utf-8",
    )
    return launching(PhaseEvent(phase="waiting for a GPU", t=NOW - since), REMOTE, folder)


async def test_other_gpus_are_offered_after_a_minute(tmp_path: Path) -> None:
    runs = FakeRuns(waiting(tmp_path, 80))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "waiting for a GPU… 1m 20s")
        await until(lambda: "press a to try A100-80GB and L40S too" in screen_text(app))
        await until(lambda: "a Add GPUs" in screen_text(app))
        await pilot.press("a")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        assert "Try A100-80GB and L40S too?" in screen_text(app)
        await pilot.press("n")
        assert runs.local.asked == []
        await pilot.press("a", "y")
        await until(lambda: ("stop now", "abcd2345") in runs.local.asked)
        runs.say("abcd2345", StatusEvent(status=Status.STOPPED))
        await until(lambda: ("resume", "abcd2345") in runs.local.asked)
        assert runs.local.overrides == ("modal.gpu=H100,A100-80GB,L40S",)


@pytest.mark.parametrize(("since", "gpu"), [(30, "H100"), (90, "H100, A100-80GB, L40S")])
async def test_nothing_is_offered_too_early_or_twice(tmp_path: Path, since: float, gpu: str) -> None:
    runs = FakeRuns(waiting(tmp_path, since, gpu))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "waiting for a GPU…")
        await until(lambda: "safe to close: yes" in screen_text(app))
        await pilot.press("a")
        assert "Add GPUs" not in screen_text(app)
        assert not isinstance(app.screen, ConfirmScreen)


# Asking the trainer


@pytest.mark.parametrize(
    ("key", "kind", "words"), [("v", "save", "save a checkpoint"), ("d", "sample", "draw samples")]
)
async def test_a_request_is_shown_until_the_trainer_answers(
    tmp_path: Path, key: str, kind: str, words: str
) -> None:
    runs = FakeRuns(FakeRun(summary(), story(), LOG))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "step 250")
        await pilot.press(key)
        await until(lambda: f"asked to {words}; it answers between two steps" in screen_text(app))
        (command,) = runs.local.commands
        assert command.kind == kind
        runs.say("abcd2345", CommandEvent(id="other", kind=kind, ok=True, detail="nobody here asked"))
        runs.say("abcd2345", CommandEvent(id=command.id, kind=kind, ok=True, detail="done at step 251"))
        await until(lambda: "done at step 251" in said(app))
        await until(lambda: "asked to" not in screen_text(app))
        assert "nobody here asked" not in said(app)


async def test_a_refusal_and_a_lost_request_are_shown(tmp_path: Path) -> None:
    runs = FakeRuns(FakeRun(summary(), story(), LOG))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "step 250")
        await pilot.press("d")
        await until(lambda: runs.local.commands)
        answer = CommandEvent(id=runs.local.commands[0].id, kind="sample", ok=False, detail="no [b]prompts")
        runs.say("abcd2345", answer)
        await until(lambda: "Could not draw samples: no [b]prompts" in said(app))
        runs.local.failure = LaunchError("the run cannot be reached")
        await pilot.press("v")
        await until(lambda: "the run cannot be reached" in said(app))
        await until(lambda: "asked to" not in screen_text(app))
        runs.local.failure = None
        await pilot.press("v")
        await until(lambda: len(runs.local.commands) == 2)
        runs.say("abcd2345", StatusEvent(status=Status.FINISHED))
        await until(lambda: "It ended before it could save a checkpoint." in said(app))


async def test_an_ended_run_is_not_asked(tmp_path: Path) -> None:
    runs = FakeRuns(FakeRun(summary(status=Status.STOPPED), story(end=Status.STOPPED), LOG))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "■ stopped")
        await pilot.press("v", "d", "S")
        await pilot.pause()
        assert runs.local.asked == []
        assert not isinstance(app.screen, ConfirmScreen)


async def test_extend_asks_for_the_total(tmp_path: Path) -> None:
    runs = FakeRuns(FakeRun(summary(), story(), LOG))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "step 250")
        await pilot.press("x")
        await until(lambda: isinstance(app.screen, NumberScreen))
        assert "It is at step 250 of 1000. It is told at once." in screen_text(app)
        await pilot.press(*"100", "enter")
        await until(lambda: "at least 251" in screen_text(app))
        await pilot.press("home", "shift+end", *"1500", "enter")
        await until(lambda: runs.local.commands)
        assert (runs.local.commands[0].kind, runs.local.commands[0].steps) == ("extend", 1500)
        await pilot.press("x")
        await until(lambda: isinstance(app.screen, NumberScreen))
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, NumberScreen))
        assert len(runs.local.commands) == 1


async def test_extend_of_a_finished_run_resumes_it(tmp_path: Path) -> None:
    run = FakeRun(summary(status=Status.FINISHED, step=250, steps=250), story(250, 250, end=Status.FINISHED))
    runs = FakeRuns(run)
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "✓ finished")
        await pilot.press("x")
        await until(lambda: "resumed with the new total" in " ".join(screen_text(app).split()))
        await pilot.press("home", "shift+end", *"400", "enter")
        await until(lambda: ("resume", "abcd2345") in runs.local.asked)
        assert runs.local.overrides == ("train.steps=400",)


async def test_stop_now_asks(tmp_path: Path) -> None:
    runs = FakeRuns(FakeRun(summary(), story(), LOG))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "step 250")
        await pilot.press("S")
        await until(lambda: "End my-lora at once?" in screen_text(app))
        assert "saving already" not in screen_text(app)
        await pilot.press("enter")  # the focus is on the answer that loses nothing
        await until(lambda: not isinstance(app.screen, ConfirmScreen))
        assert runs.local.asked == []
        await pilot.press("S", "y")
        await until(lambda: ("stop now", "abcd2345") in runs.local.asked)


# Deleting


async def test_delete_says_what_goes_and_goes_back_to_the_jobs(tmp_path: Path) -> None:
    run = remote(status=Status.STOPPED)
    run.events = story(end=Status.STOPPED)
    run.files = [
        RunFile(path="checkpoints/my-lora.safetensors", bytes=160 << 20, modified=0),
        RunFile(path="samples/1.png", bytes=1 << 20, modified=0),
    ]
    runs = FakeRuns(run, summary("other234", name="other"))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await until(lambda: "■ stopped" in screen_text(app))
        await pilot.press("D")
        await until(lambda: "Delete my-lora for good?" in screen_text(app))
        shown = " ".join(screen_text(app).split())
        assert "2 files (161.0 MiB), 1 LoRA among them" in shown
        assert "volume" in shown
        await pilot.press("n")
        await until(lambda: not isinstance(app.screen, ConfirmScreen))
        assert runs.local.asked == []
        await pilot.press("D")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(lambda: ("delete", "abcd2345") in runs.local.asked)
        await until(lambda: isinstance(app.screen, JobsScreen))
        await until(lambda: app.feed.get("abcd2345") is None)
        assert "other" in screen_text(app)


async def test_delete_from_the_jobs_and_not_while_it_trains(tmp_path: Path) -> None:
    runs = FakeRuns(summary(), summary("other234", name="other", status=Status.FAILED))
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("D")
        await pilot.pause()
        assert not isinstance(app.screen, ConfirmScreen)
        await pilot.press("down", "D")
        await until(lambda: "Delete other for good?" in screen_text(app))
        await pilot.press("y")
        await until(lambda: "other is deleted" in said(app))
        assert "other234" not in runs.runs


# Bringing files home


def with_files() -> FakeRun:
    run = remote()
    run.files = [
        RunFile(path="checkpoints/my-lora_000000100.safetensors", bytes=100, modified=0),
        RunFile(path="checkpoints/my-lora_000000200.safetensors", bytes=100, modified=0),
        RunFile(path="samples/1.png", bytes=50, modified=0),
        RunFile(path="config.yaml", bytes=10, modified=0),
    ]
    return run


async def test_a_download_shows_its_progress(tmp_path: Path) -> None:
    runs = FakeRuns(with_files())
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "safe to close: yes")
        assert "b Bring home" in screen_text(app)
        await pilot.press("b")
        await until(lambda: runs.local.downloading)
        assert ("download", "checkpoints/my-lora_000000200.safetensors", "samples/1.png") in runs.local.asked
        await until(lambda: "downloading: asking what there is" in screen_text(app))
        runs.local.downloading(40 << 20, 160 << 20)
        await until(lambda: "40.0 MiB of 160.0 MiB · 25 % · b cancels" in screen_text(app))
        runs.local.downloaded.set()
        await until(lambda: "my-lora_000000200.safetensors and 1 picture: in" in said(app))
        await until(lambda: "b cancels" not in screen_text(app))


async def test_a_download_can_be_cancelled_and_can_fail(tmp_path: Path) -> None:
    runs = FakeRuns(with_files())
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "safe to close: yes")
        await pilot.press("b")
        await until(lambda: runs.local.downloading)
        await pilot.press("b")
        await until(lambda: runs.local.cancelled)
        await until(lambda: "goes on where it ended" in said(app))
        await until(lambda: "b cancels" not in screen_text(app))
        runs.local.failure = LaunchError("the disk is full")
        await pilot.press("b")
        await until(lambda: "the disk is full" in said(app))
        runs.local.failure = None
        runs.runs["abcd2345"].files = []
        await pilot.press("b")
        await until(lambda: "nothing to bring home yet" in said(app))


async def test_a_download_goes_on_while_another_run_is_watched(tmp_path: Path) -> None:
    runs = FakeRuns(with_files(), FakeRun(summary("other234", name="other", backend="modal"), story(9)))
    runs.runs["other234"].facts = REMOTE
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await watch(pilot, "safe to close: yes")
        await pilot.press("b")
        await until(lambda: "b cancels" in screen_text(app))
        await pilot.press("right_square_bracket")
        await until(lambda: "step 9/1000" in screen_text(app))
        await until(lambda: "b cancels" not in screen_text(app))
        runs.local.downloaded.set()
        await until(lambda: app.actions.downloads.get("abcd2345") is None)


async def test_the_final_lora_is_the_one_that_comes_home(tmp_path: Path) -> None:
    run = with_files()
    run.files.append(RunFile(path="checkpoints/my-lora.safetensors", bytes=100, modified=0))
    run.events.append(CheckpointEvent(seq=999, step=250, path="checkpoints/my-lora.safetensors", final=True))
    runs = FakeRuns(run)
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await watch(pilot, "safe to close: yes")
        await pilot.press("b")
        await until(lambda: runs.local.downloading)
        assert runs.local.asked[-1] == ("download", "checkpoints/my-lora.safetensors", "samples/1.png")
        await asyncio.sleep(0)
