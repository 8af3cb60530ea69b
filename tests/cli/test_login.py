from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.fixtures import FLUX, hub
from tests.hub.server import LoopbackHub
from tests.loopback.cloud import LoopbackCloud

from .conftest import Output

__all__ = ["hub"]

PAIR = ("ak-Qq1Ww2Ee3Rr4Tt5Yy6Uu7i", "as-Pp1Oo2Ii3Uu4Yy5Tt6Rr7e")
COMMAND = f"modal token set --token-id {PAIR[0]} --token-secret {PAIR[1]}"
TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz12345678"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MODAL_", "HF_", "HUGGING_FACE")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "modal.toml"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackCloud]:
    with LoopbackCloud(token=PAIR) as cloud:
        monkeypatch.setenv("MODAL_SERVER_URL", cloud.url)
        yield cloud


def paste(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def profiles(tmp_path: Path) -> dict:
    return tomllib.loads((tmp_path / "modal.toml").read_text(encoding="utf-8"))


def test_modal_tries_the_token_and_names_the_profile_after_the_workspace(
    cli: Output, cloud: LoopbackCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paste(monkeypatch, f"$ modal token set \\\n> --token-id {PAIR[0]} \\\n> --token-secret '{PAIR[1]}'\n")
    code, out, err = cli("login", "modal")
    assert (code, err) == (0, "")
    assert cloud.workspace in out
    assert PAIR[1] not in out
    saved = profiles(tmp_path)
    assert saved == {
        cloud.workspace: {
            "token_id": PAIR[0],
            "token_secret": PAIR[1],
            "server_url": cloud.url,
            "active": True,
        }
    }
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "modal.toml").stat().st_mode) == 0o600
    done = subprocess.run(  # the real command line of Modal uses what was saved
        [sys.executable, "-m", "modal", "token", "info"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert cloud.workspace in done.stdout, done.stderr


def test_a_profile_that_is_named_and_neighbours(
    cli: Output, cloud: LoopbackCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = '# mine\n[old]\ntoken_id = "ak-old"\ntoken_secret = "as-old"\nactive = true\n'
    (tmp_path / "modal.toml").write_text(before, encoding="utf-8")
    paste(monkeypatch, f"{COMMAND} --profile new --no-activate")
    assert cli("login", "modal")[0] == 0
    assert (tmp_path / "modal.toml").read_text(encoding="utf-8").startswith(before)
    assert "active" not in profiles(tmp_path)["new"]


def test_a_token_that_modal_refuses_is_not_saved(
    cli: Output, cloud: LoopbackCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.revoke_token()
    paste(monkeypatch, COMMAND)
    code, out, err = cli("login", "modal")
    assert (code, out) == (1, "")
    assert "not saved" in err
    assert "revoked" in err
    assert PAIR[1] not in err
    assert not (tmp_path / "modal.toml").exists()


def test_offline(cli: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODAL_SERVER_URL", "http://127.0.0.1:9")
    paste(monkeypatch, COMMAND)
    code, _, err = cli("login", "modal")
    assert code == 1
    assert "--no-verify" in err
    assert not (tmp_path / "modal.toml").exists()
    paste(monkeypatch, COMMAND)
    code, out, _ = cli("login", "modal", "--no-verify")
    assert code == 0
    assert "not tried" in out
    assert profiles(tmp_path)["default"]["token_secret"] == PAIR[1]


def test_it_says_when_another_token_wins(
    cli: Output, cloud: LoopbackCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-" + "Zz9" * 7)
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-" + "Zz9" * 7)
    paste(monkeypatch, COMMAND)
    code, _, err = cli("login", "modal")
    assert code == 0
    assert "the environment" in err


@pytest.mark.parametrize(
    "text", [f"{COMMAND}; rm -rf ~", "", "modal token new", f"modal token set --token-id {PAIR[0]}"]
)
def test_what_is_no_token_is_refused(
    cli: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    paste(monkeypatch, text)
    code, out, err = cli("login", "modal")
    assert (code, out) == (2, "")
    assert err.startswith("fluxlora-tui: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "modal.toml").exists()


@pytest.mark.parametrize(
    "arguments", [["login"], ["login", "aws"], ["login", "hf", TOKEN], ["login", "modal", COMMAND]]
)
def test_a_token_is_no_argument(cli: Output, arguments: list[str]) -> None:
    code, out, _ = cli(*arguments)
    assert (code, out) == (2, "")


def test_a_broken_file_is_kept(cli: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modal.toml").write_text("[broken", encoding="utf-8")
    paste(monkeypatch, COMMAND)
    code, _, err = cli("login", "modal", "--no-verify")
    assert code == 1
    assert "modal.toml" in err
    assert (tmp_path / "modal.toml").read_text(encoding="utf-8") == "[broken"


# Hugging Face


def test_hf_is_tried_and_saved_where_the_hub_s_client_finds_it(
    cli: Output, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_token(TOKEN, user="alice")
    hub.models[FLUX].accepted = {"alice"}
    paste(monkeypatch, f"export HF_TOKEN={TOKEN}\n")
    code, out, err = cli("login", "hf")
    assert (code, err) == (0, "")
    assert "alice" in out
    assert TOKEN not in out
    assert (tmp_path / "hf" / "token").read_text(encoding="utf-8") == TOKEN


def test_hf_tells_of_a_licence_that_is_missing(
    cli: Output, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_token(TOKEN)
    paste(monkeypatch, TOKEN)
    code, _, err = cli("login", "hf")
    assert code == 0
    assert f"{hub.url}/{FLUX}" in err


def test_hf_replaces_the_token_in_dotenv(
    cli: Output, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_token(TOKEN)
    Path(".git").mkdir()
    Path(".env").write_text("# keep\nHF_TOKEN='hf_old' # mine\nA=1\n", encoding="utf-8")
    paste(monkeypatch, TOKEN)
    code, _, err = cli("login", "hf")
    assert code == 0
    assert Path(".env").read_text(encoding="utf-8") == f"# keep\nHF_TOKEN='{TOKEN}' # mine\nA=1\n"
    assert not (tmp_path / "hf").exists()
    assert ".gitignore" in err


@pytest.mark.parametrize("trouble", ["", "busy", "garbage", "dead"])
def test_hf_that_is_not_accepted_is_not_saved(
    cli: Output, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    hub.trouble = trouble  # type: ignore[assignment]
    paste(monkeypatch, TOKEN)
    code, out, err = cli("login", "hf")
    assert (code, out) == (1, "")
    assert "not saved" in err
    assert TOKEN not in err
    assert not (tmp_path / "hf").exists()
    paste(monkeypatch, TOKEN)
    assert cli("login", "hf", "--no-verify")[0] == 0
    assert (tmp_path / "hf" / "token").exists()


# A real terminal

pty = pytest.importorskip("pty") if os.name == "posix" else None


@pytest.mark.skipif(os.name != "posix", reason="a pseudo terminal")
@pytest.mark.parametrize(
    "typed",
    [
        f"{COMMAND}\n",
        f"modal token set \\\n--token-id {PAIR[0]} \\\n--token-secret {PAIR[1]}\n",
        f"modal token set ^\n--token-id {PAIR[0]} ^\n--token-secret {PAIR[1]}\necho leftover\n",
        f"{PAIR[0]}\n{PAIR[1]}\n",
    ],
)
def test_the_prompt_hides_what_is_typed_and_reads_all_lines(tmp_path: Path, typed: str) -> None:
    import select
    import time

    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "tui", "login", "modal", "--no-verify"])
    shown = b""
    sent = False
    deadline = time.monotonic() + 90
    try:
        while time.monotonic() < deadline:
            ready, _, _ = select.select([terminal], [], [], 0.2)
            if not ready:
                continue
            try:
                part = os.read(terminal, 4096)
            except OSError:
                break
            if not part:
                break
            shown += part
            if not sent and b"not shown" in shown:
                os.write(terminal, typed.encode())
                sent = True
    finally:
        os.close(terminal)  # hangs up: a child that still waits ends
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, shown
    assert profiles(tmp_path)["default"]["token_secret"] == PAIR[1]
    assert PAIR[1].encode() not in shown
    assert PAIR[0].encode() not in shown
