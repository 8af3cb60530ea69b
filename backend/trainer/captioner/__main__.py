"""``python -m backend.trainer.captioner JOB_FOLDER``: caption, or go on captioning, what the job asks for.

Exit codes: 0 finished or stopped, 1 failed, 2 no job.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and caption; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m backend.trainer.captioner",
        description="Caption the pictures that a job asks for; it goes on where it stopped.",
        epilog="Exit codes: 0 finished or stopped, 1 failed, 2 no job in the folder.",
    )
    parser.add_argument("job_folder", type=Path, help="folder with the job's request.json")
    options = parser.parse_args(arguments)

    from backend.captioning.job import CaptionJob
    from backend.captioning.request import CaptioningError
    from backend.credentials.redaction import remember_environment
    from backend.trainer.captioner.work import run_job

    remember_environment()
    job = CaptionJob(options.job_folder)
    try:
        request = job.request
    except CaptioningError as error:
        print(f"{options.job_folder}: {error}", file=sys.stderr)
        return 2
    return run_job(job, request)


if __name__ == "__main__":
    sys.exit(main())
