"""What the setup screen is made of: the line for secrets, web pages, the first look round, crash reports."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from textual import events

from backend.credentials.redaction import redact
from tests.tui.fake_setup import FakeSetup
from tests.tui.fakes import HOSTILE, escapes, make_app, screen_text, settled, until
from tui import browser
from tui.browser import has_browser, open_page
from tui.first_start import is_first_start, learn_secrets
from tui.screens.enter_hf_token import HfTokenScreen
from tui.screens.enter_modal_token import ModalTokenScreen
from tui.terminal_check import terminal_check
from tui.widgets import setup_secret
from tui.widgets.setup_secret import SecretInput

SECRET = "as-Pp1Oo2Ii3Uu4Yy5Tt6Rr7e"


async def field(pilot: Any, screen: Any = None) -> SecretInput:
    await settled(pilot)
    pilot.app.push_screen(screen or ModalTokenScreen(FakeSetup()))
    await until(lambda: isinstance(pilot.app.screen.focused, SecretInput))
    await pilot.pause()
    found = pilot.app.screen.focused
    assert isinstance(found, SecretInput)
    return found


async def put(pilot: Any, line: SecretInput, text: str) -> None:
    line.post_message(events.Paste(text))
    await pilot.pause()
    await pilot.pause()


# The line for secrets


@pytest.mark.parametrize("text", [*HOSTILE, "a\\\r\nb\rc\n", "\u202egnirts\u202c"])
async def test_a_paste_is_kept_whole_and_harmless(tmp_path: Path, text: str) -> None:
    app = make_app(root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        line = await field(pilot)
        await put(pilot, line, text)
        plain = text.replace("\r\n", "\n").replace("\r", "\n")
        assert line.text == "".join(char for char in plain if char not in "\u202c\u202e\u200d\x9b")
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert line.readable
        assert not escapes(screen_text(app))
        assert "\u202e" not in screen_text(app)


async def test_what_is_pasted_goes_where_the_cursor_is(tmp_path: Path) -> None:
    app = make_app(root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        line = await field(pilot)
        await put(pilot, line, "ad")
        await pilot.press("left")
        await put(pilot, line, "b\nc")
        assert line.text == "ab\ncd"
        line.select_all()
        await put(pilot, line, "new")
        assert line.text == "new"
        app.copy_to_clipboard("x\ny")
        await pilot.press("ctrl+v")
        assert line.text == "newx\ny"
        await put(pilot, line, "z" * 30_000)
        assert len(line.value) == 20_006


async def test_it_is_readable_for_a_while_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_secret, "SHOWN", 0.3)
    app = make_app(root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        line = await field(pilot)
        await put(pilot, line, SECRET)
        assert SECRET not in screen_text(app)
        await pilot.press("ctrl+r")
        await until(lambda: SECRET in screen_text(app))
        await until(lambda: SECRET not in screen_text(app))
        assert not line.readable
        monkeypatch.setattr(setup_secret, "SHOWN", 600.0)
        for leave in ("ctrl+r", "tab", "enter"):
            line.focus()
            await pilot.press("ctrl+r")
            await until(lambda: SECRET in screen_text(app))
            await pilot.press(leave)
            await until(lambda: SECRET not in screen_text(app))


@pytest.mark.parametrize("screen", [ModalTokenScreen, HfTokenScreen])
async def test_pictures_and_the_clipboard_never_hold_it(tmp_path: Path, screen: type) -> None:
    app = make_app(root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        line = await field(pilot, screen(FakeSetup()))
        await put(pilot, line, SECRET)
        await pilot.press("ctrl+r")
        await until(lambda: SECRET in screen_text(app))
        picture = app.export_screenshot()
        assert SECRET not in picture
        assert "•" in picture
        line.select_all()
        await pilot.press("ctrl+x")
        assert line.text == ""
        await put(pilot, line, SECRET)
        line.select_all()
        line.action_copy()
        assert SECRET not in app.clipboard


async def test_the_page_s_address_is_copied_by_key(tmp_path: Path) -> None:
    app = make_app(root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await field(pilot)
        await pilot.press("ctrl+y")
        assert app.clipboard == "https://modal.com/settings/tokens"
        await pilot.press("escape")
        await field(pilot, HfTokenScreen(FakeSetup()))
        await pilot.press("ctrl+y")
        assert "settings/tokens/new" in app.clipboard


async def test_all_three_ways_come_round_by_key(tmp_path: Path) -> None:
    app = make_app(root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await field(pilot)
        seen = []
        for _ in range(3):
            await pilot.press("ctrl+n")
            await pilot.pause()
            await pilot.pause()
            assert app.screen.focused is not None
            seen.append(app.screen.focused.id)
        assert seen == ["token-id", "start", "command"]
        await pilot.press("tab", "shift+tab")
        assert app.screen.focused.id == "command"


# Web pages


@pytest.mark.parametrize(
    ("environ", "platform", "there"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "w"}, "linux", True),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "1.2.3.4"}, "linux", False),
        ({}, "darwin", True),
        ({"SSH_TTY": "/dev/pts/1"}, "darwin", False),
        ({}, "win32", True),
    ],
)
def test_where_there_is_a_browser(environ: dict, platform: str, there: bool) -> None:
    assert has_browser(environ, platform) == there


async def test_a_page_is_opened_away_from_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[Any, dict[str, Any]]] = []

    async def start(*command: Any, **options: Any) -> None:
        commands.append((command, options))

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    monkeypatch.setattr(browser, "has_browser", lambda environ: True)
    assert await open_page("https://modal.com")
    assert not await open_page("file:///etc/passwd")
    assert not await open_page("-n https://modal.com")
    (command, options) = commands[0]
    assert len(commands) == 1
    assert command[-1] == "https://modal.com"
    assert {options[name] for name in ("stdin", "stdout", "stderr")} == {asyncio.subprocess.DEVNULL}
    assert options["start_new_session"]


# The first look round


def test_secrets_are_known_from_the_first_look_on(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HF_TOKEN=without-any-shape-1\n", encoding="utf-8")
    config = tmp_path / "modal.toml"
    config.write_text(
        '[a]\ntoken_id = "ak-x"\ntoken_secret = "without-any-shape-2"\nactive = true\n', encoding="utf-8"
    )
    environ = {
        "MODAL_CONFIG_PATH": str(config),
        "HF_HOME": str(tmp_path),
        "MY_API_KEY": "without-any-shape-3",
    }
    assert learn_secrets(tmp_path, environ)
    for number in (1, 2, 3):
        assert redact(f"<without-any-shape-{number}>") == redact("<without-any-shape-1>")
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "got %s", ("without-any-shape-2",), None)
    assert logging.lastResort is not None
    assert logging.lastResort.filter(record)
    assert "shape" not in record.getMessage()
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = {"MODAL_CONFIG_PATH": str(empty / "none"), "HF_HOME": str(empty)}
    assert not learn_secrets(empty, nothing)


def test_the_first_start_is_one_start(tmp_path: Path) -> None:
    assert is_first_start(tmp_path / "a", used=False)
    assert not is_first_start(tmp_path / "a", used=False)
    assert not is_first_start(tmp_path / "b", used=True)
    assert not is_first_start(tmp_path / "b", used=False)  # all runs deleted: still no newcomer
    (tmp_path / "c").write_text("a file", encoding="utf-8")
    assert not is_first_start(tmp_path / "c", used=False)
    assert json.loads((tmp_path / "a" / "first-start.json").read_text(encoding="utf-8"))["used"] is False


# The terminal


@pytest.mark.parametrize(
    ("size", "environ", "state", "words"),
    [
        ((120, 36), {}, "ok", "120x36, 24-bit colour, pictures (kitty)"),
        ((79, 24), {}, "warning", "79x24"),
        ((80, 24), {"TERM": "dumb"}, "warning", "80x24"),
    ],
)
async def test_the_terminal_s_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple, environ: dict, state: str, words: str
) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    app = make_app(root=tmp_path)
    async with app.run_test(size=size):
        check = terminal_check(app, "Terminal", "kitty", environ)
    assert (check.state, words in check.detail) == (state, True)
    assert bool(check.fix) == (state != "ok")


async def test_no_colour_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = make_app(root=tmp_path)
    async with app.run_test(size=(80, 24)):
        assert "no colour (NO_COLOR)" in terminal_check(app, "Terminal", "half", {}).detail


# Crash reports

CRASH = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tui.app import FluxLoraApp

class Breaks(FluxLoraApp):
    def start_loading(self):
        typed = {secret!r}
        other = "typed-without-any-shape"
        raise RuntimeError("\\x1b[31mit broke with " + typed)

app = Breaks(root=Path({home!r}))
app.run(headless=True, size=(80, 24))
sys.exit(app.return_code)
"""


def test_a_crash_tells_where_and_no_secret(tmp_path: Path) -> None:
    program = CRASH.format(root=str(Path(__file__).parents[2]), secret=SECRET, home=str(tmp_path / "home"))
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    kept = (tmp_path / "home" / "crash.txt").read_text(encoding="utf-8")
    for text in (done.stdout + done.stderr, kept):
        assert "it broke with" in text
        assert "start_loading" in text
        assert SECRET not in text
        assert "typed-without-any-shape" not in text.replace('other = "typed-without-any-shape"', "")
        assert "\x1b[31mit" not in text
    assert done.returncode == 1
