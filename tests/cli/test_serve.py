"""The app in a browser: who is let in, and that what comes is the app."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from tui.cli.main import run
from tui.cli.serve import app_command, is_loopback, make_server

TOKEN = "0123456789abcdef0123"
ECHO = f'{sys.executable} -c "import sys; sys.stdin.buffer.read(1)"'


@asynccontextmanager
async def serving(token: str | None, command: str = ECHO) -> AsyncIterator[tuple[TestServer, str]]:
    server = TestServer(await make_server("127.0.0.1", 0, token, command)._make_app())
    await server.start_server()
    try:
        yield server, f"http://127.0.0.1:{server.port}"
    finally:
        await server.close()


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))  # cookies of 127.0.0.1 too


@pytest.mark.parametrize(
    ("host", "wanted"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True), ("127.9.9.9", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_what_only_this_machine_can_reach(host: str, wanted: bool) -> None:
    assert is_loopback(host) is wanted


async def test_without_the_token_nothing_is_served() -> None:
    async with serving(TOKEN) as (_, url), session() as browser:
        for path in ("/", "/?token=wrong", "/static/js/textual.js", "/download/x", f"/static/?token={TOKEN}"):
            async with browser.get(url + path) as answer:
                assert answer.status == 401, path
                assert TOKEN not in await answer.text()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await browser.ws_connect(f"{url}/ws")
        assert refused.value.status == 401


async def test_the_token_is_shown_once_and_leaves_the_address() -> None:
    async with serving(TOKEN) as (_, url), session() as browser:
        async with browser.get(f"{url}/?token={TOKEN}") as answer:
            assert answer.status == 200
            assert str(answer.url) == f"{url}/"
            page = await answer.text()
            assert TOKEN not in page
            assert f"{url.replace('http', 'ws')}/ws" in page
            cookie = answer.history[0].cookies["fluxlora_token"]
            assert cookie["httponly"]
            assert cookie["samesite"] == "Strict"
            assert answer.headers["X-Frame-Options"] == "DENY"
        async with browser.ws_connect(f"{url}/ws", headers={"Origin": url}):
            pass
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await browser.ws_connect(f"{url}/ws", headers={"Origin": "http://evil.example"})


async def test_on_this_machine_other_pages_and_other_names_are_refused() -> None:
    async with serving(None) as (_, url), session() as browser:
        async with browser.get(url) as answer:
            assert answer.status == 200
        async with browser.get(url, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403  # DNS rebinding
        for origin in ("http://evil.example", "null"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await browser.ws_connect(f"{url}/ws", headers={"Origin": origin})
            assert refused.value.status == 403


@pytest.mark.e2e
async def test_a_browser_gets_the_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path))
    (tmp_path / "settings.toml").write_text('images = "kitty"\n', encoding="utf-8")  # no terminal to ask here
    async with (
        serving(None, app_command()) as (_, url),
        session() as browser,
        browser.ws_connect(f"{url}/ws?width=100&height=30", headers={"Origin": url}) as socket,
    ):
        seen = b""

        async def read_until(wanted: Callable[[], bool]) -> None:
            nonlocal seen
            async with asyncio.timeout(60):
                while not wanted():
                    message = await socket.receive()
                    assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
                    if message.type == aiohttp.WSMsgType.BINARY:
                        seen += message.data

        await socket.send_str(json.dumps(["ping", "x"]))
        await read_until(lambda: b"fluxlora" in seen and b"Jobs" in seen)
        seen = b""
        await socket.send_str(json.dumps(["stdin", "\x1a"]))  # ctrl+z: there is nothing to suspend
        await socket.send_str(json.dumps(["stdin", "2"]))
        await read_until(lambda: b"No run to watch yet" in seen or b"Log" in seen)


def test_serve_says_what_is_wrong(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["serve", "--token", "short"]) == 2
    assert "at least 16 characters" in capfd.readouterr().err
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    assert run(["serve"]) == 1
    assert "pip install 'fluxlora-tui[serve]'" in capfd.readouterr().err


def test_beyond_this_machine_a_token_is_made_and_a_warning_printed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Server:
        def serve(self) -> None:
            pass

    def make(host: str, port: int, token: str | None) -> Server:
        made.append((host, token))
        return Server()

    monkeypatch.setattr("tui.cli.serve.make_server", make)
    assert run(["serve", "--host", "0.0.0.0", "--port", "8123"]) == 0
    out, err = capfd.readouterr()
    assert "warning: 0.0.0.0 can be reached by others" in err
    ((_, token),) = made
    assert token
    assert len(token) >= 32
    assert f"http://0.0.0.0:8123/?token={token}" in out
    assert run(["serve", "--port", "8123"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "http://127.0.0.1:8123/\n" in out
    assert made[1] == ("127.0.0.1", None)
