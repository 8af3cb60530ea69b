"""Every answer that Modal can give to "is the call done?", with the classes of the SDK that is installed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import grpclib
import grpclib.exceptions
import modal.exception as sdk
import pytest

from backend.events import Status
from backend.launchers.modal.outcome import Kind, Verdict, observe, observe_value, verdict
from backend.launchers.modal.remote import DeniedError, MissingError, OfflineError, RefusedError

ENDED = (Status.FINISHED, Status.STOPPED, Status.FAILED)


def from_the_container(error: BaseException) -> BaseException:
    """As the SDK unpacks an exception that the container pickled."""
    error.__line_cache__ = {}  # type: ignore[attr-defined]
    return error


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


NOTHING_KNOWN = [
    sdk.ConnectionError("Could not connect"),
    sdk.ServiceError("unavailable"),
    sdk.InternalError("hm"),
    sdk.TimeoutError("deadline"),
    sdk.ClientClosed("closed"),
    sdk.ResourceExhaustedError("rate limit"),
    sdk.VersionError("too old"),
    sdk.AuthError("token"),
    sdk.PermissionDeniedError("no"),
    grpclib.exceptions.StreamTerminatedError("Connection lost"),
    grpclib.GRPCError(grpclib.const.Status.UNAVAILABLE, "down"),
    ConnectionResetError("reset"),
    ConnectionRefusedError("refused"),
    OSError(101, "Network is unreachable"),
    socket.gaierror(-3, "Temporary failure in name resolution"),
    ssl.SSLError("handshake"),
    EOFError(),
    asyncio.CancelledError(),
    OfflineError("no network"),
    DeniedError("no"),
    RefusedError("not now"),
]


@pytest.mark.parametrize("error", NOTHING_KNOWN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("last_status", [None, Status.TRAINING, *ENDED])
def test_a_broken_connection_ends_no_run(error: BaseException, last_status: Status | None) -> None:
    written = {"ok": True, "status": "finished", "reason": None}

    found = verdict(observe(raised(error)), last_status, written)

    assert found.status is None
    assert not found.certain


def test_a_call_that_goes_on_is_not_over_whatever_was_said() -> None:
    found = verdict(observe(raised(TimeoutError())), Status.FINISHED, {"ok": True, "status": "finished"})

    assert found == Verdict(None, None, certain=True)


@pytest.mark.parametrize("error", [sdk.NotFoundError("no such call"), MissingError("no such call")])
def test_an_unknown_call_is_no_end_unless_the_run_told_one(error: Exception) -> None:
    seen = observe(error)

    assert verdict(seen, Status.TRAINING, {"ok": None, "status": "training"}).status is None
    assert verdict(seen, Status.STOPPED).status is Status.STOPPED
    assert verdict(seen, None, {"ok": True, "status": "finished"}).status is Status.FINISHED


@pytest.mark.parametrize(
    ("value", "status", "reason"),
    [
        ({"ok": True, "status": "finished", "reason": None, "step": 9}, Status.FINISHED, None),
        ({"ok": True, "status": "stopped", "reason": "as asked"}, Status.STOPPED, "as asked"),
        ({"ok": False, "status": "failed", "reason": "loss is nan"}, Status.FAILED, "loss is nan"),
        ({"ok": None, "status": "interrupted", "reason": "too many"}, Status.INTERRUPTED, "too many"),
    ],
)
def test_the_workers_own_value_decides(value: Any, status: Status, reason: str | None) -> None:
    assert verdict(observe_value(value), Status.TRAINING) == Verdict(status, reason)


@pytest.mark.parametrize("value", [None, 5, {}, {"ok": True}, {"status": "training"}, {"status": []}])
def test_a_value_that_says_nothing_leaves_it_to_the_volume(value: Any) -> None:
    written = {"ok": False, "status": "failed", "reason": "why"}

    assert verdict(observe_value(value), None, written) == Verdict(Status.FAILED, "why")
    told = verdict(observe_value(value), Status.TRAINING, {"ok": None, "status": "training"})
    assert told.status is Status.INTERRUPTED
    assert not told.certain


@pytest.mark.parametrize("told", ENDED)
@pytest.mark.parametrize(
    "error",
    [
        sdk.FunctionTimeoutError("timeout of 30s"),
        sdk.RemoteError("cancelled"),
        sdk.InternalFailure("lost"),
        sdk.ExecutionError("Could not deserialize remote exception"),
        sdk.OutputExpiredError(),
        from_the_container(ValueError("x")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_runs_own_last_word_wins(error: BaseException, told: Status) -> None:
    assert verdict(observe(error), told, {"ok": False, "status": "failed", "reason": "other"}).status is told


def test_what_the_run_told_last_comes_with_its_reason() -> None:
    written = {"ok": True, "status": "stopped", "reason": "the budget is used up"}

    found = verdict(observe(sdk.RemoteError("")), Status.STOPPED, written)

    assert found == Verdict(Status.STOPPED, "the budget is used up")


def test_when_the_result_has_expired_the_volume_decides() -> None:
    seen = observe(sdk.OutputExpiredError())

    assert verdict(seen, Status.TRAINING, {"ok": True, "status": "finished"}).status is Status.FINISHED
    unknown = verdict(seen, Status.TRAINING, {"ok": None, "status": "training"})
    assert unknown.status is Status.INTERRUPTED
    assert not unknown.certain
    assert "7 days" in (unknown.reason or "")


@pytest.mark.parametrize(
    ("error", "kind", "status", "says"),
    [
        (
            sdk.FunctionTimeoutError("Task's current input hit its timeout of 7200s"),
            Kind.TIMEOUT,
            Status.INTERRUPTED,
            "its time limit of 2 hours",
        ),
        (
            sdk.FunctionTimeoutError(""),
            Kind.TIMEOUT,
            Status.INTERRUPTED,
            "hit its time limit; resume goes on",
        ),
        (sdk.RemoteError(""), Kind.CANCELLED, Status.STOPPED, "cancelled on Modal, or its app was stopped"),
        (sdk.RemoteError("cancelled"), Kind.CANCELLED, Status.STOPPED, "cancelled on Modal"),
        (sdk.RemoteError("Input was cancelled by user"), Kind.CANCELLED, Status.STOPPED, "cancelled"),
        (sdk.InputCancellation("x"), Kind.CANCELLED, Status.STOPPED, "cancelled"),
        (from_the_container(KeyboardInterrupt()), Kind.CANCELLED, Status.STOPPED, "cancelled"),
        (from_the_container(asyncio.CancelledError()), Kind.CANCELLED, Status.STOPPED, "cancelled"),
        (
            sdk.RemoteError("Runner terminated with exit code 137"),
            Kind.DIED,
            Status.INTERRUPTED,
            "ran out of main memory",
        ),
        (sdk.RemoteError("Runner terminated, exit code: 1"), Kind.DIED, Status.INTERRUPTED, "without a word"),
        (sdk.InternalFailure("worker lost"), Kind.INFRASTRUCTURE, Status.INTERRUPTED, "worker lost"),
        (
            from_the_container(ModuleNotFoundError("No module named 'peft'")),
            Kind.RAISED,
            Status.FAILED,
            "image lacks a part of the program (ModuleNotFoundError: No module named 'peft')",
        ),
        (
            from_the_container(OSError(28, "No space left on device")),
            Kind.RAISED,
            Status.FAILED,
            "disk is full",
        ),
        (from_the_container(MemoryError()), Kind.RAISED, Status.FAILED, "out of memory"),
        (from_the_container(TimeoutError("socket")), Kind.RAISED, Status.FAILED, "TimeoutError: socket"),
        (from_the_container(ConnectionResetError("hub")), Kind.RAISED, Status.FAILED, "hub"),
        (from_the_container(sdk.NotFoundError("volume gone")), Kind.RAISED, Status.FAILED, "volume gone"),
        (
            sdk.ExecutionError(
                "Could not deserialize remote exception due to local error:\nNo module named 'torch'\n"
                'Here is the remote traceback:\nTraceback (most recent call last):\n  File "x.py", line 3\n'
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
            ),
            Kind.UNREADABLE,
            Status.FAILED,
            "torch.OutOfMemoryError: CUDA out of memory",
        ),
    ],
)
def test_every_other_end_has_a_status_and_a_sentence(
    error: BaseException, kind: Kind, status: Status, says: str
) -> None:
    seen = observe(error)
    found = verdict(seen, Status.TRAINING, {"ok": None, "status": "training"})

    assert seen.kind is kind
    assert found.status is status
    assert found.certain
    assert says in (found.reason or "")
    assert "\n" not in (found.reason or "")


def test_an_exception_that_may_be_this_machines_own_is_not_certain() -> None:
    found = verdict(observe(raised(AttributeError("a bug of ours"))))

    assert found.status is Status.FAILED
    assert not found.certain


async def test_an_exception_that_the_sdk_unpacked_is_known_by_its_way() -> None:
    """As :func:`modal._utils.function_utils._process_result` raises it, without remote source lines."""
    from modal._serialization import serialize
    from modal._utils.function_utils import _process_result
    from modal_proto import api_pb2

    result = api_pb2.GenericResult(
        status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE,
        exception="x",
        data=serialize(ModuleNotFoundError("No module named 'backend'")),
    )
    with pytest.raises(ModuleNotFoundError) as caught:
        await _process_result(result, api_pb2.DATA_FORMAT_PICKLE, None)

    seen = observe(caught.value)
    assert seen.remote
    assert verdict(seen).certain


def test_nothing_secret_gets_into_a_sentence() -> None:
    secret = "hf_" + "a1B2" * 8

    found = verdict(observe(from_the_container(ValueError(f"bad token {secret}"))))

    assert secret not in (found.reason or "")


def test_a_long_story_is_cut() -> None:
    assert len(verdict(observe(from_the_container(ValueError("x" * 10_000)))).reason or "") < 400
