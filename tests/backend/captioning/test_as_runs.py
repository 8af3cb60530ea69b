"""Captioning jobs stand among the runs: listed, stopped, resumed, deleted and recovered like them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from backend.captioning.job import CaptionJob, make_job, read_progress
from backend.captioning.request import CaptionRequest
from backend.datasets.drafts import Drafts
from backend.events import Status
from backend.launchers.base import LaunchError
from backend.runs.commands import Command
from backend.runs.registry import RunSummary
from backend.runs.service import RunService
from tests.pretend_captioner import pretend_captioner


@pytest.fixture
def job(tmp_path: Path) -> CaptionJob:
    folder = tmp_path / "pets"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (40 + number, 40)).save(folder / f"{number}.png")
    return make_job(CaptionRequest(folder, "florence-2"), tmp_path / "home")


@pytest.fixture
def service(tmp_path: Path, job: CaptionJob) -> RunService:
    return RunService(tmp_path / "home")


def only(service: RunService) -> RunSummary:
    (run,) = service.list_now()
    return run


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def drafts_of(job: CaptionJob) -> list[str]:
    return sorted(draft.path.name for draft in Drafts(job.drafts).all(job.request.folder))


def test_a_job_is_a_run_from_its_beginning_to_its_end(job, service, tmp_path, monkeypatch) -> None:
    go = tmp_path / "go"
    pretend_captioner(monkeypatch, wait=str(go))
    job.start()
    until(lambda: only(service).status is Status.CAPTIONING)
    run = only(service)
    assert (run.kind, run.name, run.backend, run.step) == ("caption", "captions of pets", "local", 0)
    record = service.record_now(run.id)
    for kind in ("save", "sample"):
        with pytest.raises(LaunchError, match=f"captions pictures: it has nothing to {kind}"):
            asyncio.run(service.command(record, Command(kind=kind)))
    with pytest.raises(LaunchError, match="nothing to extend"):
        asyncio.run(service.command(record, Command(kind="extend", steps=9)))
    with pytest.raises(LaunchError, match="stop it before"):
        asyncio.run(service.launcher(record).delete(record))
    go.touch()
    until(lambda: only(service).status is Status.FINISHED)
    assert (only(service).step, only(service).steps) == (3, 3)
    assert "0.png: a 40 wide picture" in (job.path / "log.txt").read_text(encoding="utf-8")
    with pytest.raises(LaunchError, match="has captioned all its pictures"):
        asyncio.run(service.resume(record))
    assert make_job(job.request, tmp_path / "home").path == job.path
    assert only(service).id == run.id  # the same request is the same run
    drafts = Drafts(job.drafts)
    asyncio.run(service.launcher(record).delete(record))
    assert not service.list_now()
    assert not job.path.exists()
    assert len(drafts.all(tmp_path / "pets")) == 3  # the captions are the dataset's, not the run's


def test_stopped_and_taken_up_again(job, service, tmp_path, monkeypatch) -> None:
    pretend_captioner(monkeypatch, wait=str(tmp_path / "never"))
    job.start()
    until(lambda: only(service).status is Status.CAPTIONING)
    record = service.record_now("last")
    asyncio.run(service.stop(record))
    until(lambda: only(service).status is Status.STOPPED)
    done = only(service).step
    assert 1 <= done < 3
    with pytest.raises(LaunchError, match="no steps to extend"):
        asyncio.run(service.resume(record, ("train.steps=9",)))
    pretend_captioner(monkeypatch)
    asyncio.run(service.resume(record))
    until(lambda: only(service).status is Status.FINISHED)
    assert only(service).step == 3
    assert drafts_of(job) == ["0.txt", "1.txt", "2.txt"]


def test_ended_at_once(job, service, tmp_path, monkeypatch) -> None:
    pretend_captioner(monkeypatch, wait=str(tmp_path / "never"))
    job.start()
    until(lambda: only(service).status is Status.CAPTIONING)
    asyncio.run(service.stop(service.record_now("last"), now=True))
    assert only(service).status is Status.STOPPED
    follower = job.follow()
    follower.read()
    assert follower.progress.state == "stopped"


def test_a_killed_one_is_seen_as_interrupted(job, service, tmp_path, monkeypatch) -> None:
    pretend_captioner(monkeypatch, wait=str(tmp_path / "never"))
    job.start()
    until(lambda: only(service).status is Status.CAPTIONING)
    os.kill(service.record_now("last").handle["pid"], signal.SIGKILL)
    until(lambda: only(service).status is Status.INTERRUPTED)
    assert "the captioner's process is gone" in (only(service).reason or "")
    pretend_captioner(monkeypatch)
    asyncio.run(service.resume(service.record_now("last")))
    until(lambda: only(service).status is Status.FINISHED)


def test_a_failure_says_why(job, service, tmp_path, monkeypatch) -> None:
    pretend_captioner(monkeypatch)
    (job.path / "request.json").write_text(
        json.dumps({**job.request.record, "folder": str(tmp_path / "gone")}), encoding="utf-8"
    )
    job.start()
    until(lambda: only(service).status.ended)
    assert only(service).status is Status.FAILED
    assert only(service).reason == read_progress(job.progress_file).detail != ""


def test_the_kind_survives_a_lost_index_and_old_records_train(job, service, tmp_path) -> None:
    registry = service.registry
    registry.rebuild()
    assert only(service).kind == "caption"
    file = job.folder.record_file
    fields = json.loads(file.read_text(encoding="utf-8"))
    del fields["kind"]  # as older versions wrote it
    file.write_text(json.dumps(fields), encoding="utf-8")
    registry.rebuild()
    assert only(service).kind == "train"
    assert service.record_now("last").kind == "train"


def test_asked_for_by_many_at_once_it_is_one_run(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    request = CaptionRequest(folder, "florence-2")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: make_job(request, tmp_path / "home"), range(8)))
    assert len(RunService(tmp_path / "home").list_now()) == 1
    assert len(list((tmp_path / "home" / "runs").glob("*.json"))) == 1
