"""The Modal account behind a token: is it valid, whose workspace, what was spent; and the browser login.

Every question opens a client of its own with the token that is asked about, so a token can be tried before
it is saved and the SDK's process-wide client is never touched. Each has a time limit, and the server is
reached for first: the SDK needs about a minute to say that there is no network.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from backend.credentials.errors import CredentialsError
from backend.credentials.modal_profiles import ModalToken, modal_config_path, read_profiles
from backend.credentials.redaction import redact
from backend.credentials.secret import Secret
from backend.launchers.modal.gateway import load_sdk
from backend.network import NetworkError, proxy_for, reach

T = TypeVar("T")

_REACH = 2.5  # seconds within which a connection must come about: offline is said in three
_USUAL_SERVER = "https://api.modal.com"
_LOGIN_POLL = 30.0  # seconds that the server holds one question about a browser login


@dataclass(frozen=True)
class Account:
    """What a token opens.

    Attributes:
        workspace: The workspace's name.
        token_name: What the token is called in the workspace's settings; None if not told.
        user: Who made it; None if not told.
        expires: When it ends; None if never, or not told.
    """

    workspace: str
    token_name: str | None = None
    user: str | None = None
    expires: datetime | None = None


@dataclass(frozen=True)
class Budget:
    """What a workspace has spent in the present billing cycle, in dollars.

    Attributes:
        used: Cost of everything that ran, before credits.
        billed: What is to be paid of it.
        credits: How much of it credits have paid; None if not told.
        since: When the cycle began.
    """

    used: float
    billed: float
    credits: float | None
    since: datetime


@dataclass(eq=False)
class AccountRefusal(Exception):  # noqa: N818 - Modal's answer, not a failure of ours
    """Modal answered, but does not let the token do this; or its config file prevents the question.

    Attributes:
        reason: ``denied`` (unknown or revoked token), ``expired``, ``no_permission``, ``config`` (Modal's
            config file is broken), ``failed`` (anything else that Modal says).
        message: What happened, one clause.
        fix: What to do, one sentence.
    """

    reason: Literal["denied", "expired", "no_permission", "config", "failed"]
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.message}; {self.fix}"


async def verify(token: ModalToken, *, patience: float = 8.0) -> Account:
    """Ask Modal whose token it is.

    Raises:
        NetworkError: Modal cannot be reached.
        AccountRefusal: It does not accept the token.
    """

    async def ask(modal: Any, client: Any) -> Account:
        workspace = modal.Workspace.from_context(client=client)
        await workspace.hydrate.aio()
        name, user, expires = await _details(workspace, token.token_id)
        return Account(str(workspace.name or ""), name, user, expires)

    return await _with_client(token, ask, patience)


async def workspace_budget(token: ModalToken, *, patience: float = 8.0) -> Budget | None:
    """What the workspace has spent since its billing cycle began; None where Modal does not tell.

    How much may still be spent is told on Modal's website only.

    Raises:
        NetworkError: Modal cannot be reached.
        AccountRefusal: It does not accept the token.
    """

    async def ask(modal: Any, client: Any) -> Budget:
        workspace = modal.Workspace.from_context(client=client)
        summary = await workspace.billing.summary.aio()
        paid = [value for name, value in summary.adjustments.items() if "credit" in name.lower()]
        return Budget(
            used=float(summary.metered_cost),
            billed=float(summary.billed_cost),
            credits=abs(float(sum(paid))) if paid else None,
            since=summary.start,
        )

    try:
        return await _with_client(token, ask, patience)
    except AccountRefusal as refusal:
        if refusal.reason in ("no_permission", "failed"):
            return None
        raise


async def _details(workspace: Any, token_id: str) -> tuple[str | None, str | None, datetime | None]:
    """Name, user and end of the token itself; a token without the right to list tokens tells nothing."""
    with contextlib.suppress(Exception):
        for info in await workspace.member_tokens.list.aio():
            if info.token_id == token_id:
                return info.name or None, info.username or None, info.expires_at
    return None, None, None


# -- the browser -------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewToken:
    """A token that Modal made for a browser login.

    Attributes:
        token_id: ``ak-…``.
        token_secret: ``as-…``.
        workspace: The workspace it belongs to; None if not told.
    """

    token_id: str
    token_secret: Secret
    workspace: str | None

    def __repr__(self) -> str:
        return f"NewToken(workspace={self.workspace!r})"


@dataclass(frozen=True)
class BrowserLogin:
    """A login that waits for a person in a browser, here or on any other machine.

    Attributes:
        url: The page to open.
        code: A code that the page may ask for; empty if none.
    """

    url: str
    code: str
    _flow: Any

    async def wait(self, patience: float = 600.0) -> NewToken:
        """The token, once the person has agreed.

        Raises:
            NetworkError: The time is over, or the connection is lost.
            AccountRefusal: The login was refused.
        """
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            poll = min(_LOGIN_POLL, left)
            result = await _explained(self._flow.finish.aio(timeout=poll), poll + 10.0, "modal.com")
            if result is not None:
                return NewToken(
                    result.token_id, Secret(result.token_secret), result.workspace_username or None
                )
        raise NetworkError("timeout", "nobody agreed to the login in the browser in time", "start it again")


@asynccontextmanager
async def browser_login(
    server_url: str | None = None, *, patience: float = 8.0
) -> AsyncIterator[BrowserLogin]:
    """Begin a login in the browser; the page is for the caller to show and open.

    Args:
        server_url: The server; Modal's own if None.
        patience: Seconds until the page's address must be known.

    Raises:
        NetworkError: Modal cannot be reached.
        AccountRefusal: It refuses to begin.
    """
    modal, server = await _ready(server_url, patience)
    flows = importlib.import_module("modal.token_flow")
    host = _host(server)
    async with contextlib.AsyncExitStack() as stack:
        entering = stack.enter_async_context(modal.Client.anonymous.aio(server))
        client = await _explained(entering, patience, host)
        flow = flows.TokenFlow(client)
        beginning = stack.enter_async_context(flow.start.aio(utm_source="fluxlora-tui"))
        _, url, code = await _explained(beginning, patience, host)
        yield BrowserLogin(str(url), str(code or ""), flow)


# -- clients -----------------------------------------------------------------------------------


async def _with_client(token: ModalToken, ask: Callable[[Any, Any], Awaitable[T]], patience: float) -> T:
    """What ``ask(modal, client)`` gives, with a client for this token that lives as long as the question."""
    modal, server = await _ready(token.server_url, patience)

    async def question() -> T:
        client = await _connect(modal, token, server)
        try:
            return await ask(modal, client)
        finally:
            with contextlib.suppress(Exception):
                await client.close.aio()

    return await _explained(question(), patience, _host(server))


async def _connect(modal: Any, token: ModalToken, server: str) -> Any:
    pair = (token.token_id, token.token_secret.reveal())
    if server == _default_server():
        return await modal.Client.from_credentials.aio(*pair)
    # A profile for another server than the one the SDK read when it was imported.
    from modal_proto import api_pb2

    client = modal.Client(server, api_pb2.CLIENT_TYPE_CLIENT, pair)
    await client._open.aio()
    return client


async def _ready(server_url: str | None, patience: float) -> tuple[Any, str]:
    """The SDK, and the address of the server, which answers.

    Both are seen to at the same time: that there is no network is to be said in three seconds.
    """
    guess = server_url or os.environ.get("MODAL_SERVER_URL") or _USUAL_SERVER
    loading, reaching = asyncio.ensure_future(_sdk(patience)), asyncio.ensure_future(_reach(guess))
    try:
        await asyncio.wait((loading, reaching), return_when=asyncio.FIRST_EXCEPTION)
        if loading.done():
            loading.result()  # a broken config file is told rather than a server that it might name
        if reaching.done():
            reaching.result()
        modal = await loading
        await reaching
    finally:
        for task in (loading, reaching):
            task.cancel()
        await asyncio.gather(loading, reaching, return_exceptions=True)
    server = server_url or _default_server()
    if server != guess:
        await _reach(server)
    return modal, server


async def _sdk(patience: float) -> Any:
    try:
        # The SDK reads its file when it is imported; a broken one makes it print a banner.
        await asyncio.to_thread(lambda: read_profiles(modal_config_path()))
        return await asyncio.wait_for(load_sdk(), max(patience, 8.0))
    except CredentialsError as error:
        what, _, todo = str(error).partition("; ")
        raise AccountRefusal("config", what, todo or "Modal's SDK cannot work without it") from None
    except ImportError:
        raise AccountRefusal(
            "config", "the package modal is not installed", "pip install fluxlora-tui"
        ) from None
    except TimeoutError:
        raise AccountRefusal("config", "the package modal takes too long to load", "try again") from None
    except Exception as error:
        raise _refusal(error) from None


def _default_server() -> str:
    return str(importlib.import_module("modal.config").config["server_url"])


def _host(server: str) -> str:
    return urlsplit(server.split(",")[0]).hostname or "Modal"


async def _reach(server: str) -> None:
    first = server.split(",")[0]
    host = _host(server)
    proxy = proxy_for(host, urlsplit(first).scheme or "https")
    if proxy is not None and importlib.util.find_spec("python_socks") is None:
        raise NetworkError(
            "proxy",
            f"{host} is to be reached through a proxy, for which Modal's SDK lacks a package",
            "pip install 'modal[api-proxy-support]', or put the host into NO_PROXY",
        )
    if not first.startswith("unix:"):
        await reach(server, patience=_REACH)


async def _explained(call: Coroutine[Any, Any, T], patience: float, host: str) -> T:
    """The result of a call of the SDK.

    Raises:
        NetworkError: It took too long, or the connection broke.
        AccountRefusal: Modal, or the SDK, refused.
    """
    try:
        return await asyncio.wait_for(call, patience)
    except (NetworkError, AccountRefusal):
        raise
    except TimeoutError:
        raise NetworkError("timeout", f"{host} did not answer in time", "try again") from None
    except Exception as error:
        names = {cls.__name__ for cls in type(error).__mro__}
        if isinstance(error, OSError) or names & {"ConnectionError", "StreamTerminatedError", "ClientClosed"}:
            raise NetworkError("broken", f"the connection to {host} broke off", "try again") from None
        if ":status" in str(error):  # an answer in HTTP, but none of Modal's
            fix = "a login page of the network or a proxy may be in between"
            raise NetworkError("broken", f"what answers at {host} is not Modal", fix) from None
        raise _refusal(error) from None


def _refusal(error: Exception) -> AccountRefusal:
    names = {cls.__name__ for cls in type(error).__mro__}
    said = " ".join(redact(str(error)).split())[:300] or type(error).__name__
    again = "get a new one at https://modal.com/settings/tokens"
    if "AuthError" in names and "expired" in said.lower():
        return AccountRefusal("expired", "the Modal token has expired", again)
    if "AuthError" in names:
        return AccountRefusal(
            "denied",
            "Modal does not know this token: it was revoked, or id and secret do not belong together",
            again,
        )
    if "PermissionDeniedError" in names:
        return AccountRefusal(
            "no_permission",
            f"the Modal token has no permission for this ({said})",
            "ask the workspace's owner",
        )
    if "InvalidError" in names:
        return AccountRefusal("config", said.rstrip("."), "correct Modal's config file, or move it away")
    return AccountRefusal("failed", f"Modal refused ({said})", "try again")
