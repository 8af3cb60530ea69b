from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backend.credentials.modal_profiles import ModalToken
from backend.credentials.secret import Secret
from backend.launchers.modal import account as account_module
from backend.launchers.modal.account import AccountRefusal, browser_login, verify, workspace_budget
from backend.network import NetworkError
from tests.loopback.cloud import LoopbackCloud
from tests.loopback.fixtures import modal_cloud

__all__ = ["modal_cloud"]

PAIR = ("ak-Qq1Ww2Ee3Rr4Tt5Yy6Uu7i", "as-Pp1Oo2Ii3Uu4Yy5Tt6Rr7e")


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_SERVER_URL", "MODAL_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "modal.toml"))


def token(cloud: LoopbackCloud, secret: str | None = None) -> ModalToken:
    return ModalToken(cloud.token_id, Secret(secret or cloud.token_secret), "a test", server_url=cloud.url)


@pytest.mark.parametrize("by_environment", [True, False])
async def test_whose_token(
    modal_cloud: LoopbackCloud, monkeypatch: pytest.MonkeyPatch, by_environment: bool
) -> None:
    """The server of the environment is the SDK's own; that of a profile is not."""
    if by_environment:
        monkeypatch.setenv("MODAL_SERVER_URL", modal_cloud.url)
    ends = datetime.now(UTC).replace(microsecond=0)
    modal_cloud.world.services["accounts"].store.account.token_expires_at = ends.timestamp()
    found = await verify(token(modal_cloud))
    assert (found.workspace, found.token_name, found.user) == (
        modal_cloud.workspace,
        "loopback token",
        "loopback-user",
    )
    assert found.expires == ends
    sent = {
        rpc.metadata["x-modal-token-id"] for rpc in modal_cloud.rpcs() if "x-modal-token-id" in rpc.metadata
    }
    assert sent == {modal_cloud.token_id}


async def test_wrong_and_revoked_tokens(modal_cloud: LoopbackCloud) -> None:
    with pytest.raises(AccountRefusal) as caught:
        await verify(token(modal_cloud, PAIR[1]))
    assert caught.value.reason == "denied"
    assert PAIR[1] not in repr(caught.value) + str(caught.value)
    assert (await verify(token(modal_cloud))).workspace
    modal_cloud.revoke_token()
    with pytest.raises(AccountRefusal) as caught:
        await verify(token(modal_cloud))
    assert caught.value.reason == "denied"


async def test_two_tokens_in_one_process(modal_cloud: LoopbackCloud) -> None:
    """The SDK's process-wide client is not involved: a wrong token does not stick, nor a right one."""
    with LoopbackCloud(token=PAIR) as other:
        first, second = await asyncio.gather(
            verify(token(modal_cloud)),
            verify(ModalToken(PAIR[0], Secret(PAIR[1]), "x", server_url=other.url)),
        )
        assert (first.workspace, second.workspace) == (modal_cloud.workspace, other.workspace)
    from modal.client import _Client

    assert _Client._client_from_env is None


async def test_offline_is_said_at_once(modal_cloud: LoopbackCloud) -> None:
    wanted = token(modal_cloud)
    await verify(wanted)  # the SDK is imported
    modal_cloud.drop_connections()
    begin = time.monotonic()
    with pytest.raises(NetworkError) as caught:
        await verify(wanted)
    assert caught.value.reason in ("refused", "broken")
    assert time.monotonic() - begin < 3


async def test_a_server_that_is_silent(modal_cloud: LoopbackCloud) -> None:
    wanted = token(modal_cloud)
    await verify(wanted)
    modal_cloud.latency(60)
    begin = time.monotonic()
    with pytest.raises(NetworkError) as caught:
        await verify(wanted, patience=1.0)
    assert caught.value.reason == "timeout"
    assert time.monotonic() - begin < 10
    modal_cloud.latency(0)


async def test_a_proxy_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:geheim99@127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(account_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NetworkError) as caught:
        await verify(ModalToken(*PAIR[:1], Secret(PAIR[1]), "x", server_url="https://modal.invalid"))
    assert caught.value.reason == "proxy"
    assert "modal[api-proxy-support]" in str(caught.value)
    assert "geheim99" not in str(caught.value)


async def test_spending(modal_cloud: LoopbackCloud) -> None:
    budget = await workspace_budget(token(modal_cloud))
    assert budget is not None
    assert budget.used >= budget.billed >= 0
    assert budget.since.day == 1
    modal_cloud.knobs.billing = False
    assert await workspace_budget(token(modal_cloud)) is None
    modal_cloud.knobs.billing = True
    with pytest.raises(AccountRefusal):
        await workspace_budget(token(modal_cloud, PAIR[1]))


def test_a_broken_config_file_is_told(tmp_path: Path) -> None:
    """The SDK reads its file when it is imported, so this needs a process of its own."""
    (tmp_path / "modal.toml").write_text("[[[", encoding="utf-8")
    code = (
        "import asyncio\n"
        "from backend.launchers.modal.account import *\n"
        "try:\n"
        f"    asyncio.run(verify(ModalToken('ak-1', Secret({PAIR[1]!r}), 'x')))\n"
        "except AccountRefusal as refusal:\n"
        "    print(refusal.reason, refusal)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.startswith("config "), done.stdout + done.stderr  # and no banner of the SDK before it
    assert "modal.toml" in done.stdout


# The browser


async def test_login_in_the_browser(modal_cloud: LoopbackCloud) -> None:
    async with browser_login(modal_cloud.url) as login:
        assert login.url.startswith("http")
        new = await login.wait(30)
    assert new.workspace == modal_cloud.workspace
    assert new.token_secret.reveal() not in repr(new)
    found = await verify(ModalToken(new.token_id, new.token_secret, "browser", server_url=modal_cloud.url))
    assert found.workspace == modal_cloud.workspace


async def test_login_that_nobody_agrees_to(modal_cloud: LoopbackCloud) -> None:
    modal_cloud.knobs.login = "never"
    async with browser_login(modal_cloud.url) as login:
        with pytest.raises(NetworkError) as caught:
            await login.wait(1.0)
    assert caught.value.reason == "timeout"


async def test_login_that_is_refused(modal_cloud: LoopbackCloud) -> None:
    modal_cloud.knobs.login = "refuse"
    async with browser_login(modal_cloud.url) as login:
        with pytest.raises(AccountRefusal):
            await login.wait(30)


async def test_login_can_be_given_up(modal_cloud: LoopbackCloud) -> None:
    modal_cloud.knobs.login = "never"
    async with browser_login(modal_cloud.url) as login:
        waiting = asyncio.ensure_future(login.wait(600))
        await asyncio.to_thread(modal_cloud.wait, lambda: modal_cloud.rpcs("TokenFlowWait"))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_login_without_a_network(tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(NetworkError):
        async with browser_login("http://127.0.0.1:9"):
            pass
    assert time.monotonic() - begin < 8  # with the first import of the SDK
