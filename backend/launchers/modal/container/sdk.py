"""The little that the container needs of Modal: commit, read what others committed, start the sampler.

The only module here that imports modal, and only when it has something to do. Outside Modal's
containers (a plain local run, unit tests) a volume is a folder and a commit does nothing.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Protocol

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
# Modal does not document what it says when a volume takes no more.
_FULL_WORDS = ("no space left", "volume is full", "quota", "out of space", "storage limit")


class VolumeError(Exception):
    """The volume could not be committed or read this time; the message is one sentence for people."""


class VolumeFullError(VolumeError):
    """The volume takes no more."""


class Volume(Protocol):
    """A mounted volume, and the committed state of it that everybody sees."""

    def commit(self) -> None:
        """Let everybody see what is in the mounted folder.

        Raises:
            VolumeFullError: The volume takes no more.
            VolumeError: It did not work this time.
        """
        ...

    def reload(self) -> None:
        """Let the mounted folder show what others have committed.

        Raises:
            VolumeError: It did not work this time, e.g. because files are open.
        """
        ...

    def names(self, folder: str) -> list[str]:
        """Names of the committed files in a folder; none if there is no such folder.

        Raises:
            VolumeError: They could not be listed.
        """
        ...

    def read(self, path: str) -> bytes:
        """A committed file's content.

        Raises:
            VolumeError: It could not be read.
        """
        ...


class FolderVolume:
    """A volume that is a folder of this machine: what is written is committed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def commit(self) -> None:
        """Nothing to do."""

    def reload(self) -> None:
        """Nothing to do."""

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder."""
        try:
            return [entry.name for entry in (self._root / folder).iterdir() if entry.is_file()]
        except OSError:
            return []

    def read(self, path: str) -> bytes:
        """A file's content."""
        try:
            return (self._root / path).read_bytes()
        except OSError as error:
            raise VolumeError(f"{path} cannot be read: {error.strerror or error}") from error


class ModalVolume:
    """A volume of Modal, in a container that has it mounted. The methods block; call them from threads.

    Args:
        volume_id: Modal's id of it.
        name: Its name, for a server that cannot look a volume up by its id.
    """

    def __init__(self, volume_id: str, name: str | None = None) -> None:
        import modal

        self._volume: Any = modal.Volume.from_id(volume_id)
        try:
            self._volume.hydrate()
        except Exception as error:
            if type(error).__name__ != "UnimplementedError" or not name:
                return  # whoever uses it is told, and tries again
            self._volume = modal.Volume.from_name(name)

    def commit(self) -> None:
        """Commit; it counts when what is in the folder is safe, even if the folder cannot be reloaded."""
        try:
            self._volume.commit()
        except Exception as error:  # the SDK's, gRPC's and aiohttp's
            if "open files" not in str(error):  # our own: Modal reloads after it has committed
                raise explained(error) from error

    def reload(self) -> None:
        """Reload."""
        try:
            self._volume.reload()
        except Exception as error:
            raise explained(error) from error

    def names(self, folder: str) -> list[str]:
        """Names of the committed files in a folder."""
        try:
            return [entry.path.rsplit("/", 1)[-1] for entry in self._volume.listdir(folder)]
        except Exception as error:
            if type(error).__name__ in ("NotFoundError", "FileNotFoundError"):
                return []
            raise explained(error) from error

    def read(self, path: str) -> bytes:
        """A committed file's content."""
        try:
            return b"".join(self._volume.read_file(path))
        except Exception as error:
            raise explained(error) from error


def on_modal() -> bool:
    """Whether this is a container of Modal."""
    return os.environ.get("MODAL_IS_REMOTE") == "1"


def volume_of(volume_id: str | None, root: Path, name: str | None = None) -> Volume:
    """The volume that is mounted at ``root``."""
    return ModalVolume(volume_id, name) if volume_id and on_modal() else FolderVolume(root)


def current_call() -> str:
    """Modal's id of the call that this container works on; empty elsewhere."""
    if not on_modal():
        return ""
    try:
        import modal

        return str(modal.current_function_call_id() or "")
    except Exception:  # only a convenience for others
        return ""


def spawn(function_id: str, argument: dict[str, Any]) -> str:
    """Start a function of the same app in a container of its own; returns the id of the call.

    Raises:
        VolumeError: It could not be started.
    """
    try:
        import modal

        call: Any = modal.Function.from_id(function_id).spawn(argument)
        return str(call.object_id)
    except Exception as error:
        raise explained(error) from error


def explained(error: Exception) -> VolumeError:
    """What went wrong, in a sentence, and whether it is that the volume is full."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    if is_full(error):
        return VolumeFullError(first)
    return VolumeError(first)


def is_full(error: BaseException) -> bool:
    """Whether ``error`` says that a disk or volume takes no more."""
    if isinstance(error, VolumeFullError) or (isinstance(error, OSError) and error.errno in _FULL):
        return True
    said = str(error).lower()
    return not isinstance(error, FileNotFoundError) and any(word in said for word in _FULL_WORDS)
