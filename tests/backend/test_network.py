from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from backend import network
from backend.network import NetworkError, clock_problem, in_thread, reach, ssl_context

CERTIFICATES = Path(__file__).with_name("certificates")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def server(certificate: str | None = None) -> Iterator[str]:
    """Accepts connections, with TLS if there is a certificate; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / certificate, CERTIFICATES / "key.pem")

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                if context is not None:
                    with context.wrap_socket(connection, server_side=True) as secure:
                        secure.recv(1)
                else:
                    connection.recv(1)
            except OSError:
                pass
            finally:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    scheme = "https" if certificate else "http"
    try:
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


async def failure(url: str, patience: float = 2.5) -> NetworkError:
    with pytest.raises(NetworkError) as caught:
        await reach(url, patience=patience)
    return caught.value


async def test_a_server_that_is_there() -> None:
    with server() as url:
        await reach(url)


async def test_one_of_several_is_enough() -> None:
    with server() as url:
        await reach(f"http://127.0.0.1:9, {url}")
    assert (await failure("http://127.0.0.1:9,http://127.0.0.1:9")).reason == "refused"


async def test_a_certificate_that_nobody_trusts() -> None:
    with server("own.pem") as url:
        error = await failure(url)
    assert error.reason == "tls"
    assert "127.0.0.1" in error.message
    assert "SSL_CERT_FILE" in error.fix


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
async def test_a_company_s_certificate_is_trusted_where_it_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(CERTIFICATES / "own.pem"))
    with server("own.pem") as url:
        await reach(url)


async def test_an_expired_certificate_may_be_a_wrong_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "expired.pem"))
    with server("expired.pem") as url:
        error = await failure(url)
    assert error.reason == "clock"
    assert "clock" in error.fix


async def test_a_server_that_does_not_speak_tls() -> None:
    with server() as url:
        error = await failure(url.replace("http:", "https:"), 1.0)
    assert error.reason in ("broken", "tls", "timeout")


async def test_a_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(network.socket, "create_connection", lambda *_, **__: done.wait(60))
    begin = time.monotonic()
    error = await failure("http://example.invalid", 0.3)
    done.set()
    assert error.reason == "timeout"
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), "offline"),
        (OSError(101, "Network is unreachable"), "offline"),
        (ConnectionRefusedError(111, "refused"), "refused"),
        (TimeoutError("timed out"), "timeout"),
        (ConnectionResetError(104, "reset"), "broken"),
    ],
)
def test_what_exceptions_mean(monkeypatch: pytest.MonkeyPatch, raised: OSError, reason: str) -> None:
    error = network.explain(raised, "example.org")
    assert error.reason == reason
    assert "example.org" in error.message
    assert error.fix
    monkeypatch.setenv("https_proxy", "proxy.corp:3128")
    error = network.explain(raised, "example.org")
    assert error.reason == "proxy"
    assert "proxy.corp:3128" in error.message
    monkeypatch.setenv("no_proxy", "example.org")
    assert network.explain(raised, "example.org").reason == reason


async def test_through_a_proxy_the_proxy_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with server() as url:
        monkeypatch.setenv("https_proxy", url)
        await reach("https://nowhere.invalid")


async def test_in_thread_gives_results_and_errors() -> None:
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(ValueError, match="no"):
        await in_thread(lambda: int("no"))


def test_a_process_does_not_wait_for_a_stuck_thread() -> None:
    """A look-up that hangs must not keep the command line from ending."""
    done = threading.Event()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(lambda: done.wait(60)), 0.1)

    begin = time.monotonic()
    asyncio.run(give_up())
    assert time.monotonic() - begin < 5
    assert any(thread.daemon for thread in threading.enumerate() if thread.name == "network")
    done.set()


def test_the_clock() -> None:
    def at(**ahead: float) -> str:
        return format_datetime(datetime.now(UTC) + timedelta(**ahead), usegmt=True)

    assert clock_problem(None) is None
    assert clock_problem("nonsense") is None
    assert clock_problem(at(minutes=2)) is None
    assert "10 minutes behind" in str(clock_problem(at(minutes=10)))
    assert "60 minutes ahead" in str(clock_problem(at(minutes=-60)))


def test_trust_is_never_empty() -> None:
    assert ssl_context({"REQUESTS_CA_BUNDLE": "/no/such/file"}).verify_mode == ssl.CERT_REQUIRED
    assert ssl_context({"CURL_CA_BUNDLE": str(CERTIFICATES / "own.pem")}).cert_store_stats()["x509"] > 0
