from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from backend.credentials.secret import Secret
from backend.hub_account import HubRefusal, check_access, model_page, token_page, whoami
from backend.network import NetworkError

from .fixtures import FLUX, hub
from .server import LoopbackHub, Model

__all__ = ["hub"]


async def test_whoami_tells_user_role_and_end(hub: LoopbackHub) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    token = hub.add_token(user="bob", role="write", name="laptop", expires=ends)
    account = await whoami(Secret(token))
    assert (account.name, account.role, account.token_name) == ("bob", "write", "laptop")
    assert (account.expires, account.can_write, account.reads_gated) == (ends, True, True)
    assert account.clock is None


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("writes", [True, False])
async def test_what_a_fine_grained_token_may_do(hub: LoopbackHub, gated: bool, writes: bool) -> None:
    account = await whoami(Secret(hub.add_token(role="fineGrained", reads_gated=gated, writes=writes)))
    assert (account.role, account.reads_gated, account.can_write) == ("fineGrained", gated, writes)


async def test_a_read_token_may_not_write(hub: LoopbackHub) -> None:
    assert (await whoami(Secret(hub.add_token(role="read")))).can_write is False


async def test_unknown_revoked_and_expired_tokens(hub: LoopbackHub) -> None:
    token = hub.add_token()
    await whoami(Secret(token))
    hub.tokens[token].expired = True
    with pytest.raises(HubRefusal) as caught:
        await whoami(Secret(token))
    assert caught.value.reason == "expired"
    del hub.tokens[token]
    with pytest.raises(HubRefusal) as caught:
        await whoami(Secret(token))
    assert caught.value.reason == "invalid"
    assert token not in str(caught.value)
    assert token not in repr(caught.value)


@pytest.mark.parametrize("text", ["hf_a\nX-Evil: 1", "hf_\u20ac" * 5, "hf_a\r\nb"])
async def test_a_token_cannot_add_headers(hub: LoopbackHub, text: str) -> None:
    with pytest.raises(HubRefusal):
        await whoami(Secret(text))
    assert hub.asked == []


async def test_a_wrong_clock_is_noticed(hub: LoopbackHub) -> None:
    hub.clock = 3600 * 3
    account = await whoami(Secret(hub.add_token()))
    assert account.clock is not None
    assert "180 minutes behind" in account.clock


@pytest.mark.parametrize(
    ("trouble", "reason"), [("busy", "busy"), ("limited", "busy"), ("garbage", "garbage")]
)
async def test_answers_of_no_use(hub: LoopbackHub, trouble: str, reason: str) -> None:
    hub.trouble = trouble  # type: ignore[assignment]
    token = Secret(hub.add_token())
    with pytest.raises(HubRefusal) as caught:
        await whoami(token)
    assert caught.value.reason == reason
    if trouble != "garbage":
        with pytest.raises(HubRefusal):
            await check_access(FLUX, token)


@pytest.mark.parametrize(
    ("trouble", "reason"), [("slow", "timeout"), ("drip", "timeout"), ("dead", "broken")]
)
async def test_a_hub_that_does_not_answer(hub: LoopbackHub, trouble: str, reason: str) -> None:
    hub.trouble = trouble  # type: ignore[assignment]
    begin = time.monotonic()
    with pytest.raises(NetworkError) as caught:
        await whoami(Secret(hub.add_token()), patience=0.5)
    assert caught.value.reason == reason
    assert time.monotonic() - begin < 5  # generous; without the limit a slow answer takes 30


async def test_nobody_listens(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NetworkError) as caught:
        await whoami(Secret(hub.add_token()))
    assert caught.value.reason == "refused"
    monkeypatch.setenv("HF_ENDPOINT", "ftp://x")
    with pytest.raises(NetworkError, match="HF_ENDPOINT"):
        await whoami(Secret(hub.add_token()))


async def test_an_unknown_host_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://no-such-host.invalid")
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(NetworkError) as caught:
        await whoami(Secret("hf_" + "x" * 30))
    assert caught.value.reason in ("offline", "timeout")
    assert "no-such-host.invalid" in str(caught.value)


async def test_a_broken_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://huggingface.co")
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://me:geheimwort@127.0.0.1:9")
    with pytest.raises(NetworkError) as caught:
        await whoami(Secret("hf_" + "x" * 30))
    assert caught.value.reason == "proxy"
    assert "127.0.0.1:9" in str(caught.value)
    assert "HTTPS_PROXY" in str(caught.value)
    assert "geheimwort" not in str(caught.value)


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
async def test_the_client_s_own_switch_counts(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE"):
        await check_access(FLUX, None)
    assert hub.asked == []


async def test_a_token_that_may_not_be_used_from_here(hub: LoopbackHub) -> None:
    hub.forbidden = "This token can only be used from the office"
    with pytest.raises(HubRefusal, match="from the office") as caught:
        await whoami(Secret(hub.add_token()))
    assert caught.value.reason == "forbidden"


async def test_redirects_keep_the_token_on_the_same_server_only(hub: LoopbackHub) -> None:
    token = hub.add_token()
    with LoopbackHub() as other:
        hub.redirects["/api/whoami-v2"] = f"{other.url}/api/whoami-v2"
        with pytest.raises(HubRefusal):
            await whoami(Secret(token))
        assert [asked.token for asked in other.asked] == [None]
    hub.models["new/name"] = Model()
    hub.redirects["/api/models/old/name/auth-check"] = f"{hub.url}/api/models/new/name/auth-check"
    hub.models["new/name"].private_to = "alice"
    assert await check_access("old/name", Secret(token)) == "granted"


# Both clients give the same answers

CASES = [
    # token: None (none), or fields of the token; model; our answer; what the real client raises
    ({"user": "alice"}, "granted", None),
    ({"user": "carol"}, "licence", GatedRepoError),
    ({"user": "dave"}, "pending", GatedRepoError),
    ({"user": "alice", "role": "fineGrained", "reads_gated": False}, "no_permission", GatedRepoError),
    ({"user": "alice", "expired": True}, "invalid_token", (RepositoryNotFoundError, HfHubHTTPError)),
    (None, "licence", GatedRepoError),
]


@pytest.mark.parametrize(("fields", "access", "error"), CASES)
async def test_access_as_the_real_client_sees_it(
    hub: LoopbackHub, fields: dict | None, access: str, error: type[Exception] | None
) -> None:
    hub.models[FLUX].accepted = {"alice"}
    hub.models[FLUX].pending = {"dave"}
    token = hub.add_token(**fields) if fields is not None else None
    assert await check_access(FLUX, Secret(token) if token else None) == access
    api = HfApi(endpoint=hub.url, token=token or False)
    if error is None:
        api.auth_check(FLUX)
    else:
        with pytest.raises(error):
            api.auth_check(FLUX)


@pytest.mark.parametrize("known", [True, False])
async def test_no_such_model(hub: LoopbackHub, known: bool) -> None:
    token = hub.add_token() if known else None
    assert await check_access("no/such", Secret(token) if token else None) == "unknown_model"
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.url, token=token or False).auth_check("no/such")


async def test_an_open_model_needs_no_token(hub: LoopbackHub) -> None:
    hub.models["o/pen"] = Model()
    assert await check_access("o/pen", None) == "granted"


async def test_whoami_as_the_real_client_sees_it(hub: LoopbackHub) -> None:
    token = hub.add_token(user="bob", role="write")
    theirs = await asyncio.to_thread(HfApi(endpoint=hub.url).whoami, token)
    ours = await whoami(Secret(token))
    assert (ours.name, ours.role) == (theirs["name"], theirs["auth"]["accessToken"]["role"])
    with pytest.raises(HfHubHTTPError):
        await asyncio.to_thread(HfApi(endpoint=hub.url).whoami, "hf_unknown")


def test_the_real_client_downloads_from_the_loopback(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.models[FLUX].accepted = {"alice"}
    token = hub.add_token()
    assert HfApi(endpoint=hub.url, token=token).model_info(FLUX, files_metadata=True).siblings
    path = hf_hub_download(FLUX, "ae.safetensors", endpoint=hub.url, token=token, cache_dir=tmp_path)
    assert Path(path).read_bytes() == bytes(range(256))


def test_the_loopback_serves_ranges(hub: LoopbackHub) -> None:
    import urllib.request

    hub.models["o/pen"] = Model(files={"a.bin": b"0123456789"})
    request = urllib.request.Request(f"{hub.url}/o/pen/resolve/main/a.bin", headers={"Range": "bytes=3-5"})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert (response.status, response.read()) == (206, b"345")
        assert response.headers["Content-Range"] == "bytes 3-5/10"


def test_pages(hub: LoopbackHub) -> None:
    assert model_page(FLUX) == f"{hub.url}/{FLUX}"
    assert model_page(FLUX, {}) == f"https://huggingface.co/{FLUX}"
    assert "canReadGatedRepos=true" in token_page({})
