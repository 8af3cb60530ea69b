"""``caption``: have a model write the captions of a folder of pictures."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tui.cli.main import fail
from tui.cli.report import absolute, printable
from tui.text import plural, size

if TYPE_CHECKING:
    from backend.captioning.job import CaptionJob, Follower, Progress, Result

_LOOK = 0.2  # seconds between two looks at the job
_TELL = 5.0  # seconds between two lines while a model is downloaded
_PATIENCE = 30.0  # seconds for the process to stop


def caption(
    path: str,
    *,
    model: str,
    prompt: str,
    trigger: str,
    everything: bool,
    apply: bool,
    caption_ext: str,
    backend: str = "local",
    gpu: str | None = None,
    budget: str | None = None,
) -> int:
    """Caption a folder, or go on; 0 when all is done, 1 if it failed, 2 for bad input, 130 after Ctrl-C."""
    from backend.captioning.job import make_job, running_job
    from backend.captioning.place import parse_place
    from backend.captioning.request import CaptioningError, CaptionRequest

    extension = caption_ext if caption_ext.startswith(".") else f".{caption_ext}"
    try:
        folder = absolute(path)
        request = CaptionRequest(folder, model, prompt, trigger.strip(), everything, caption_ext=extension)
        if backend == "local" and (gpu or budget):
            return fail("--gpu and --budget are for --backend modal", 2)
        place = parse_place(gpu, budget) if backend == "modal" else None
        job = make_job(request, place=place)
        other = running_job(folder)
        if other is not None and other.path != job.path:
            return fail(f"{printable(path)} is being captioned already, with {other.request.model}", 1)
        job.start()
    except CaptioningError as error:
        return fail(printable(str(error)), 2)
    except (ValueError, PermissionError) as error:
        return fail(f"{printable(path)}: {getattr(error, 'strerror', None) or 'not a path'}", 2)
    follower = job.follow()
    try:
        _follow(follower)
    except KeyboardInterrupt:
        return _interrupted(job, follower)
    return _end(job, follower.progress, apply=apply)


def _follow(follower: Follower) -> None:
    """Print each picture as it is done."""
    said, told = "", 0.0
    if before := follower.read():
        print(f"going on after {plural(len(before), 'picture')}", flush=True)
    while True:
        new = follower.read()
        progress = follower.progress
        words = f"{progress.state}: {progress.detail}" if progress.detail else progress.state
        if progress.state == "downloading" and progress.total:
            if time.monotonic() - told > _TELL:
                told = time.monotonic()
                print(f"{printable(words)} ({size(progress.done)} of {size(progress.total)})", flush=True)
        elif words != said and not progress.ended:
            said = words
            print(printable(words), flush=True)
        for result in new:
            _print(result)
        if progress.ended:
            return
        time.sleep(_LOOK)


def _print(result: Result) -> None:
    print(f"{printable(result.name)}: {printable(result.caption or f'! {result.problem}')}", flush=True)


def _interrupted(job: CaptionJob, follower: Follower) -> int:
    job.stop()
    print("\nstopping after the picture in hand", file=sys.stderr)
    until = time.monotonic() + _PATIENCE
    while job.running and time.monotonic() < until:
        time.sleep(_LOOK)
    follower.read()
    done = plural(len(follower.progress.results), "picture")
    print(f"stopped after {done}; the same command goes on from there", file=sys.stderr)
    return 130


def _end(job: CaptionJob, progress: Progress, *, apply: bool) -> int:
    if progress.state == "failed":
        return fail(printable(progress.detail), 1)
    if progress.state == "stopped":
        print(
            f"stopped after {plural(len(progress.results), 'picture')}; the same command goes on from there"
        )
        return 0
    captions = len(progress.results) - len(progress.problems)
    if not captions:
        print("no picture needed a caption" if not progress.results else "no picture got a caption")
    elif not apply:
        print(
            f"{plural(captions, 'draft')}; accept or refuse them in the app (datasets, ctrl+s and ctrl+r), "
            "or say --apply"
        )
    if apply:
        return _apply(job, progress)
    return 0


def _apply(job: CaptionJob, progress: Progress) -> int:
    from backend.captioning.delivery import accept
    from backend.captioning.job import caption_path
    from backend.datasets.drafts import Drafts
    from backend.datasets.errors import DatasetError
    from backend.datasets.journal import Journal

    request = job.request
    paths: list[Path] = [
        caption_path(request, result.name)
        for result in progress.results.values()
        if result.caption is not None
    ]
    try:
        applied = accept(Drafts(job.drafts), Journal(), paths)
    except DatasetError as error:
        return fail(printable(str(error)), 1)
    if applied is None:
        return 0
    kept = len(applied.conflicts)
    more = f"; {plural(kept, 'caption')} changed meanwhile and stayed" if kept else ""
    print(f"{plural(len(applied.changed), 'caption')} written{more}; u in the app's browser takes it back")
    return 0
