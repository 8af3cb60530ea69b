"""``serve``: the whole app in a browser, by textual-serve; on this machine only unless told otherwise."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import shlex
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tui.cli.main import fail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

_COOKIE = "fluxlora_token"
_LEAST_TOKEN = 16  # characters of a token that somebody chose
_MISSING = "serve needs the package textual-serve; install it with: pip install 'fluxlora-tui[serve]'"


def serve(host: str, port: int, token: str | None) -> int:
    """Serve the app until Ctrl-C.

    Args:
        host: The address to listen at. One that others can reach needs a token.
        port: The port; 0 picks one that is free.
        token: What a browser has to show; made now if ``host`` needs one and this is None.
    """
    try:
        import textual_serve.server  # noqa: F401 - asked for before anything is said
    except ImportError:
        return fail(_MISSING, 1)
    open_to_others = not is_loopback(host)
    if token is not None and len(token) < _LEAST_TOKEN:
        return fail(
            f"a token needs at least {_LEAST_TOKEN} characters; leave --token out to have one made", 2
        )
    if open_to_others and token is None:
        token = secrets.token_urlsafe(24)
    try:
        port = port or _free_port(host)
    except OSError as error:
        return fail(f"cannot listen at {host}: {error.strerror or error}", 1)
    address = f"http://{_in_url(host)}:{port}/" + (f"?token={token}" if token else "")
    if open_to_others:
        print(
            f"fluxlora-tui: warning: {host} can be reached by others. Whoever has the address with its token "
            "can do all that you can: start runs that cost money, delete files. What is typed is not "
            "encrypted: use it behind an SSH tunnel or a proxy with TLS.",
            file=sys.stderr,
        )
    print(f"the app is at {address}\npress Ctrl-C to end it", flush=True)
    try:
        make_server(host, port, token).serve()
    except OSError as error:
        return fail(f"cannot listen at {host}:{port}: {error.strerror or error}", 1)
    return 0


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens at ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name: whatever it means, others may reach it


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _free_port(host: str) -> int:
    with socket.create_server(
        (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
    ) as listening:
        return int(listening.getsockname()[1])


def app_command() -> str:
    """The command that a browser's session runs: this Python's app, as one line for the system's shell."""
    words = [sys.executable, "-m", "tui"]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def make_server(host: str, port: int, token: str | None, command: str | None = None) -> Any:
    """A server of textual-serve that lets in who may come in.

    Args:
        host: The address to listen at.
        port: The port.
        token: What a browser has to show; None lets every process of this machine in.
        command: What a session runs; the app if None.
    """
    import copy

    from textual_serve.server import Server

    class GuardedServer(Server):  # type: ignore[misc, unused-ignore]
        """textual-serve's, behind :func:`guard`, with addresses as the browser sees them."""

        def initialize_logging(self) -> None:
            """None: it would print addresses, and with them tokens."""

        async def on_startup(self, app: web.Application) -> None:
            """What there is to say was said."""

        async def _make_app(self) -> web.Application:
            app = await super()._make_app()
            app.middlewares.append(guard(host, token))
            return app

        async def handle_index(self, request: web.Request) -> web.StreamResponse:
            """The page, whose links lead to the host that the browser asked."""
            seen = copy.copy(self)
            seen.public_url = f"{request.scheme}://{request.host}"
            return await Server.handle_index(seen, request)

    return GuardedServer(command or app_command(), host=host, port=port, title="fluxlora-tui")


def guard(host: str, token: str | None) -> Any:
    """A middleware of aiohttp that refuses strangers.

    With a token, every request needs it: once in the address (``?token=``), from then on in a cookie that
    scripts cannot read. Without one, the host asked for must be this machine's own, so that no web page can
    reach the app under a name of its own (DNS rebinding). A socket is opened only for a page from here
    (cross-site WebSocket hijacking).
    """
    from aiohttp import web

    @web.middleware
    async def middleware(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if token is None and not is_loopback(_without_port(request.host)):
            raise web.HTTPForbidden(text="This address is not this machine's own.\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            raise web.HTTPForbidden(text="This page is not from here.\n")
        if token is not None:
            shown = request.query.get("token")
            if shown is not None and _is_same(shown, token) and request.path == "/":
                moved = web.HTTPSeeOther("/")  # so that the token leaves the address bar
                moved.set_cookie(
                    _COOKIE, token, httponly=True, samesite="Strict", secure=request.scheme == "https"
                )
                raise moved
            if not _is_same(request.cookies.get(_COOKIE, ""), token):
                raise web.HTTPUnauthorized(text="The address needs its token: ?token=...\n")
        response = await handler(request)
        if not response.prepared:
            response.headers["Referrer-Policy"] = "no-referrer"
            response.headers["X-Frame-Options"] = "DENY"
        return response

    return middleware


def _is_same(shown: str, token: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), token.encode())


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
