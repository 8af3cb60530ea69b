"""Captioning with real models and processors, tiny ones."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from backend.captioning.job import CaptionJob, Progress, ProgressWriter, Result, make_job, read_progress
from backend.captioning.request import CaptionRequest
from backend.datasets.drafts import Drafts
from backend.datasets.sidecar import Box, Marks, set_marks
from backend.trainer.captioner.__main__ import main
from backend.trainer.captioner.model import Captioner
from tests.trainer.tiny_captioners import make_florence, make_qwen

COLOURS = {"a.png": "red", "b.png": "green", "c.png": "blue", "d.png": "white"}


@pytest.fixture(scope="module")
def florence(tmp_path_factory) -> Path:
    return make_florence(tmp_path_factory.mktemp("florence"))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Path:
    return make_qwen(tmp_path_factory.mktemp("qwen"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    folder.mkdir()
    for number, (name, colour) in enumerate(COLOURS.items()):
        Image.new("RGB", (48 + 8 * number, 40), colour).save(folder / name)
    return folder


def job_of(tmp_path: Path, folder: Path, model: object, **options: object) -> CaptionJob:
    request = CaptionRequest(folder, str(model), **{"tokens": 6, "device": "cpu", **options})  # type: ignore[arg-type]
    return make_job(request, tmp_path / "home")


def drafts_of(job: CaptionJob) -> dict[str, str]:
    return {draft.path.name: draft.text for draft in Drafts(job.drafts).all(job.request.folder)}


def run(job: CaptionJob) -> tuple[int, Progress]:
    return main([str(job.path)]), read_progress(job.progress_file)


@pytest.mark.parametrize("family", ["florence", "qwen"])
def test_every_picture_gets_a_draft_and_no_file_is_touched(tmp_path, folder, family, request) -> None:
    prompt = "" if family == "florence" else "What is it, {trigger}?"
    model = request.getfixturevalue(family)
    if family == "florence":
        prompt = "<CAPTION>"
    job = job_of(tmp_path, folder, model, prompt=prompt, trigger="sks", batch=3)
    code, progress = run(job)
    assert (code, progress.state, progress.done, progress.total) == (0, "finished", 4, 4), progress.detail
    drafts = drafts_of(job)
    assert sorted(drafts) == ["a.txt", "b.txt", "c.txt", "d.txt"]
    assert all(text.startswith("sks, ") and text[5:].isalpha() for text in drafts.values())
    assert progress.results["a.png"].caption == drafts["a.txt"]
    assert not list(folder.glob("*.txt"))


@pytest.mark.parametrize("family", ["florence", "qwen"])
def test_a_batch_says_what_single_pictures_say(family, request) -> None:
    import torch

    captioner = Captioner(request.getfixturevalue(family), torch.device("cpu"), 5)
    images = [Image.new("RGB", (40 + 16 * n, 40), colour) for n, colour in enumerate(COLOURS.values())]
    prompts = (
        ["<CAPTION>"] * 4 if family == "florence" else ["What is it?", "Why?", "A longer question?", "x"]
    )
    alone = [captioner.caption([image], [prompt])[0] for image, prompt in zip(images, prompts, strict=True)]
    assert captioner.caption(images, prompts) == alone
    assert all(alone)


def test_captions_are_left_alone_unless_asked(tmp_path, folder, florence) -> None:
    (folder / "a.txt").write_text("mine", encoding="utf-8")
    set_marks(folder / "c.png", Marks(excluded=True))
    job = job_of(tmp_path, folder, florence)
    Drafts(job.drafts).save(folder / "b.txt", "typed by a person")
    assert run(job)[0] == 0
    assert set(drafts_of(job)) == {"b.txt", "d.txt"}
    assert drafts_of(job)["b.txt"] == "typed by a person"
    everything = job_of(tmp_path, folder, florence, everything=True)
    assert run(everything)[0] == 0
    assert set(drafts_of(everything)) == {"a.txt", "b.txt", "d.txt"}
    assert drafts_of(everything)["b.txt"] == "typed by a person"
    assert (folder / "a.txt").read_text(encoding="utf-8") == "mine"


def test_it_goes_on_where_a_crash_left_it(tmp_path, folder, florence, monkeypatch) -> None:
    job = job_of(tmp_path, folder, florence, batch=1)
    real, asked = Captioner.caption, []

    def dies(self, images, prompts):
        asked.append(len(images))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(self, images, prompts)

    monkeypatch.setattr(Captioner, "caption", dies)
    with pytest.raises(KeyboardInterrupt):
        main([str(job.path)])
    with job.progress_file.open("ab") as file:
        file.write(b'{"name": "torn')
    first = drafts_of(job)
    assert sorted(first) == ["a.txt", "b.txt"]
    Drafts(job.drafts).discard(folder / "a.txt")  # refused meanwhile: it does not come back
    code, progress = run(job)
    assert (code, progress.state, progress.done) == (0, "finished", 4)
    assert len(asked) == 5
    assert sorted(drafts_of(job)) == ["b.txt", "c.txt", "d.txt"]


def test_it_stops_when_asked(tmp_path, folder, florence, monkeypatch) -> None:
    job = job_of(tmp_path, folder, florence, batch=1)
    real = Captioner.caption

    def then_stop(self, images, prompts):
        job.stop_file.touch()
        return real(self, images, prompts)

    monkeypatch.setattr(Captioner, "caption", then_stop)
    code, progress = run(job)
    assert (code, progress.state, progress.done, progress.total) == (0, "stopped", 1, 4)


def test_a_damaged_picture_and_a_crop(tmp_path, folder, florence, monkeypatch) -> None:
    (folder / "b.png").write_bytes(b"nothing")
    set_marks(folder / "c.png", Marks(crop=Box(4, 4, 16, 24)))
    seen = []
    real = Captioner.caption
    monkeypatch.setattr(
        Captioner, "caption", lambda s, images, p: seen.extend(i.size for i in images) or real(s, images, p)
    )
    job = job_of(tmp_path, folder, florence, batch=2)
    code, progress = run(job)
    assert code == 0
    assert progress.problems == [Result("b.png", None, "the picture is not a picture that can be read")]
    assert (16, 24) in seen


def test_a_crop_that_does_not_fit_is_not_used_as_in_training(tmp_path, folder, florence, monkeypatch) -> None:
    set_marks(folder / "a.png", Marks(crop=Box(8, 8, 400, 400)))
    seen = []
    real = Captioner.caption
    monkeypatch.setattr(
        Captioner, "caption", lambda s, images, p: seen.extend(i.size for i in images) or real(s, images, p)
    )
    assert run(job_of(tmp_path, folder, florence, names=("a.png",)))[1].state == "finished"
    assert seen == [(48, 40)]


def test_a_folder_that_is_deleted_meanwhile_ends_it_with_a_sentence_and_it_goes_on_later(
    tmp_path, folder, florence, monkeypatch
) -> None:
    real, away = Captioner.caption, tmp_path / "away"

    def then_gone(self, images, prompts):
        answers = real(self, images, prompts)
        if folder.is_dir():
            folder.rename(away)
        return answers

    job = job_of(tmp_path, folder, florence)
    with monkeypatch.context() as patched:
        patched.setattr(Captioner, "caption", then_gone)
        code, progress = run(job)
    assert (code, progress.state, list(progress.results)) == (1, "failed", ["a.png"])
    assert progress.detail.startswith(f"the folder {folder} is gone; captions so far are kept as drafts")
    assert list(drafts_of(job)) == ["a.txt"]
    away.rename(folder)
    code, progress = run(job)
    assert (code, progress.state, progress.problems) == (0, "finished", [])
    assert list(drafts_of(job)) == ["a.txt", "b.txt", "c.txt", "d.txt"]


def test_names_that_are_no_unicode_are_captioned(tmp_path, folder, florence) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    (folder / "a.png").rename(folder / odd)
    job = job_of(tmp_path, folder, florence, names=(odd,))
    code, progress = run(job)
    assert (code, progress.state, list(progress.results)) == (0, "finished", [odd])
    assert list(drafts_of(job)) == [os.fsdecode(b"caf\xe9.txt")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_ends_it_with_a_sentence(tmp_path, folder, florence, monkeypatch, capsys) -> None:
    job = job_of(tmp_path, folder, florence)
    real = ProgressWriter.__init__

    def full(self, file, events=None):
        real(self, file)
        self._file = open("/dev/full", "ab")  # noqa: SIM115 - closed by the writer

    monkeypatch.setattr(ProgressWriter, "__init__", full)
    assert main([str(job.path)]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("the disk is full; make room and start captioning again")


def test_the_prompt_is_filled_in_for_each_picture(tmp_path, folder, qwen, monkeypatch) -> None:
    (folder / "a.txt").write_text("a red thing\n", encoding="utf-8")
    asked = []
    real = Captioner.caption
    monkeypatch.setattr(
        Captioner, "caption", lambda s, images, prompts: asked.extend(prompts) or real(s, images, prompts)
    )
    job = job_of(
        tmp_path, folder, qwen, prompt="{trigger}: so far {caption}.", trigger="sks", everything=True,
        names=("a.png", "b.png"),
    )  # fmt: skip
    assert run(job)[0] == 0
    assert asked == ["sks: so far a red thing.", "sks: so far ."]


def test_too_little_memory_means_fewer_at_a_time(tmp_path, folder, florence, monkeypatch) -> None:
    real, sizes = Captioner.caption, []

    def small(self, images, prompts):
        sizes.append(len(images))
        if len(images) > 1:
            raise MemoryError
        return real(self, images, prompts)

    monkeypatch.setattr(Captioner, "caption", small)
    assert run(job_of(tmp_path, folder, florence, batch=4))[1].state == "finished"
    assert sizes == [4, 2, 1, 1, 1, 1]

    def never(self, images, prompts):
        raise MemoryError

    monkeypatch.setattr(Captioner, "caption", never)
    code, progress = run(job_of(tmp_path, folder, florence, batch=2, everything=True))
    assert code == 1
    assert progress.detail.startswith("out of memory: ")


@pytest.mark.parametrize("what", ["missing", "empty", "prompt"])
def test_a_sentence_for_what_cannot_be_used(tmp_path, folder, florence, what, capsys) -> None:
    (tmp_path / "empty").mkdir()
    model = {"missing": tmp_path / "nowhere" / "deep", "empty": tmp_path / "empty", "prompt": florence}[what]
    prompt = "<CAPTION> and more" if what == "prompt" else ""
    code, progress = run(job_of(tmp_path, folder, model, prompt=prompt))
    assert (code, progress.state) == (1, "failed")
    wanted = {
        "missing": "there is no captioning model",
        "empty": "has no config.json",
        "prompt": "this prompt",
    }
    assert wanted[what] in progress.detail
    assert "\n" not in progress.detail
    assert "Traceback" not in capsys.readouterr().err


def test_a_folder_without_a_job(tmp_path, capsys) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no captioning job" in capsys.readouterr().err


def test_the_process_outlives_and_ends_by_itself(tmp_path, folder, florence) -> None:
    job = job_of(tmp_path, folder, florence)
    job.start()
    follower, new = job.follow(), []
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        new += follower.read()
        if follower.progress.ended:
            break
        threading.Event().wait(0.1)
    assert follower.progress.state == "finished", (job.path / "log.txt").read_text()
    assert [result.name for result in new] == list(COLOURS)
