"""``python -m backend.launchers.modal``: the courier of a run, or one of the short jobs that need the SDK."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path


def main(arguments: list[str]) -> int:
    """``courier RUN_FOLDER``, or the name of a job; returns the exit code."""
    if len(arguments) == 2 and arguments[0] == "courier":
        import asyncio

        from backend.credentials.redaction import redact, remember_environment
        from backend.launchers.modal.courier import run_courier
        from backend.runs.folder import RunFolder

        remember_environment()
        try:
            return asyncio.run(run_courier(RunFolder(Path(arguments[1]).absolute())))
        except Exception:  # a fault of ours, for the courier's diary; the next look sends another courier
            print(redact(traceback.format_exc()), file=sys.stderr)
            return 1
    if len(arguments) == 1:
        from backend.launchers.modal.jobs import JOBS, TALKING, do_job

        if arguments[0] in JOBS or arguments[0] in TALKING:
            return do_job(arguments[0])
    print("usage: python -m backend.launchers.modal courier RUN_FOLDER | JOB", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
