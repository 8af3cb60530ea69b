"""What the launcher needs of Modal, as types: a volume, a log, and how both can fail.

:mod:`backend.launchers.modal.gateway` fulfils these with the SDK; tests fulfil them with fakes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from backend.launchers.base import LaunchError


class RemoteError(LaunchError):
    """Something on Modal's side did not work; the message is one sentence for people."""


class OfflineError(RemoteError):
    """Modal cannot be reached from here. It says nothing about the run, which goes on."""


class DeniedError(RemoteError):
    """The token is missing, wrong, revoked or lacks a permission."""


class MissingError(RemoteError):
    """The file, app, call or volume does not exist (any more)."""


class ExistsError(RemoteError):
    """A file is there already and must not be replaced."""


class FullError(RemoteError):
    """The volume takes no more."""


class RefusedError(RemoteError):
    """Modal understood and said no: a bad image, a quota, an invalid option."""


@dataclass(frozen=True)
class RemoteFile:
    """An entry of a volume; ``path`` is relative to the volume's root, without a leading slash.

    Attributes:
        path: Where it is.
        bytes: Its size.
        modified: Seconds since 1970.
        is_folder: Whether it is a folder.
    """

    path: str
    bytes: int
    modified: float
    is_folder: bool = False


@dataclass(frozen=True)
class Upload:
    """A file to put on a volume: what, and where."""

    source: Path | bytes
    path: str


class RemoteVolume(Protocol):
    """A volume as the client sees it: always its last committed state.

    Every method raises :class:`OfflineError` or :class:`DeniedError` where that is the cause.
    """

    @property
    def name(self) -> str:
        """The volume's name."""
        ...

    async def read(self, path: str) -> bytes:
        """A file's content.

        Raises:
            MissingError: There is no such file.
        """
        ...

    async def read_into(
        self, path: str, file: IO[bytes], start: int = 0, progress: Callable[[int], None] | None = None
    ) -> int:
        """Append a file's content from byte ``start`` on to ``file``; returns how many bytes that were.

        ``progress`` is told the number of bytes of each portion, from any thread.

        Raises:
            MissingError: There is no such file.
        """
        ...

    async def list(self, path: str, *, recursive: bool = False) -> list[RemoteFile]:
        """The entries of a folder, in no order.

        Raises:
            MissingError: There is no such folder.
        """
        ...

    async def upload(self, files: Sequence[Upload], *, overwrite: bool = True) -> None:
        """Put files on the volume, all at once or none; blocks that it has already are not sent.

        Raises:
            ExistsError: One is there already and ``overwrite`` is off.
            FullError: The volume takes no more.
        """
        ...

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Delete a file, or a folder with all that is in it. What is not there is no error."""
        ...


@dataclass(frozen=True)
class LogPiece:
    """A piece of an app's output as Modal delivers it: part of a line, a line, or many lines.

    Attributes:
        text: The piece.
        at_us: When Modal took it in, microseconds since 1970.
        source: ``stdout``, ``stderr`` or ``system``.
        container: Id of the container; empty for what none printed.
    """

    text: str
    at_us: int
    source: str
    container: str = ""


class LogSource(Protocol):
    """The output of one app."""

    def stream(self) -> AsyncIterator[LogPiece]:
        """What comes from now on, maybe with some history before it; ends when the app is done.

        Raises:
            RemoteError: The connection broke; nothing is known about the run.
        """
        ...

    async def fetch(self, since_us: int | None = None) -> list[LogPiece]:
        """What Modal has kept since a time, oldest first.

        Raises:
            RemoteError: It cannot be had.
        """
        ...
