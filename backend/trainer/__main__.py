"""``python -m backend.trainer RUN_FOLDER``: train, or go on training, the run in that folder.

With ``--sample STEP ... --events FILE`` it draws samples of the run instead, see
:mod:`backend.trainer.sample_rounds`. Environment variables: :mod:`backend.trainer.environment`.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and train; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m backend.trainer",
        description="Train the run in a folder; it goes on from its resume state if it has one.",
        epilog="Exit codes: 0 finished, stopped or preempted, 1 failed, 2 bad config or no run folder.",
    )
    parser.add_argument("run_folder", type=Path, help="folder with the run's config.yaml")
    parser.add_argument(
        "--sample", type=int, nargs="+", metavar="STEP", help="draw the samples of these steps, train nothing"
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="with --sample: weights to use instead of those of the step"
    )
    parser.add_argument("--events", type=Path, help="with --sample: file that is told of the samples")
    options = parser.parse_args(arguments)
    if options.sample and options.events is None:
        parser.error("--sample needs --events FILE")
    if not options.sample and (options.events or options.checkpoint):
        parser.error("--events and --checkpoint go with --sample")
    if options.sample and min(options.sample) < 0:
        parser.error("--sample: a step is at least 0")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # log.txt is UTF-8 whatever the console is
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")

    from backend.credentials.redaction import redact, remember_environment

    remember_environment()
    sys.excepthook = lambda kind, error, trace: print(
        redact("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr
    )
    # Idle threads of torch's pool (libgomp) spin only shortly before they sleep. Milliseconds a step of the
    # demo on two cores, alone and beside one busy program: 55 and 139 like this, 62 and over 700 with
    # libgomp's own long spinning, 110 and 84 without any. It is read once, when torch is loaded.
    if not os.environ.get("OMP_WAIT_POLICY"):
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    if options.sample:
        return _draw(options.run_folder, options.sample, options.events, options.checkpoint)
    from backend.trainer.attempt import run_attempt

    return run_attempt(options.run_folder)


def _draw(folder: Path, steps: list[int], events: Path, checkpoint: Path | None) -> int:
    try:
        from backend.trainer.sample_rounds import draw_rounds
    except ModuleNotFoundError as error:
        from backend.trainer.errors import INSTALL_HINT

        print(
            f"sampling needs a library that is not installed ({error.name}): {INSTALL_HINT}", file=sys.stderr
        )
        return 1
    return draw_rounds(folder, steps, events, checkpoint)


if __name__ == "__main__":
    sys.exit(main())
