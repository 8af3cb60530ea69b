"""Captioning on Modal: a real tiny model in a container of the stand-in, drafts on this machine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from backend.captioning.job import CaptionJob, make_job, read_progress
from backend.captioning.place import ModalPlace
from backend.captioning.request import CaptionRequest
from backend.datasets.drafts import Drafts
from backend.datasets.sidecar import Box, Marks, set_marks
from backend.launchers.local import LocalLauncher
from backend.runs.registry import Registry
from tests.loopback.cloud import LoopbackCloud
from tests.modal.client import Client
from tests.trainer.tiny_captioners import make_florence


@pytest.fixture(scope="module")
def florence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_florence(tmp_path_factory.mktemp("florence"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b [x].png", "c\n\N{FOX FACE}.png", "d.png", "has.png")):
        Image.new("RGB", (64 + 8 * number, 60), (50 * number, 90, 130)).save(folder / name)
    (folder / "has.txt").write_text("a caption of its own", encoding="utf-8")
    set_marks(folder / "a.png", Marks(crop=Box(4, 4, 32, 32)))
    set_marks(folder / "d.png", Marks(excluded=True))
    return folder


@pytest.fixture
def cloud(
    modal_cloud: LoopbackCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[LoopbackCloud]:
    client = Client(modal_cloud, tmp_path / "home", tmp_path / "none.yaml")
    for name, value in client.environment.items():
        monkeypatch.setenv(name, value)
    yield modal_cloud
    client.switch_off()


def job_of(tmp_path: Path, folder: Path, model: Path, **options: object) -> CaptionJob:
    request = CaptionRequest(
        folder,
        str(model),
        **{"prompt": "<CAPTION>", "trigger": "sks", "tokens": 6, **options},  # type: ignore[arg-type]
    )
    return make_job(request, tmp_path / "home", ModalPlace(gpu="L4", budget=2.0))


def until(true: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def ended(job: CaptionJob) -> str:
    """Wait for the job's end; its state."""
    until(lambda: read_progress(job.progress_file).ended and not job.running)
    return read_progress(job.progress_file).state


def test_pictures_are_captioned_over_there_and_drafts_are_here(
    cloud: LoopbackCloud, tmp_path: Path, folder: Path, florence: Path
) -> None:
    (folder / "broken.png").symlink_to("nowhere.png")  # which cannot be sent, and holds nothing up
    (folder / "empty.png").write_bytes(b"")
    odd = os.fsdecode(b"caf\xe9")
    Image.new("RGB", (64, 60)).save(folder / f"{odd}.png")
    job = job_of(tmp_path, folder, florence)
    job.start(environment=dict(os.environ))
    assert ended(job) == "finished", (job.path / "log.txt").read_text()
    progress = read_progress(job.progress_file)
    assert [(result.name, result.problem) for result in progress.problems] == [
        ("broken.png", "the picture is a link to a file that does not exist"),
        ("empty.png", "the picture is empty: it has 0 bytes"),
    ]
    captioned = {name for name, result in progress.results.items() if result.caption is not None}
    assert captioned == {"a.png", "b [x].png", "c\n\N{FOX FACE}.png", f"{odd}.png"}
    drafts = {draft.path.name: draft.text for draft in Drafts(job.drafts).all(folder)}
    assert set(drafts) == {"a.txt", "b [x].txt", "c\n\N{FOX FACE}.txt", f"{odd}.txt"}
    assert all(text.startswith("sks, ") for text in drafts.values())
    assert [path.name for path in folder.glob("*.txt")] == ["has.txt"]
    note = json.loads((job.path / "call.json").read_text())
    assert note["app_id"] is None  # nothing is left running

    job.start(environment=dict(os.environ))  # the drafts are there: nothing to do, and no container
    assert ended(job) == "finished"


def test_a_courier_that_dies_is_replaced_and_nothing_is_done_twice(
    cloud: LoopbackCloud, tmp_path: Path, folder: Path, florence: Path
) -> None:
    job = job_of(tmp_path, folder, florence)
    job.start(environment=dict(os.environ))
    note = job.path / "call.json"
    until(lambda: note.exists() and json.loads(note.read_text())["call_id"])
    call = json.loads(note.read_text())["call_id"]
    record = job.folder.read_record()
    assert record is not None
    os.kill(int(record.handle["pid"]), 9)
    until(lambda: not job.running)
    job.start(environment=dict(os.environ))
    assert json.loads(note.read_text())["call_id"] in (call, None)
    assert ended(job) == "finished", (job.path / "log.txt").read_text()
    names = [json.loads(line).get("name") for line in job.progress_file.read_text().splitlines()]
    named = [name for name in names if name]
    assert sorted(named) == ["a.png", "b [x].png", "c\n\N{FOX FACE}.png"]


async def test_stopped_at_once_nothing_is_left_running(
    cloud: LoopbackCloud, tmp_path: Path, folder: Path, florence: Path
) -> None:
    job = job_of(tmp_path, folder, florence)
    job.start(environment=dict(os.environ))
    note = job.path / "call.json"
    until(lambda: note.exists() and json.loads(note.read_text())["call_id"])
    record = job.folder.read_record()
    assert record is not None
    await LocalLauncher(Registry(tmp_path / "home")).stop(record, now=True)
    assert ended(job) in ("stopped", "finished")  # it may have been done by then
    assert json.loads(note.read_text())["app_id"] is None
    assert cloud.wait(lambda: not cloud.tasks(running=True), 30)


def test_what_cannot_be_is_a_sentence_before_anything_costs(
    cloud: LoopbackCloud, tmp_path: Path, folder: Path, florence: Path
) -> None:
    job = make_job(
        CaptionRequest(folder, str(florence)), tmp_path / "home", ModalPlace(gpu="L4", budget=0.001)
    )
    job.start(environment=dict(os.environ))
    assert ended(job) == "failed"
    assert "captioning needs at least 120" in read_progress(job.progress_file).detail
    job = job_of(tmp_path, folder, tmp_path / "nowhere")
    job.start(environment=dict(os.environ))
    assert ended(job) == "failed"
    assert "no captioning model" in read_progress(job.progress_file).detail
