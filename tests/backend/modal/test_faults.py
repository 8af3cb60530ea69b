"""The SDK's exceptions in plain sentences, with the SDK's own classes."""

from __future__ import annotations

import socket
import ssl

import grpclib.exceptions
import modal.exception
import pytest

from backend.launchers.modal.faults import explain
from backend.launchers.modal.remote import (
    DeniedError,
    ExistsError,
    FullError,
    MissingError,
    OfflineError,
    RefusedError,
    RemoteError,
)

CASES = [
    (modal.exception.AuthError("Token ID is malformed"), DeniedError),
    (modal.exception.PermissionDeniedError("no"), DeniedError),
    (modal.exception.NotFoundError("App not found"), MissingError),
    (FileNotFoundError("a/b"), MissingError),
    (modal.exception.AlreadyExistsError("there"), ExistsError),
    (FileExistsError("there"), ExistsError),
    (modal.exception.ResourceExhaustedError("too many apps"), RefusedError),
    (modal.exception.ResourceExhaustedError("volume is full"), FullError),
    (modal.exception.InvalidError("GPU type X is not supported"), RefusedError),
    (modal.exception.ConnectionError("Could not connect"), OfflineError),
    (modal.exception.ServiceError("unavailable"), OfflineError),
    (grpclib.exceptions.StreamTerminatedError("Connection lost"), OfflineError),
    (TimeoutError(), OfflineError),
    (TimeoutError(), OfflineError),
    (ConnectionResetError("reset by peer"), OfflineError),
    (socket.gaierror(-2, "Name or service not known"), OfflineError),
    (ssl.SSLError("certificate verify failed"), OfflineError),
    (modal.exception.VersionError("too old"), RefusedError),
    (RuntimeError("what"), RefusedError),
]


@pytest.mark.parametrize(
    ("error", "kind"), CASES, ids=lambda value: getattr(value, "__name__", repr(value)[:40])
)
def test_every_error_has_a_class_and_one_sentence(error: BaseException, kind: type[RemoteError]) -> None:
    explained = explain(error, "uploading the dataset")
    assert type(explained) is kind
    assert str(explained).startswith("uploading the dataset: ")
    assert "\n" not in str(explained)


def test_our_own_errors_stay_what_they_are() -> None:
    error = OfflineError("no network")
    assert explain(error, "anything") is error


def test_a_token_in_an_error_is_not_repeated() -> None:
    secret = "as-" + "x" * 22
    assert secret not in str(explain(modal.exception.AuthError(f"bad secret {secret}"), "connecting"))


def test_a_novel_is_cut_short() -> None:
    assert len(str(explain(RuntimeError("word " * 10_000), "launching"))) < 500
