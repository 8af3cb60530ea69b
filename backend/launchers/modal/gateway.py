"""Modal's SDK behind typed calls that end in time. The only module of the client's side that imports it.

It is used in the courier's process and in commands that end soon, never in the app: the SDK keeps a client,
an event loop and log handlers of its own. Every call that somebody waits on has a time limit, since the
SDK's own first call takes about a minute to find out that there is no network.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any, TypeVar

from backend.launchers.modal.faults import explain
from backend.launchers.modal.ranged import NoRangeError, read_from
from backend.launchers.modal.remote import (
    DeniedError,
    ExistsError,
    LogPiece,
    MissingError,
    OfflineError,
    RemoteError,
    RemoteFile,
    Upload,
)

if TYPE_CHECKING:
    from modal import Client

T = TypeVar("T")

PATIENCE = 8.0
"""Seconds that a call may take before the network is called down."""

_FIRST = 6.0  # seconds for the first call: with the start of a process, "offline" is said within 8
_LONG = 600.0  # seconds for a batch of files, of which each block has retries of its own
_KEPT_DAYS = 7  # how far back logs are asked for at most


@dataclass(frozen=True)
class RemoteApp:
    """An app of the workspace that may cost something.

    Attributes:
        id: Its id.
        description: What it is called.
        tags: Its tags.
        created: Seconds since 1970; None if unknown.
        functions: Ids of its functions by name.
    """

    id: str
    description: str
    tags: Mapping[str, str] = field(default_factory=dict)
    created: float | None = None
    functions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Queue:
    """How many inputs of a function wait, and how many containers it has."""

    backlog: int
    runners: int


class Gateway:
    """A connection to Modal with the credentials of the environment or of Modal's config file.

    Args:
        environment: Modal environment; the default one if None.
        patience: Seconds for a short call.
    """

    def __init__(self, environment: str | None = None, *, patience: float = PATIENCE) -> None:
        self.environment = environment
        self.patience = patience
        self._client: Client | None = None

    # Calls

    async def _within(self, call: Coroutine[Any, Any, T], doing: str, patience: float | None = None) -> T:
        """The result of a call of the SDK.

        Raises:
            RemoteError: It failed or took too long.
        """
        try:
            return await asyncio.wait_for(call, patience or self.patience)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise explain(error, doing) from error

    async def client(self) -> Client:
        """The connected client.

        Raises:
            OfflineError: Modal cannot be reached.
            DeniedError: There is no token, or a wrong one.
        """
        if self._client is None:
            modal = await load_sdk()
            client = await self._within(modal.Client.from_env.aio(), "connecting")
            # The first call: it finds out in time whether there is a network and a valid token.
            await self._within(client.hello.aio(), "connecting", _FIRST)
            self._client = client
        return self._client

    async def workspace(self) -> str:
        """The workspace's name; asking for it proves that the token is valid."""
        modal, client = await load_sdk(), await self.client()
        workspace = modal.Workspace.from_context(client=client)
        await self._within(workspace.hydrate.aio(), "asking for the workspace")
        return str(workspace.name or "")

    async def volume(self, name: str, *, create: bool = True) -> ModalVolume:
        """The volume of that name; made, in version 2 of Modal's volumes, if there is none.

        Raises:
            MissingError: There is none, and ``create`` is off.
        """
        modal, client = await load_sdk(), await self.client()

        def named(**options: Any) -> Any:
            return modal.Volume.from_name(name, environment_name=self.environment, client=client, **options)

        volume = named(create_if_missing=True, version=2) if create else named()
        try:
            await self._within(volume.hydrate.aio(), f"opening the volume {name}")
        except (OfflineError, DeniedError, MissingError):
            raise
        except RemoteError:
            if not create:
                raise
            volume = named()  # an older volume, of version 1
            await self._within(volume.hydrate.aio(), f"opening the volume {name}")
        return ModalVolume(self, name, volume)

    # Apps

    async def apps(self) -> list[RemoteApp]:
        """The apps that are not stopped, with their tags; whoever started them."""
        modal, client = await load_sdk(), await self.client()
        if self.environment:
            place = modal.Environment.from_name(self.environment, client=client)
        else:
            place = modal.Environment.from_context(client=client)
        found = await self._within(place.apps.list.aio(), "listing the running apps")
        return list(await asyncio.gather(*(self._app(app) for app in found)))

    async def _app(self, app: Any) -> RemoteApp:
        tags: Mapping[str, str] = {}
        with contextlib.suppress(RemoteError):
            tags = dict(
                await self._within(app.get_tags.aio(client=await self.client()), "reading an app's tags")
            )
        info = None
        with contextlib.suppress(RemoteError):
            info = await self._within(app.info.aio(), "asking for an app")
        created = getattr(getattr(info, "lifecycle", None), "created_at", None)
        return RemoteApp(
            id=str(app.app_id),
            description=str(getattr(info, "description", None) or app.description or ""),
            tags=tags,
            created=created.timestamp() if isinstance(created, datetime) else None,
            functions=dict(getattr(info, "functions", None) or {}),
        )

    async def _lookup(self, app_id: str) -> Any:
        modal = await load_sdk()
        return await self._within(
            modal.App.lookup.aio(app_id, client=await self.client()), f"looking for the app {app_id}"
        )

    async def is_running(self, app_id: str) -> bool:
        """Whether the app exists and is not stopped."""
        try:
            info = await self._within((await self._lookup(app_id)).info.aio(), "asking for the app")
        except MissingError:
            return False
        lifecycle = info.lifecycle
        return lifecycle.stopped_at is None and "stopped" not in str(lifecycle.state).lower()

    async def stop_app(self, app_id: str) -> None:
        """Stop an app and all that it runs; one that is gone is no error."""
        with contextlib.suppress(MissingError):
            await self._within((await self._lookup(app_id)).stop.aio(), "stopping the app")

    async def queue(self, function_id: str) -> Queue:
        """How many inputs wait, and how many containers there are."""
        modal = await load_sdk()
        function = modal.Function.from_id(function_id, client=await self.client())
        stats = await self._within(function.get_current_stats.aio(), "asking for the queue")
        return Queue(int(stats.backlog), int(stats.num_total_runners))

    # Calls of functions

    async def result(self, call_id: str) -> Any:
        """The value that a call returned.

        Raises:
            Exception: As the SDK raises it, ``TimeoutError`` while the call goes on;
                :mod:`backend.launchers.modal.outcome` knows what they mean.
        """
        modal = await load_sdk()
        call = modal.FunctionCall.from_id(call_id, client=await self.client())
        try:
            async with asyncio.timeout(self.patience) as limit:
                return await call.get.aio(timeout=0)
        except TimeoutError as error:
            if limit.expired():  # the SDK's own answer "not done yet" is a TimeoutError too
                raise OfflineError("asking for the result: Modal does not answer") from error
            raise

    async def cancel(self, call_id: str, *, kill: bool = False) -> None:
        """Cancel a call: its container is told, and with ``kill`` ended."""
        modal = await load_sdk()
        call = modal.FunctionCall.from_id(call_id, client=await self.client())
        with contextlib.suppress(MissingError):
            await self._within(call.cancel.aio(terminate_containers=kill), "cancelling the call")

    # Money

    async def rates(self) -> dict[str, float]:
        """The workspace's rates as Modal names them, dollars; empty where the API does not tell."""
        modal = await load_sdk()
        workspace = modal.Workspace.from_context(client=await self.client())
        try:
            rates = await self._within(workspace.billing.rates.aio(), "asking for the rates")
            return {str(name): float(value) for name, value in dict(rates).items()}
        except (RemoteError, TypeError, ValueError):
            return {}

    async def billed(self, tag: str, since: float) -> dict[str, float] | None:
        """Dollars billed since a time, by the value of a tag; None where the API does not tell."""
        modal = await load_sdk()
        workspace = modal.Workspace.from_context(client=await self.client())
        start = datetime.fromtimestamp(since, UTC)
        try:
            items = await self._within(
                workspace.billing.report.aio(start=start, resolution="d", tag_names=[tag]),
                "asking for the costs",
            )
            costs: dict[str, float] = {}
            for item in items:
                if value := dict(item.tags or {}).get(tag):
                    costs[value] = costs.get(value, 0.0) + float(item.cost)
        except (RemoteError, TypeError, ValueError, AttributeError):
            return None
        return costs

    # Logs

    def logs(self, app_id: str) -> ModalLogs:
        """The output of an app."""
        return ModalLogs(self, app_id)


@dataclass(frozen=True)
class ModalVolume:
    """A volume; see :class:`backend.launchers.modal.remote.RemoteVolume`."""

    gateway: Gateway
    name: str
    handle: Any

    @property
    def id(self) -> str:
        """Modal's id of it."""
        return str(self.handle.object_id)

    async def read(self, path: str) -> bytes:
        """A file's content."""

        async def all_of_it() -> bytes:
            return b"".join([block async for block in self.handle.read_file.aio(path)])

        return await self.gateway._within(all_of_it(), f"reading {path}", _LONG)

    async def read_into(
        self, path: str, file: IO[bytes], start: int = 0, progress: Callable[[int], None] | None = None
    ) -> int:
        """Append a file's content from byte ``start`` on to ``file``."""

        async def write(data: bytes) -> None:
            await asyncio.to_thread(file.write, data)
            if progress is not None:
                progress(len(data))

        async def copy() -> int:
            written = 0
            if start:
                try:
                    async for data in read_from(self.handle, path, start):
                        await write(data)
                        written += len(data)
                    return written
                except NoRangeError:
                    pass  # the whole file then, of which what is there already is passed over
            skip = start + written
            async for block in self.handle.read_file.aio(path):
                data, skip = block[skip:], max(0, skip - len(block))
                if data:
                    await write(data)
                    written += len(data)
            return written

        return await self.gateway._within(copy(), f"downloading {path}", 3 * _LONG)

    async def list(self, path: str, *, recursive: bool = False) -> list[RemoteFile]:
        """The entries of a folder."""
        entries = await self.gateway._within(
            self.handle.listdir.aio(path, recursive=recursive), f"listing {path}", 60
        )
        return [
            RemoteFile(
                path=str(entry.path).lstrip("/"),
                bytes=int(entry.size),
                modified=float(entry.mtime),
                is_folder=int(entry.type) == 2,
            )
            for entry in entries
        ]

    async def upload(self, files: Sequence[Upload], *, overwrite: bool = True) -> None:
        """Put files on the volume, all at once."""
        import io

        async def send() -> None:
            async with self.handle.batch_upload.aio(force=overwrite) as batch:
                for file in files:
                    source = io.BytesIO(file.source) if isinstance(file.source, bytes) else file.source
                    batch.put_file(source, "/" + file.path.lstrip("/"))

        try:
            await self.gateway._within(send(), "uploading", _LONG)
        except MissingError as error:  # a local file that vanished is no file of Modal's
            raise RemoteError(f"a file that was to be uploaded is gone: {error}") from error

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Delete a file or folder; one that is not there is no error."""
        with contextlib.suppress(MissingError):
            await self.gateway._within(
                self.handle.remove_file.aio(path, recursive=recursive), f"deleting {path}", 60
            )

    async def claim(self, path: str, content: bytes) -> bool:
        """Make a file that must not exist yet; False if somebody else has it."""
        try:
            await self.upload([Upload(content, path)], overwrite=False)
        except ExistsError:
            return False
        return True


@dataclass(frozen=True)
class ModalLogs:
    """The output of one app; see :class:`backend.launchers.modal.remote.LogSource`."""

    gateway: Gateway
    app_id: str

    async def stream(self) -> AsyncIterator[LogPiece]:
        """What comes from now on; ends when the app is done."""
        app = await self.gateway._lookup(self.app_id)
        entries = app.logs.stream.aio()
        try:
            async for entry in entries:
                yield _piece(entry)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:
            raise explain(error, "reading the log") from error
        finally:
            with contextlib.suppress(Exception):
                await entries.aclose()

    async def fetch(self, since_us: int | None = None) -> list[LogPiece]:
        """What Modal has kept since a time."""
        app = await self.gateway._lookup(self.app_id)
        now = datetime.now(UTC)
        since = (
            now - timedelta(days=_KEPT_DAYS)
            if since_us is None
            else datetime.fromtimestamp(since_us / 1e6, UTC)
        )

        async def all_of_it() -> list[LogPiece]:
            return [
                _piece(entry)
                async for entry in app.logs.fetch.aio(since=since, until=now + timedelta(minutes=1))
            ]

        return await self.gateway._within(all_of_it(), "reading the kept log", 120)


def _piece(entry: Any) -> LogPiece:
    ids = [str(part) for part in entry.context_ids]
    container = next((part for part in ids if part.startswith("ta-")), "")
    return LogPiece(
        text=entry.message,
        at_us=int(entry.timestamp.timestamp() * 1e6),
        source=str(entry.source),
        container=container,
    )


_quiet = False


async def load_sdk() -> Any:
    """The ``modal`` module, imported in a thread, with its warnings and log lines kept off the terminal."""
    modal = await asyncio.to_thread(importlib.import_module, "modal")
    global _quiet
    if not _quiet:
        _quiet = True
        logging.captureWarnings(True)
        warnings.simplefilter("ignore", category=DeprecationWarning)
        for name in ("modal-client", "modal-utils", "py.warnings"):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.addHandler(logging.NullHandler())
            logger.propagate = False
    return modal
