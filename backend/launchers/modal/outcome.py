"""What Modal's answer to "is the call done?" says of the run. The SDK's classes are known by name only.

An answer that did not come says nothing: from a broken connection nobody may conclude that a run is over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any

from backend.credentials.redaction import redact
from backend.events import Status
from backend.launchers.modal.remote import DeniedError, MissingError, RemoteError

_MOST = 300  # characters of somebody else's words in a sentence
_RESUME = "resume goes on from the last save"


class Kind(Enum):
    """What kind of answer it was."""

    RUNNING = "not done yet"
    VALUE = "returned"
    TIMEOUT = "time limit"
    CANCELLED = "cancelled, or its app stopped"
    DIED = "its container died"
    INFRASTRUCTURE = "Modal's machine failed"
    RAISED = "raised an exception"
    UNREADABLE = "raised something that cannot be read here"
    EXPIRED = "done, but forgotten"
    GONE = "unknown to Modal"
    DENIED = "the token may not ask"
    NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Observation:
    """An answer.

    Attributes:
        kind: Its kind.
        detail: What was said with it, on one line, without secrets.
        error: The exception's class, without its module; empty for a value.
        value: What the call returned, if that was a dict.
        remote: Whether the exception certainly comes from the container, not from this machine.
    """

    kind: Kind
    detail: str = ""
    error: str = ""
    value: Mapping[str, Any] | None = None
    remote: bool = False


@dataclass(frozen=True)
class Verdict:
    """What it means for the run.

    Attributes:
        status: How the run ended; None if it has not, or if that is not known.
        reason: A sentence for people, where there is one.
        certain: Whether asking again could not change it.
    """

    status: Status | None
    reason: str | None = None
    certain: bool = True


# Classes of the SDK. Those that are not here say nothing of the run.
_SDK = {
    "FunctionTimeoutError": Kind.TIMEOUT,
    "OutputExpiredError": Kind.EXPIRED,
    "InternalFailure": Kind.INFRASTRUCTURE,
    "ExecutionError": Kind.UNREADABLE,
    "DeserializationError": Kind.UNREADABLE,
    "RemoteError": Kind.CANCELLED,
    "InputCancellation": Kind.CANCELLED,
    "NotFoundError": Kind.GONE,
    "AuthError": Kind.DENIED,
    "PermissionDeniedError": Kind.DENIED,
    "Error": Kind.NO_ANSWER,
}
# What an outage can raise on this machine, besides OSError and its kin.
_TRANSPORT_PACKAGES = frozenset(
    {"grpclib", "h2", "hpack", "aiohttp", "ssl", "socket", "asyncio", "synchronicity"}
)
_TRANSPORT = frozenset({"OSError", "EOFError", "TimeoutError", "CancelledError"})
_DIED = re.compile(r"terminat|exit|exited|killed|signal|died|crash|out of memory|oom\b", re.IGNORECASE)
_EXIT_CODE = re.compile(r"(?:exit(?:ed)?|return)\s*(?:with\s*)?(?:code|status)?\D{0,3}(-?\d+)", re.IGNORECASE)
_LIMIT = re.compile(r"timeout of (?:about )?(\d+(?:\.\d+)?)\s*(?:s\b|sec)", re.IGNORECASE)


def observe(error: BaseException) -> Observation:
    """What an exception says that was raised by asking for the call's result."""
    name, detail, remote = type(error).__name__, _one_line(str(error)), _is_remote(error)
    return Observation(_kind(error, detail, remote), detail, name, remote=remote)


def observe_value(value: object) -> Observation:
    """What a value says that the call returned."""
    return Observation(Kind.VALUE, value=value if isinstance(value, Mapping) else None, remote=True)


def _kind(error: BaseException, detail: str, remote: bool) -> Kind:
    if isinstance(error, RemoteError):  # ours: of our own gateway
        if isinstance(error, MissingError):
            return Kind.GONE
        return Kind.DENIED if isinstance(error, DeniedError) else Kind.NO_ANSWER
    for cls in type(error).__mro__:
        package = cls.__module__.partition(".")[0]
        if package == "modal":
            kind = _SDK.get(cls.__name__)
            if kind is None:
                continue
            if kind is Kind.CANCELLED and _DIED.search(detail) and "cancel" not in detail.lower():
                return Kind.DIED
            # The container may have raised an error of the SDK's itself.
            sdk_only = kind in (Kind.GONE, Kind.DENIED, Kind.NO_ANSWER, Kind.UNREADABLE)
            return Kind.RAISED if remote and sdk_only else kind
        if not remote:
            if cls is TimeoutError:
                return Kind.RUNNING
            if package in _TRANSPORT_PACKAGES or (package == "builtins" and cls.__name__ in _TRANSPORT):
                return Kind.NO_ANSWER
        elif cls.__name__ in ("KeyboardInterrupt", "CancelledError"):
            return Kind.CANCELLED
    return Kind.RAISED


def _is_remote(error: BaseException) -> bool:
    """Whether the SDK unpacked the exception from a result: it leaves the remote source lines with it."""
    if hasattr(error, "__line_cache__"):
        return True
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "_process_result":
            return True
        trace = trace.tb_next
    return False


def verdict(
    observation: Observation, last_status: Status | None = None, status_json: Mapping[str, Any] | None = None
) -> Verdict:
    """What an answer means for the run.

    Args:
        observation: The answer.
        last_status: The last status that the run's events tell of the present launch.
        status_json: ``status.json`` of the present launch, if the volume has it.
    """
    kind = observation.kind
    if kind in (Kind.RUNNING, Kind.NO_ANSWER, Kind.DENIED):
        reason = None if kind is Kind.RUNNING else observation.detail or None
        return Verdict(None, reason, certain=kind is Kind.RUNNING)
    if last_status in (Status.FINISHED, Status.STOPPED, Status.FAILED):
        return Verdict(last_status, _reason_in(observation.value, last_status, status_json))
    if kind is Kind.VALUE and (found := _last_word(observation.value)):
        return found
    written = _last_word(status_json)
    if kind in (Kind.VALUE, Kind.EXPIRED, Kind.GONE):
        if written is not None:
            return written
        return _UNTOLD[kind]
    if written is not None and written.status is not Status.INTERRUPTED:
        return written
    return _abnormal_end(observation)


_UNTOLD = {
    Kind.VALUE: Verdict(
        Status.INTERRUPTED,
        f"the container returned without saying how the run ended; {_RESUME}",
        certain=False,
    ),
    Kind.EXPIRED: Verdict(
        Status.INTERRUPTED,
        "the run is over, but Modal has forgotten its result (it keeps them for 7 days) and the volume does "
        f"not tell how it ended; {_RESUME}",
        certain=False,
    ),
    Kind.GONE: Verdict(None, "Modal does not know the run's call (any more)", certain=False),
}


def _last_word(document: Mapping[str, Any] | None) -> Verdict | None:
    """The end that the worker's value or ``status.json`` tells of, if it does."""
    if document is None:
        return None
    try:
        status = Status(str(document.get("status")))
    except ValueError:
        return None
    if not status.ended or (status is not Status.INTERRUPTED and document.get("ok", True) is None):
        return None
    reason = document.get("reason")
    return Verdict(status, _one_line(reason) if isinstance(reason, str) and reason else None)


def _reason_in(
    value: Mapping[str, Any] | None, status: Status, written: Mapping[str, Any] | None
) -> str | None:
    """The sentence that goes with a status that the events have told already."""
    for document in (value, written):
        word = _last_word(document)
        if word is not None and word.status is status:
            return word.reason
    return None


def _abnormal_end(seen: Observation) -> Verdict:
    said = f" ({seen.detail})" if seen.detail else ""
    match seen.kind:
        case Kind.TIMEOUT:
            limit = _LIMIT.search(seen.detail)
            length = f" of {_duration(float(limit[1]))}" if limit else ""
            return Verdict(Status.INTERRUPTED, f"the container hit its time limit{length}; {_RESUME}")
        case Kind.CANCELLED:
            return Verdict(
                Status.STOPPED, f"it was cancelled on Modal, or its app was stopped there{said}; {_RESUME}"
            )
        case Kind.DIED:
            return Verdict(Status.INTERRUPTED, _how_it_died(seen.detail, said))
        case Kind.INFRASTRUCTURE:
            return Verdict(
                Status.INTERRUPTED,
                "Modal's machine failed, was taken away or ran out of main memory, and Modal does not try "
                f"again{said}; {_RESUME}",
            )
        case Kind.UNREADABLE:
            return Verdict(
                Status.FAILED,
                f"the container ended with an error that is not known here: {_essence(seen.detail)}",
            )
        case _:
            return Verdict(Status.FAILED, _raised(seen), certain=seen.remote)


def _how_it_died(detail: str, said: str) -> str:
    code = _EXIT_CODE.search(detail)
    if (code is not None and code[1] in ("137", "-9")) or re.search(r"memory|\boom\b|sigkill", detail, re.I):
        return (
            f"the container was killed, most likely because it ran out of main memory{said}; "
            f"give it more with modal.memory; {_RESUME}"
        )
    return f"the container's process ended without a word{said}; {_RESUME}"


def _raised(seen: Observation) -> str:
    said = f"{seen.error}: {seen.detail}" if seen.detail else seen.error
    if seen.error in ("ModuleNotFoundError", "ImportError"):
        return (
            f"the container's image lacks a part of the program ({said}); launch it again after "
            "pip install -U fluxlora-tui, and report it if that does not help"
        )
    if seen.error == "OSError" and re.search(r"no space left|quota", seen.detail, re.I):
        return f"the volume or the container's disk is full ({said}); delete old runs, then resume this one"
    if seen.error in ("MemoryError", "OutOfMemoryError"):
        return f"the container ran out of memory ({said}); {_RESUME}"
    return f"the container's program failed: {said}"


def _essence(text: str) -> str:
    """Of an error and its traceback on one line, the error."""
    found = re.findall(r"\b((?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b:? ?[^\"]{0,200})", text)
    return found[-1].strip() if found else text


def _duration(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.3g} hours"
    return f"{seconds / 60:.3g} minutes" if seconds >= 120 else f"{seconds:g} seconds"


def _one_line(text: str) -> str:
    words = " ".join(redact(text).split())
    return words if len(words) <= _MOST else f"{words[: _MOST // 2]} … {words[-_MOST // 2 :]}"
