"""What goes wrong with credentials, in one sentence for people."""

from __future__ import annotations

from pathlib import Path


class CredentialsError(Exception):
    """A credential cannot be read, understood or saved; the message never holds a secret."""


def cannot(what: str, path: Path, error: OSError) -> CredentialsError:
    """The error for a file that cannot be read or written: ``cannot be <what>``."""
    return CredentialsError(f"{path} cannot be {what}: {(error.strerror or str(error)).lower()}")
