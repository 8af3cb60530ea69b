"""Why a server cannot be reached, in plain words, and within seconds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

T = TypeVar("T")

Reason = Literal["offline", "refused", "timeout", "proxy", "tls", "clock", "broken"]

_SKEW = 300.0  # seconds; more than this, and signatures and certificates begin to fail
_PROXY_NAMES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


@dataclass(eq=False)
class NetworkError(Exception):
    """A server cannot be reached.

    Attributes:
        reason: Which kind of trouble it is.
        message: One clause that says what happened, with the host.
        fix: One sentence that says what to do.
    """

    reason: Reason
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.message}; {self.fix}"


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread of its own, which a process that ends does not wait for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(setter: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            setter(value)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            outcome: tuple[Callable[[Any], None], Any] = (future.set_exception, error)
        else:
            outcome = (future.set_result, result)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(deliver, *outcome)

    threading.Thread(target=run, name="network", daemon=True).start()
    return await future


def proxy_for(host: str, scheme: str = "https") -> str | None:
    """The proxy that the environment or the system names for a host; None if it is reached directly."""
    if proxy_bypass(host):
        return None
    proxies = getproxies()
    return proxies.get(scheme) or proxies.get("all") or None


def ssl_context(env: Mapping[str, str] | None = None) -> ssl.SSLContext:
    """What Python trusts, with a company's certificates where its variables name them.

    Besides ``SSL_CERT_FILE``, which OpenSSL reads itself, ``REQUESTS_CA_BUNDLE`` and ``CURL_CA_BUNDLE``
    count. Pythons without any certificates (python.org's on macOS) get certifi's.
    """
    env = os.environ if env is None else env
    context = ssl.create_default_context()
    bundle = env.get("REQUESTS_CA_BUNDLE") or env.get("CURL_CA_BUNDLE")
    with contextlib.suppress(OSError):
        if bundle and os.path.isdir(bundle):
            context.load_verify_locations(capath=bundle)
        elif bundle:
            context.load_verify_locations(bundle)
        elif not context.cert_store_stats()["x509_ca"]:
            import certifi

            context.load_verify_locations(certifi.where())
    return context


def explain(error: BaseException, host: str) -> NetworkError:
    """Which trouble an exception of a connection to ``host`` stands for."""
    cause = getattr(error, "reason", None)  # urllib wraps what happened
    if isinstance(cause, BaseException):
        error = cause
    proxy = proxy_for(host)
    if isinstance(error, ssl.SSLError):
        return _tls(error, host, proxy)
    if proxy is not None:
        return NetworkError(
            "proxy",
            f"{host} cannot be reached through the proxy {_shown(proxy)}",
            f"correct {' or '.join(_proxy_variables()) or 'the proxy in the system settings'}, "
            f"or put {host} into NO_PROXY",
        )
    if isinstance(error, socket.gaierror) or getattr(error, "errno", None) in (
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
    ):
        return NetworkError(
            "offline",
            f"{host} cannot be found: this machine seems to be offline",
            "connect to the network; behind a company proxy, set HTTPS_PROXY",
        )
    if isinstance(error, TimeoutError):
        return NetworkError(
            "timeout", f"{host} did not answer in time", "try again; behind a company proxy, set HTTPS_PROXY"
        )
    if isinstance(error, ConnectionRefusedError):
        return NetworkError(
            "refused",
            f"{host} refuses connections",
            "a firewall may block it, or the server is down; try later",
        )
    return NetworkError(
        "broken", f"the connection to {host} broke off", "try again; a firewall or proxy may block it"
    )


def _tls(error: ssl.SSLError, host: str, proxy: str | None) -> NetworkError:
    text = str(getattr(error, "verify_message", "") or error).lower()
    if "not yet valid" in text or "expired" in text:
        return NetworkError(
            "clock",
            f"the certificate of {host} is not valid at the time of this machine's clock "
            f"({datetime.now(UTC):%Y-%m-%d %H:%M} UTC)",
            "set the clock of this machine",
        )
    between = f" by the proxy {_shown(proxy)}" if proxy else ""
    return NetworkError(
        "tls",
        f"the encrypted connection to {host} is intercepted{between} or its certificate is not trusted",
        "ask for your company's root certificate and set SSL_CERT_FILE to its file",
    )


def _shown(proxy: str) -> str:
    """A proxy's address without the name and password that may stand in it."""
    parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.hostname or '?'}{port}"


def _proxy_variables() -> list[str]:
    return [name for name in _PROXY_NAMES if os.environ.get(name) or os.environ.get(name.lower())]


async def reach(url: str, *, patience: float = 2.5) -> None:
    """Open a connection to a server, with TLS for ``https``, and close it.

    Returns as soon as that works; through a proxy only the proxy is reached. A few seconds decide what a
    client library with its retries takes a minute for.

    Args:
        url: ``https://host`` or ``http://host:port``; several, separated by commas, of which one must work.
        patience: Seconds.

    Raises:
        NetworkError: None can be reached.
    """
    urls = [part.strip() for part in url.split(",") if part.strip()]
    attempts = [asyncio.ensure_future(_reach_one(one, patience)) for one in urls]
    try:
        for attempt in asyncio.as_completed(attempts):
            with contextlib.suppress(NetworkError):
                await attempt
                return
        failures = [error for task in attempts if isinstance(error := task.exception(), NetworkError)]
        # What says more than "offline" or "too late" is told; else what the first one, the main one, met.
        raise next((e for e in failures if e.reason not in ("offline", "timeout")), failures[0])
    finally:
        for task in attempts:
            task.cancel()


async def _reach_one(url: str, patience: float) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    target = (host, parts.port or (443 if secure else 80))
    proxy = proxy_for(host, parts.scheme)
    if proxy is not None:
        through = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        target = (through.hostname or "", through.port or 8080)

    def connect() -> None:
        deadline = time.monotonic() + patience
        with socket.create_connection(target, timeout=patience) as plain:
            if secure and proxy is None:
                plain.settimeout(max(0.1, deadline - time.monotonic()))
                with ssl_context().wrap_socket(plain, server_hostname=host):
                    pass

    try:
        await asyncio.wait_for(in_thread(connect), patience)  # looking up a name knows no time limit
    except OSError as error:
        raise explain(error, host) from None


def clock_problem(date: str | None) -> str | None:
    """What is wrong with this machine's clock, judged by a server's ``Date`` header; None if nothing is."""
    if not date:
        return None
    try:
        told = parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
    if told.tzinfo is None:
        told = told.replace(tzinfo=UTC)
    ahead = (datetime.now(UTC) - told).total_seconds()
    if abs(ahead) < _SKEW:
        return None
    minutes = round(abs(ahead) / 60)
    return f"this machine's clock is {minutes} minutes {'ahead' if ahead > 0 else 'behind'}; set it"
