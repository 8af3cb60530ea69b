"""Pictures of the setup screen. After a wanted change: ``--snapshot-update``, and look at the diff."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from textual import events

from tests.tui.fake_setup import ALL_GOOD, FAILURES, NOTHING, FakeSetup
from tests.tui.fakes import FakeRuns, make_app, screen_text, settled, summary, until
from tui import browser
from tui.screens import setup
from tui.widgets.setup_list import SetupList
from tui.widgets.setup_secret import SecretInput

if TYPE_CHECKING:
    from textual.pilot import Pilot

SIZES = [(80, 24), (120, 36)]
COMMAND = "modal token set --token-id ak-Qq1Ww2Ee3Rr4Tt5Yy6Uu7i --token-secret as-Pp1Oo2Ii3Uu4Yy5Tt6Rr7e"


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(setup, "current_protocol", lambda setting: "half")
    monkeypatch.setattr(browser, "has_browser", lambda environ: False)


def size_id(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def shoot(
    snap_compare,
    tmp_path: Path,
    size: tuple[int, int],
    answers: object,
    prepare: Callable[[Pilot], Awaitable[None]],
    *,
    fresh: bool = False,
    fake: FakeSetup | None = None,
) -> None:
    fake = fake or FakeSetup(answers)  # type: ignore[arg-type]
    runs = FakeRuns() if fresh else FakeRuns(summary())
    app = make_app(runs, root=tmp_path, setup=lambda root: fake)

    async def before(pilot: Pilot) -> None:
        await settled(pilot)
        await pilot.press("9")
        await until(lambda: app.screen.query(SetupList) and "checking" not in screen_text(app))
        await prepare(pilot)
        for field in app.screen.query(SecretInput):
            field.cursor_blink = False
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=before)


async def nothing(pilot: Pilot) -> None:
    """As it is."""


async def paste(pilot: Pilot, text: str) -> None:
    field = pilot.app.screen.focused
    assert isinstance(field, SecretInput)
    field.post_message(events.Paste(text))
    await until(lambda: field.value)
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_first_start(snap_compare, tmp_path: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await pilot.press("down", "down")

    shoot(snap_compare, tmp_path, size, NOTHING, prepare, fresh=True)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_all_good(snap_compare, tmp_path: Path, size) -> None:
    shoot(snap_compare, tmp_path, size, ALL_GOOD, nothing)


@pytest.mark.parametrize("size", [*SIZES, (60, 18)], ids=size_id)
def test_failures(snap_compare, tmp_path: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await pilot.press("down", "down")

    shoot(snap_compare, tmp_path, size, FAILURES, prepare)


def test_failures_without_colour(snap_compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def prepare(pilot: Pilot) -> None:
        await pilot.press("down", "down")

    shoot(snap_compare, tmp_path, (80, 24), FAILURES, prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_paste_with_refusal(snap_compare, tmp_path: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await pilot.press("down", "down", "enter")
        await paste(pilot, f"{COMMAND}; rm -rf ~")
        await until(lambda: "✗" in screen_text(pilot.app))

    shoot(snap_compare, tmp_path, size, NOTHING, prepare)


def test_paste_without_colour(snap_compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def prepare(pilot: Pilot) -> None:
        await pilot.press("down", "down", "enter")
        await paste(pilot, COMMAND.replace(" --token-secret", " \\\n  --token-secret"))

    shoot(snap_compare, tmp_path, (80, 24), NOTHING, prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_browser(snap_compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size) -> None:
    fake = FakeSetup(NOTHING)

    async def prepare(pilot: Pilot) -> None:
        fake.hold = asyncio.Event()
        await pilot.press("down", "down", "enter")
        await pilot.pause()
        monkeypatch.setattr("tui.screens.enter_modal_token.duration", lambda seconds: "12s")
        await pilot.press("ctrl+n", "ctrl+n")
        await pilot.pause()
        await pilot.press("enter")
        await until(lambda: "Waiting for you" in screen_text(pilot.app))

    shoot(snap_compare, tmp_path, size, NOTHING, prepare, fake=fake)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_hf_token(snap_compare, tmp_path: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await pilot.press(*["down"] * 5, "enter")
        await until(lambda: "/work/.env" in screen_text(pilot.app))
        await paste(pilot, "hf_AbCdEfGhIjKlMnOpQrStUvWxYz12345678")

    shoot(snap_compare, tmp_path, size, NOTHING, prepare)


def test_profiles(snap_compare, tmp_path: Path) -> None:
    async def prepare(pilot: Pilot) -> None:
        await pilot.press("p")
        await until(lambda: "work" in screen_text(pilot.app))

    shoot(snap_compare, tmp_path, (80, 24), ALL_GOOD, prepare)


def test_licence_page(snap_compare, tmp_path: Path) -> None:
    async def prepare(pilot: Pilot) -> None:
        await pilot.press(*["down"] * 6, "enter")
        await pilot.pause()
        await pilot.press("w")

    shoot(snap_compare, tmp_path, (80, 24), NOTHING, prepare)


def test_download(snap_compare, tmp_path: Path) -> None:
    fake = FakeSetup(FAILURES)

    async def prepare(pilot: Pilot) -> None:
        fake.hold = asyncio.Event()
        await pilot.press(*["down"] * 7, "enter")
        await pilot.pause()
        await pilot.press("y")
        await until(lambda: fake.progress is not None)
        assert fake.progress is not None
        fake.progress(12_345_678_901, 33_900_000_000)

    shoot(snap_compare, tmp_path, (80, 24), FAILURES, prepare, fake=fake)
