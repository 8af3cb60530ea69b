"""Questions to the Hugging Face Hub: whose token, what may it do, is a model's licence accepted.

The base install has no ``huggingface_hub``; these are the same requests that its ``whoami`` and
``auth_check`` make, and a test holds that both give the same answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from http.client import HTTPException
from typing import IO, Any, Literal
from urllib.parse import quote, urlsplit

from backend.credentials.redaction import redact
from backend.credentials.secret import Secret
from backend.network import NetworkError, clock_problem, explain, in_thread, reach, ssl_context

DEFAULT_ENDPOINT = "https://huggingface.co"
_MOST = 1 << 20  # bytes of an answer that are read

Access = Literal["granted", "licence", "pending", "no_permission", "unknown_model", "invalid_token"]


@dataclass(frozen=True)
class HubAccount:
    """Who a token belongs to and what it may do.

    Attributes:
        name: The user's or organisation's name.
        token_name: What the token is called in the account's settings; None if not told.
        role: ``read``, ``write``, ``fineGrained``, or what else the Hub says; None if not told.
        reads_gated: Whether it may read gated models the account has access to; None if not told.
        can_write: Whether it may upload to the account's own repositories; None if not told.
        expires: When the token ends; None if never, or not told.
        organisations: Names of the organisations that the token sees.
        clock: What is wrong with this machine's clock; None if nothing is.
    """

    name: str
    token_name: str | None = None
    role: str | None = None
    reads_gated: bool | None = None
    can_write: bool | None = None
    expires: datetime | None = None
    organisations: tuple[str, ...] = ()
    clock: str | None = None


@dataclass(eq=False)
class HubRefusal(Exception):  # noqa: N818 - an answer of the Hub, not a failure of ours
    """The Hub answered, but not with what was asked for.

    Attributes:
        reason: ``invalid`` (unknown or revoked token), ``expired``, ``forbidden`` (not from here, or not
            with this token), ``busy`` (too many requests or the Hub is down), ``garbage`` (no answer of a
            Hub).
        message: What happened, one clause.
        fix: What to do, one sentence.
    """

    reason: Literal["invalid", "expired", "forbidden", "busy", "garbage"]
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.message}; {self.fix}"


def endpoint(env: Mapping[str, str] | None = None) -> str:
    """The Hub's address: ``HF_ENDPOINT``, or huggingface.co."""
    env = os.environ if env is None else env
    return (env.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def model_page(repo: str, env: Mapping[str, str] | None = None) -> str:
    """The web page of a model, where its licence is accepted."""
    return f"{endpoint(env)}/{repo}"


def token_page(env: Mapping[str, str] | None = None) -> str:
    """The web page on which tokens are made, with what a training needs already ticked."""
    return f"{endpoint(env)}/settings/tokens/new?canReadGatedRepos=true&tokenType=fineGrained"


async def reach_hub(env: Mapping[str, str] | None = None) -> None:
    """Connect to the Hub and ask nothing: three seconds tell that there is no network.

    Raises:
        NetworkError: It cannot be reached.
    """
    base = endpoint(env)
    if not _offline_is_wanted(env) and base.startswith(("https://", "http://")):  # else a request says why
        await reach(base)


async def whoami(token: Secret, *, env: Mapping[str, str] | None = None, patience: float = 8.0) -> HubAccount:
    """Whose token it is.

    Raises:
        HubRefusal: The Hub does not know the token, or gives no usable answer.
        NetworkError: The Hub cannot be reached within ``patience`` seconds.
    """
    base = endpoint(env)
    answer = await _get(f"{base}/api/whoami-v2", token, env, patience)
    host = urlsplit(base).hostname or base
    if answer.status == 401:
        raise _bad_token(answer, env)
    if answer.status != 200:
        raise _unusable(answer, host)
    data = answer.data
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(name, str) or not name:
        raise _garbage(host)
    return _account(name, data, answer.headers.get("Date"))


async def check_access(
    repo: str, token: Secret | None, *, env: Mapping[str, str] | None = None, patience: float = 8.0
) -> Access:
    """Whether a model's files can be downloaded with a token, or without one if it is None.

    Raises:
        HubRefusal: The Hub gives no usable answer.
        NetworkError: The Hub cannot be reached within ``patience`` seconds.
    """
    base = endpoint(env)
    answer = await _get(f"{base}/api/models/{quote(repo, safe='/')}/auth-check", token, env, patience)
    code, message = answer.headers.get("X-Error-Code", ""), answer.message.lower()
    if answer.status == 200:
        return "granted"
    if code == "GatedRepo":
        if "fine-grained" in message or "token settings" in message:
            return "no_permission"
        return "pending" if "awaiting" in message or "pending" in message else "licence"
    if answer.status == 401 and token is not None and code != "RepoNotFound":
        return "invalid_token"
    if code == "RepoNotFound" or answer.status in (401, 404):
        return "unknown_model"
    if answer.status == 403:
        return "no_permission"
    raise _unusable(answer, urlsplit(base).hostname or base)


# -- answers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def data(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def message(self) -> str:
        """What the Hub says about a failure, in its own words."""
        data = self.data
        told = data.get("error") if isinstance(data, dict) else None
        return " ".join(part for part in (self.headers.get("X-Error-Message"), told) if isinstance(part, str))


def _account(name: str, data: dict[str, Any], date: str | None) -> HubAccount:
    auth = _dict(data.get("auth"))
    token = _dict(auth.get("accessToken"))
    role = _text(token.get("role"))
    fine = _dict(token.get("fineGrained")) if role == "fineGrained" else None
    orgs = data.get("orgs")
    names = [_text(_dict(org).get("name")) for org in orgs] if isinstance(orgs, list) else []
    reads_gated = can_write = None
    if fine is not None:
        reads_gated = fine.get("canReadGatedRepos") is True
        can_write = _may_write(fine, name)
    elif role in ("read", "write", "admin"):
        reads_gated, can_write = True, role != "read"
    return HubAccount(
        name=name,
        token_name=_text(token.get("displayName")),
        role=role,
        reads_gated=reads_gated,
        can_write=can_write,
        expires=_time(auth.get("expiresAt"))
        or _time(token.get("expiration"))
        or _time(token.get("expiresAt")),
        organisations=tuple(org for org in names if org),
        clock=clock_problem(date),
    )


def _may_write(fine: dict[str, Any], name: str) -> bool:
    granted: list[Any] = []
    scopes = fine.get("scoped")
    for scope in scopes if isinstance(scopes, list) else []:
        scope = _dict(scope)
        if _dict(scope.get("entity")).get("name") == name and isinstance(scope.get("permissions"), list):
            granted += scope["permissions"]
    return "repo.write" in granted


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _bad_token(answer: _Answer, env: Mapping[str, str] | None) -> HubRefusal:
    if "expired" in answer.message.lower():
        return HubRefusal(
            "expired", "the Hugging Face token has expired", f"make a new one at {token_page(env)}"
        )
    return HubRefusal(
        "invalid",
        "the Hub does not know this token: it was revoked, or cut off when it was copied",
        f"make a new one at {token_page(env)}",
    )


def _unusable(answer: _Answer, host: str) -> HubRefusal:
    if answer.status == 403 and answer.message:
        said = " ".join(redact(answer.message).split())[:200]
        return HubRefusal(
            "forbidden", f"{host} refuses this token ({said})", "look at the token's settings there"
        )
    if answer.status == 429:
        return HubRefusal("busy", f"{host} was asked too often", "wait a few minutes")
    if answer.status >= 500:
        return HubRefusal(
            "busy", f"{host} has trouble of its own (status {answer.status})", "try again later"
        )
    return _garbage(host)


def _garbage(host: str) -> HubRefusal:
    return HubRefusal(
        "garbage",
        f"what answers at {host} is no Hugging Face Hub",
        "a login page of the network may be in between; correct HF_ENDPOINT if it is set",
    )


# -- requests ----------------------------------------------------------------------------------


class _SameHostRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; the token goes along only to the server that it was meant for."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if new is not None and token and (before.scheme, before.netloc) == (after.scheme, after.netloc):
            new.add_unredirected_header("Authorization", token)
        return new


async def _get(url: str, token: Secret | None, env: Mapping[str, str] | None, patience: float) -> _Answer:
    host = urlsplit(url).hostname or url
    if _offline_is_wanted(env):
        raise NetworkError("offline", "HF_HUB_OFFLINE keeps everything off the Hub", "unset it")
    if urlsplit(url).scheme not in ("https", "http"):
        raise NetworkError(
            "broken", f"HF_ENDPOINT is no web address: {endpoint(env)}", "begin it with https://"
        )
    request = urllib.request.Request(
        url, headers={"User-Agent": "fluxlora-tui", "Accept": "application/json"}
    )
    if token is not None:
        try:
            token.reveal().encode("latin-1")
        except UnicodeEncodeError:
            raise HubRefusal(
                "invalid", "the token holds characters that no token has", "copy it again"
            ) from None
        request.add_unredirected_header("Authorization", f"Bearer {token.reveal()}")

    def ask() -> _Answer:
        deadline = time.monotonic() + patience
        opener = urllib.request.build_opener(
            _SameHostRedirects, urllib.request.HTTPSHandler(context=ssl_context(env))
        )
        try:
            with opener.open(request, timeout=patience) as response:
                return _Answer(response.status, response.headers, _read(response, deadline))
        except urllib.error.HTTPError as error:
            with error:
                return _Answer(error.code, error.headers, _read(error, deadline))

    try:
        return await asyncio.wait_for(in_thread(ask), patience)
    except (OSError, HTTPException, ValueError) as error:
        if not isinstance(error, OSError):  # no HTTP, or a redirect to nowhere
            raise _garbage(host) from None
        raise explain(error, host) from None


def _offline_is_wanted(env: Mapping[str, str] | None) -> bool:
    """Whether the switch is set with which the Hub's own client makes no requests."""
    env = os.environ if env is None else env
    wanted = env.get("HF_HUB_OFFLINE") or env.get("TRANSFORMERS_OFFLINE") or ""
    return wanted.upper() in ("1", "ON", "YES", "TRUE")


def _read(response: Any, deadline: float) -> bytes:
    body = b""
    while len(body) < _MOST and time.monotonic() < deadline:
        part = response.read1(65536)
        if not part:
            break
        body += part
    return body
