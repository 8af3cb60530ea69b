"""A Hugging Face Hub on 127.0.0.1: tokens, gated models, files with ranges; for the real client and ours."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"

Trouble = Literal["", "slow", "dead", "garbage", "busy", "limited", "drip"]


@dataclass
class Token:
    """One token and whose it is."""

    user: str = "alice"
    role: str = "read"
    name: str = "training"
    expired: bool = False
    expires: datetime | None = None
    reads_gated: bool = True  # of a fine-grained token
    writes: bool = False  # of a fine-grained token


@dataclass
class Model:
    """One model repository."""

    files: dict[str, bytes] = field(default_factory=dict)
    gated: bool = False
    accepted: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)
    private_to: str = ""


@dataclass
class Asked:
    """A request that came in."""

    method: str
    path: str
    token: str | None
    range: str | None


class LoopbackHub:
    """The server and its knobs.

    Attributes:
        tokens: Tokens that the Hub knows; take one out to revoke it.
        models: Repositories by id.
        trouble: What is wrong with the Hub: ``slow`` (``delay`` seconds before each answer), ``dead``
            (connections are closed without an answer), ``garbage`` (a web page), ``busy`` (503),
            ``limited`` (429), ``drip`` (an answer that never ends, a byte at a time).
        forbidden: Why no token may be used from here; empty if they may.
        clock: Seconds that its clock is ahead of this machine's.
        redirects: Paths that answer with a redirect, and where to.
        asked: All requests, in order.
    """

    def __init__(self) -> None:
        self.tokens: dict[str, Token] = {}
        self.models: dict[str, Model] = {}
        self.trouble: Trouble = ""
        self.delay = 30.0
        self.clock = 0.0
        self.forbidden = ""
        self.redirects: dict[str, str] = {}
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        hub = self

        class Handler(_Handler):
            world = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def add_token(self, token: str = "hf_" + "Abcdefgh12" * 3 + "Wxyz", **values: Any) -> str:
        self.tokens[token] = Token(**values)
        return token


class _Refused(Exception):  # noqa: N818
    def __init__(self, status: int, error: str, code: str = "") -> None:
        self.status, self.error, self.code = status, error, code


class _Handler(BaseHTTPRequestHandler):
    world: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time.time() + self.world.clock if timestamp is None else timestamp, usegmt=True)

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        world = self.world
        header = self.headers.get("Authorization")
        token = header.removeprefix("Bearer ") if header else None
        path = unquote(urlsplit(self.path).path)
        world.asked.append(Asked(self.command, path, token, self.headers.get("Range")))
        if world.trouble and self._trouble(world.trouble):
            return
        if path in world.redirects:
            self._send(307, b"", {"Location": world.redirects[path]})
            return
        try:
            status, body, headers = self._route(path, token)
        except _Refused as refused:
            headers = {"X-Error-Message": refused.error, "Content-Type": "application/json"}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            status, body = refused.status, json.dumps({"error": refused.error}).encode()
        self._send(status, body, headers)

    def _trouble(self, kind: Trouble) -> bool:
        """Misbehave; whether there is nothing more to answer."""
        if kind == "slow":
            self.world.closing.wait(self.world.delay)
            return False
        self.close_connection = True
        if kind == "garbage":
            self._send(200, b"<html><body>Please log in to the hotel's network</body></html>", {})
        elif kind in ("busy", "limited"):
            self._send(503 if kind == "busy" else 429, b"no", {})
        elif kind == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            try:
                while not self.world.closing.wait(0.05):
                    self.wfile.write(b" ")
                    self.wfile.flush()
            except OSError:
                pass
        return True

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # Routes

    def _route(self, path: str, token: str | None) -> tuple[int, bytes, dict[str, str]]:
        who = self._who(token)
        if who is not None and self.world.forbidden:
            raise _Refused(403, self.world.forbidden)
        if path == "/api/whoami-v2":
            if who is None:
                raise _Refused(401, "Invalid username or password.")
            return self._json(self._whoami(who))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/auth-check", path):
            self._allowed(match[1], who)
            return self._json({})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            return self._json(self._info(match[1], who))
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self._file(match[1], match[2], who)
        raise _Refused(404, "Sorry, we can't find the page you are looking for.")

    def _json(self, value: Any) -> tuple[int, bytes, dict[str, str]]:
        return 200, json.dumps(value).encode(), {"Content-Type": "application/json"}

    def _who(self, token: str | None) -> Token | None:
        if token is None:
            return None
        known = self.world.tokens.get(token)
        if known is None:
            raise _Refused(401, "Invalid credentials in Authorization header")
        if known.expired:
            raise _Refused(401, f'User Access Token "{known.name}" is expired')
        return known

    def _whoami(self, who: Token) -> dict[str, Any]:
        access: dict[str, Any] = {
            "displayName": who.name,
            "role": who.role,
            "createdAt": "2026-01-02T03:04:05.000Z",
        }
        if who.role == "fineGrained":
            rights = ["repo.content.read", *(["repo.write"] if who.writes else [])]
            scope = {"entity": {"_id": "1", "type": "user", "name": who.user}, "permissions": rights}
            access["fineGrained"] = {"canReadGatedRepos": who.reads_gated, "global": [], "scoped": [scope]}
        auth: dict[str, Any] = {"type": "access_token", "accessToken": access}
        if who.expires is not None:
            auth["expiresAt"] = who.expires.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return {"type": "user", "id": "u1", "name": who.user, "fullname": who.user, "orgs": [], "auth": auth}

    def _allowed(self, repo: str, who: Token | None) -> Model:
        model = self.world.models.get(repo)
        if model is None or (model.private_to and (who is None or who.user != model.private_to)):
            raise _Refused(401 if who is None else 404, "Repository not found", "RepoNotFound")
        if not model.gated:
            return model
        where = f"Access to model {repo} is restricted"
        if who is None:
            raise _Refused(
                401, f"{where}. You must have access to it and be authenticated to access it.", "GatedRepo"
            )
        if who.user in model.pending:
            raise _Refused(
                403,
                f"Your request to access model {repo} is awaiting a review from the repo authors.",
                "GatedRepo",
            )
        if who.user not in model.accepted:
            raise _Refused(403, f"{where} and you are not in the authorized list.", "GatedRepo")
        if who.role == "fineGrained" and not who.reads_gated:
            raise _Refused(
                403,
                "Please enable access to public gated repositories in your fine-grained token settings.",
                "GatedRepo",
            )
        return model

    def _info(self, repo: str, who: Token | None) -> dict[str, Any]:
        model = self.world.models.get(repo)
        if model is None or (model.private_to and (who is None or who.user != model.private_to)):
            raise _Refused(401 if who is None else 404, "Repository not found", "RepoNotFound")
        files = [
            {"rfilename": name, "size": len(data), "blobId": _etag(data)}
            for name, data in model.files.items()
        ]
        return {
            "_id": "1",
            "id": repo,
            "modelId": repo,
            "sha": COMMIT,
            "private": bool(model.private_to),
            "gated": "auto" if model.gated else False,
            "tags": [],
            "siblings": files,
            "lastModified": "2026-01-02T03:04:05.000Z",
        }

    def _file(self, repo: str, name: str, who: Token | None) -> tuple[int, bytes, dict[str, str]]:
        model = self._allowed(repo, who)
        if name not in model.files:
            raise _Refused(404, "Entry not found", "EntryNotFound")
        data = model.files[name]
        headers = {
            "ETag": f'"{_etag(data)}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            return 200, data, headers
        start, end = int(asked[1]), int(asked[2]) if asked[2] else len(data) - 1
        end = min(end, len(data) - 1)
        if start >= len(data):
            raise _Refused(416, "Range not satisfiable")
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        return 206, data[start : end + 1], headers


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
