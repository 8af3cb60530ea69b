"""Why a run fails, and the one sentence that says so."""

from __future__ import annotations

import errno
from pathlib import Path

INSTALL_HINT = "pip install 'fluxlora-tui[train]'"

# A quota (EDQUOT) and a file size limit (EFBIG) leave a writer in the same place as a full disk.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_WINDOWS_FULL = {39, 112}  # ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL


class TrainingError(Exception):
    """The run cannot go on; the message is one sentence for people.

    Attributes:
        code: Stable short name, such as ``nan_loss`` or ``disk_full``.
        bad_input: Whether the config asks for something impossible (the process exits with 2).
    """

    def __init__(self, message: str, code: str, *, bad_input: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.bad_input = bad_input


class StopRequested(Exception):  # noqa: N818 - no error: somebody asked
    """Raised outside the training loop when the run was asked to stop."""


def is_disk_full(error: BaseException) -> bool:
    """Whether ``error`` says that no more can be written (full disk, quota, size limit)."""
    if not isinstance(error, OSError):
        return False
    return error.errno in _FULL or getattr(error, "winerror", None) in _WINDOWS_FULL


def disk_full(path: Path, needed: int) -> TrainingError:
    """The failure of writing ``needed`` bytes to ``path``, with what is free there."""
    import shutil

    try:
        free = f"{_mebibytes(shutil.disk_usage(path.parent).free)} are free"
    except OSError:
        free = "how much is free is not known"
    return TrainingError(
        f"the disk is full: saving {path.name} in {path.parent} needs {_mebibytes(needed)} and {free}; "
        "make room and resume the run (what was saved before is intact)",
        "disk_full",
    )


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
