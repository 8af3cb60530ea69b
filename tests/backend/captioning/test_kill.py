"""A captioning process that is killed loses the picture in hand and no other."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from backend.captioning.job import CaptionJob, make_job, read_progress
from backend.captioning.request import CaptionRequest
from backend.datasets.drafts import Drafts

# It notes each picture that the model is given, and hangs in the third for as long as `hang` exists.
CAPTIONER = """
import sys, time
from pathlib import Path
from backend.captioning.job import CaptionJob
from backend.trainer.captioner import work
job = CaptionJob(Path(sys.argv[1]))
given, hang = job.path / "given", job.path / "hang"
class Model:
    def caption(self, images, prompts):
        with given.open("a") as file:
            file.writelines(f"{image.width}\\n" for image in images)
        while hang.exists() and len(given.read_text().split()) >= 3:
            time.sleep(0.02)
        return [f"{image.width} wide" for image in images]
work._Work._load = lambda self: Model()
sys.modules["backend.trainer.captioner.model"] = type(sys)("model")
sys.modules["backend.trainer.captioner.model"].release_memory = lambda: None
sys.exit(work.run_job(job, job.request))
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def given(job: CaptionJob) -> list[str]:
    file = job.path / "given"
    return file.read_text().split() if file.exists() else []


def test_a_kill_loses_the_picture_in_hand_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(CaptionJob, "CAPTIONER", (sys.executable, "-c", CAPTIONER))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    folder = tmp_path / "pets"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (40 + number, 40)).save(folder / f"{number}.png")
    job = make_job(CaptionRequest(folder, "florence-2"), tmp_path / "home")
    (job.path / "hang").touch()
    job.start()
    until(lambda: len(given(job)) >= 3)
    os.kill(job.folder.read_record().handle["pid"], signal.SIGKILL)
    until(lambda: not job.running)
    assert list(read_progress(job.progress_file).results) == ["0.png", "1.png"]
    kept = {draft.path.name: draft.text for draft in Drafts(job.drafts).all(folder)}
    assert kept == {"0.txt": "40 wide", "1.txt": "41 wide"}

    (job.path / "hang").unlink()
    job.start()
    until(lambda: read_progress(job.progress_file).ended)
    assert read_progress(job.progress_file).state == "finished"
    assert given(job) == ["40", "41", "42", "42", "43", "44"]  # only the picture in hand was done twice
