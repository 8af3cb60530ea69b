"""The SDK's exceptions in plain sentences, told apart by name so that this needs no import of it."""

from __future__ import annotations

import re

from backend.credentials.redaction import redact
from backend.launchers.modal.remote import (
    DeniedError,
    ExistsError,
    FullError,
    MissingError,
    OfflineError,
    RefusedError,
    RemoteError,
)

_OFFLINE = frozenset(
    {
        "ConnectionError",
        "ServiceError",
        "InternalError",
        "StreamTerminatedError",
        "ClientClosed",
        "ClientError",
        "ClientConnectionError",
        "ClientConnectorError",
        "ServerDisconnectedError",
        "gaierror",
        "SSLError",
        "VolumeUploadTimeoutError",
        "MountUploadTimeoutError",
        "LogsFetchError",
    }
)
_FULL = re.compile(r"no space|quota|disk is full|volume is full|too large|size limit", re.IGNORECASE)


def explain(error: BaseException, doing: str) -> RemoteError:
    """The error of :mod:`backend.launchers.modal.remote` that ``error`` means.

    Args:
        error: What the SDK, grpclib, aiohttp or the operating system raised.
        doing: What was being done, to begin the sentence with, such as ``uploading the dataset``.
    """
    if isinstance(error, RemoteError):
        return error
    names = {cls.__name__ for cls in type(error).__mro__}
    said = _words(error)
    if "AuthError" in names:
        return DeniedError(
            f"{doing}: Modal does not accept the token ({said}); set a valid one: fluxlora-tui login modal"
        )
    if "PermissionDeniedError" in names:
        return DeniedError(f"{doing}: the Modal token has no permission for this ({said})")
    if names & {"NotFoundError", "FileNotFoundError"}:
        return MissingError(f"{doing}: not found on Modal ({said})")
    if names & {"AlreadyExistsError", "FileExistsError"}:
        return ExistsError(f"{doing}: it exists already on Modal ({said})")
    if "ResourceExhaustedError" in names or _FULL.search(said):
        if _FULL.search(said):
            return FullError(f"{doing}: the volume takes no more ({said}); delete old runs or choose another")
        return RefusedError(f"{doing}: a limit of the Modal workspace is reached ({said})")
    if "ImageBuildError" in names or "Image build for" in said:
        return RefusedError(f"{doing}: the container's image could not be built ({said})")
    if isinstance(error, TimeoutError | OSError) or names & _OFFLINE:
        return OfflineError(f"{doing}: Modal cannot be reached ({said or 'no answer in time'})")
    if "VersionError" in names:
        return RefusedError(
            f"{doing}: Modal wants a newer SDK ({said}); update with pip install -U fluxlora-tui"
        )
    return RefusedError(f"{doing}: Modal refused ({said or type(error).__name__})")


def _words(error: BaseException) -> str:
    """What the error says, on one line, without tokens, not too long."""
    text = " ".join(redact(str(error)).split())
    return text if len(text) <= 300 else text[:300] + "…"
