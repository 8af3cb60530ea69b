"""``python -m backend.trainer RUN_FOLDER``: train, or go on training, the run in that folder."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and train; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m backend.trainer",
        description="Train the run in a folder; it goes on from its resume state if it has one.",
        epilog="Exit codes: 0 finished or stopped, 1 failed, 2 bad config or no run folder.",
    )
    parser.add_argument("run_folder", type=Path, help="folder with the run's config.yaml")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # log.txt is UTF-8 whatever the console is
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")

    # Idle threads of torch's pool (libgomp) spin only shortly before they sleep. Milliseconds a step of the
    # demo on two cores, alone and beside one busy program: 55 and 139 like this, 62 and over 700 with
    # libgomp's own long spinning, 110 and 84 without any. It is read once, when torch is loaded.
    if not os.environ.get("OMP_WAIT_POLICY"):
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    from backend.trainer.attempt import run_attempt

    return run_attempt(options.run_folder)


if __name__ == "__main__":
    sys.exit(main())
