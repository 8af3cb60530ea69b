"""The workspace's screen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backend.events import Status
from backend.launchers.modal import errand
from backend.launchers.modal.remote import OfflineError
from tests.tui.fakes import (
    HOSTILE,
    NOW,
    FakeCloud,
    FakeDemo,
    FakeRuns,
    escapes,
    make_app,
    screen_text,
    settled,
    summary,
    until,
)
from tui import cloud as cloud_module
from tui.cloud import CloudError, CloudRun, Leftover, ModalCloud
from tui.screens import cloud as screen_module
from tui.screens.cloud import CloudScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.monitor import MonitorScreen
from tui.widgets.cloud_table import CloudLine, CloudTable

RUNS = (
    CloudRun("abcd2345", "my-lora", "my-lora", "training", 250, 1000, "ap-1", True, NOW - 600, NOW - 70),
    CloudRun("else2345", "colleague", "colleague", "training", 40, 2000, "ap-2", False, NOW - 9000, NOW),
    CloudRun("lost2345", "[b]lost[/b]", "lost", "training", 12, 500, "", False, NOW - 90_000, NOW - 80_000),
    CloudRun("done2345", "finished-one", "done", "finished", 800, 800, "", True, NOW - 99_000, NOW - 95_000),
)


def said(app) -> str:
    return "\n".join(note.message for note in app._notifications)


async def open_cloud(pilot, wanted: str) -> None:
    await settled(pilot)
    await pilot.press("3")
    await until(lambda: wanted in screen_text(pilot.app))


async def test_it_lists_what_is_in_the_workspace(tmp_path: Path) -> None:
    cloud = FakeCloud(*RUNS)
    app = make_app(root=tmp_path, cloud=lambda: cloud)
    async with app.run_test(size=(120, 36)) as pilot:
        await open_cloud(pilot, "my-workspace")
        lines = screen_text(app).splitlines()
        assert any("● training" in line and "250/1000" in line and "here" in line for line in lines)
        assert any("colleague" in line and "at work" in line and "elsewhere" in line for line in lines)
        assert any("? training" in line and "[b]lost[/b]" in line and "none" in line for line in lines)
        assert any("✓ finished" in line for line in lines)
        assert "4 runs" in screen_text(app)
        assert isinstance(app.focused, CloudTable)


@pytest.mark.parametrize("width", [1, 20, 40, 76, 116, 196])
@pytest.mark.parametrize("text", HOSTILE)
def test_a_row_fits_any_width(width: int, text: str) -> None:
    line = CloudLine(CloudRun("abcd2345", text, text, text), NOW).content(width)
    assert line.cell_length <= max(width, 62)
    assert "\n" not in line.plain
    assert not escapes(line.plain)


async def test_enter_opens_what_is_here_and_takes_up_what_is_not(tmp_path: Path) -> None:
    cloud = FakeCloud(*RUNS)
    runs = FakeRuns(summary())
    app = make_app(runs, root=tmp_path, cloud=lambda: cloud)
    async with app.run_test(size=(120, 36)) as pilot:
        await open_cloud(pilot, "my-workspace")
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, MonitorScreen))
        assert app.current_run == "abcd2345"
        assert "adopt" not in " ".join(cloud.asked)
        await pilot.press("3")
        await until(lambda: isinstance(app.screen, CloudScreen))
        cloud.answering.clear()
        await pilot.press("down", "enter")
        await until(lambda: "taking the run up" in screen_text(app))
        runs.add(summary("else2345", name="colleague", backend="modal"))
        cloud.answering.set()
        await until(lambda: app.current_run == "else2345")
        await until(lambda: isinstance(app.screen, MonitorScreen))
        assert "adopt else2345" in cloud.asked


async def test_a_run_that_cannot_be_taken_up(tmp_path: Path) -> None:
    cloud = FakeCloud(RUNS[1])
    app = make_app(root=tmp_path, cloud=lambda: cloud)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_cloud(pilot, "my-workspace")
        cloud.failure = CloudError("the run is gone")
        await pilot.press("enter")
        await until(lambda: "the run is gone" in said(app))
        assert isinstance(app.screen, CloudScreen)
        assert "taking" not in screen_text(app)


async def test_without_an_answer_it_says_so_and_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen_module, "_SLOW", 0.1)
    monkeypatch.setattr(screen_module, "_TICK", 0.05)
    cloud = FakeCloud(*RUNS)
    cloud.answering.clear()
    app = make_app(root=tmp_path, cloud=lambda: cloud)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_cloud(pilot, "Asking Modal…")
        await until(lambda: "is there a network?" in screen_text(app))
        cloud.failure = CloudError("connecting: Modal cannot be reached (no answer in time)")
        cloud.answering.set()
        await until(lambda: "Modal was not reached." in screen_text(app))
        assert "no answer in time" in screen_text(app)
        assert "Press r to ask again" in screen_text(app)
        cloud.failure = None
        await pilot.press("r")
        await until(lambda: "my-workspace" in screen_text(app))
        cloud.failure = CloudError("connecting: Modal cannot be reached")
        await pilot.press("f5")
        await until(lambda: "not up to date: connecting" in screen_text(app))
        assert "colleague" in screen_text(app)  # what was known stays
        assert cloud.asked == ["workspace"] * 3


async def test_an_empty_workspace_says_how_to_begin(tmp_path: Path) -> None:
    app = make_app(root=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_cloud(pilot, "No runs on Modal yet.")
        await pilot.press("enter")
        assert isinstance(app.screen, CloudScreen)


async def test_cleanup_lists_and_asks(tmp_path: Path) -> None:
    cloud = FakeCloud(
        *RUNS, left=[Leftover(f"ap-{n}", "done2345", "its run is [b]finished") for n in range(10)]
    )
    app = make_app(root=tmp_path, cloud=lambda: cloud)
    async with app.run_test(size=(120, 36)) as pilot:
        await open_cloud(pilot, "my-workspace")
        await pilot.press("x")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        assert "Stop 10 apps?" in screen_text(app)
        assert "ap-0 (run done2345): its run is [b]finished" in screen_text(app)
        assert "and 2 more" in screen_text(app)
        await pilot.press("n")
        await until(lambda: isinstance(app.screen, CloudScreen))
        assert "clean" not in cloud.asked
        await pilot.pause()
        await pilot.press("x")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(lambda: "10 apps stopped." in said(app))
        await pilot.press("x")
        await until(lambda: "Nothing is left over on Modal." in said(app))
        cloud.failure = CloudError("no network")
        await pilot.press("x")
        await until(lambda: "no network" in said(app))


# What is really asked


Asked = list[tuple[str, dict[str, Any], Mapping[str, str]]]


def write_token(file: Path) -> None:
    file.write_text("MODAL_TOKEN_ID=ak-1\nMODAL_TOKEN_SECRET=as-1\n", encoding="utf-8")


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "none.toml"))
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MODAL_TOKEN_ID", raising=False)
    monkeypatch.delenv("MODAL_TOKEN_SECRET", raising=False)
    return tmp_path / ".env"


def answers(monkeypatch: pytest.MonkeyPatch, answer: Any) -> Asked:
    asked: Asked = []

    async def ask(job: str, arguments: Mapping[str, Any], progress=None, *, environment: Mapping[str, str]):
        asked.append((job, dict(arguments), environment))
        if isinstance(answer, Exception):
            raise answer
        return await answer() if callable(answer) else answer

    monkeypatch.setattr(errand, "ask", ask)
    return asked


async def test_without_a_token_nothing_is_asked(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, {})
    with pytest.raises(CloudError, match="login modal"):
        await ModalCloud(token.parent).workspace()
    assert asked == []


async def test_the_jobs_and_their_answers(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_token(token)
    cloud = ModalCloud(token.parent)
    run = {
        "id": "abcd2345", "name": "fox", "folder": "fox-2", "steps": 9, "step": 3, "status": "training",
        "reason": None, "created": 1.0, "updated": 2.0, "app_id": None, "here": False,
    }  # fmt: skip
    asked = answers(monkeypatch, {"workspace": "me", "runs": [run]})
    found = await cloud.workspace()
    assert found.name == "me"
    assert found.runs == (CloudRun("abcd2345", "fox", "fox-2", "training", 3, 9, "", False, 1.0, 2.0),)
    job, arguments, environment = asked[0]
    assert (job, arguments["volume"]) == ("runs", "flux-lora-models")
    assert arguments["root"] == str(token.parent / "home")
    assert environment["MODAL_TOKEN_ID"] == "ak-1"
    asked = answers(monkeypatch, {"id": "abcd2345", "path": "/x"})
    assert await cloud.adopt("abcd2345") == "abcd2345"
    assert asked[0][1]["run"] == "abcd2345"
    left = {"leftovers": [{"app_id": "ap-1", "run_id": "r", "why": "idle", "created": None}], "removed": True}
    asked = answers(monkeypatch, left)
    assert await cloud.leftovers() == [Leftover("ap-1", "r", "idle")]
    assert await cloud.clean() == 1
    assert [call[1]["remove"] for call in asked] == [False, True]


async def test_failures_are_one_sentence(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_token(token)
    answers(monkeypatch, OfflineError("connecting: Modal cannot be reached"))
    with pytest.raises(CloudError, match="cannot be reached"):
        await ModalCloud(token.parent).workspace()
    monkeypatch.setattr(cloud_module, "PATIENCE", 0.05)
    answers(monkeypatch, lambda: asyncio.sleep(60))
    with pytest.raises(CloudError, match="did not answer within"):
        await ModalCloud(token.parent).workspace()


def test_the_statuses_are_those_of_runs() -> None:
    assert {run.status for run in RUNS} <= set(Status)


async def test_leaving_a_stand_in_says_that_its_runs_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUXLORA_STAND_IN", "http://127.0.0.1:1")
    app = make_app(FakeRuns(summary(backend="modal")), root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert "local stand-in for Modal" in screen_text(app)
        await pilot.press("q")
        await until(lambda: "will be ended" in screen_text(app))
        assert "goes on without the app" not in screen_text(app)


async def test_the_demo_trains_where_it_was_told(tmp_path: Path) -> None:
    runs = FakeRuns()
    app = make_app(runs, root=tmp_path, demo=FakeDemo(), backend="modal")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("d")
        await until(lambda: runs.launched)
        assert runs.backends == ["modal"]
        assert runs.launched[0].overrides == ("modal.bring_home=checkpoints",)
