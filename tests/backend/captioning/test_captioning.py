"""Captioning without a model: prompts, answers, the job's files, and whose caption wins."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.captioning.delivery import accept, deliver
from backend.captioning.job import CaptionJob, Follower, ProgressWriter, Result, make_job, read_progress
from backend.captioning.models import PRESETS, resolve
from backend.captioning.request import CaptioningError, CaptionRequest, request_of
from backend.captioning.wording import fill, tidy, with_trigger
from backend.datasets.drafts import Drafts
from backend.datasets.journal import Journal


def test_models_by_name_folder_and_id() -> None:
    assert resolve("Qwen-VL") == (PRESETS["qwen-vl"].model, PRESETS["qwen-vl"].prompt)
    assert resolve("me/My-Florence-2") == ("me/My-Florence-2", "<MORE_DETAILED_CAPTION>")
    assert resolve("/models/mine", " what? ") == ("/models/mine", "what?")


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("The image shows a cat.\nIt sleeps.", "A cat. It sleeps."),
        ("</s><s>a dog</s>", "a dog"),
        ("a \x1b[31mred fox<|im_end|>", "a [31mred fox"),
        (" \n ", ""),
    ],
)
def test_an_answer_becomes_one_line(answer: str, caption: str) -> None:
    assert tidy(answer) == caption


def test_the_trigger_is_put_once() -> None:
    assert with_trigger("a cat", "sks") == "sks, a cat"
    assert with_trigger("a sks cat", "sks") == "a sks cat"
    assert with_trigger("a sksy cat", "sks") == "sks, a sksy cat"
    assert with_trigger("[trigger] cat", "sks") == "[trigger] cat"
    assert with_trigger("a cat", "") == "a cat"
    assert fill("{trigger} {caption} {other}", trigger="sks", caption=None) == "sks  {other}"


def test_a_request_survives_its_file_and_damage_is_a_sentence(tmp_path: Path) -> None:
    request = CaptionRequest(tmp_path, "m", "p", "t", True, ("a.png",), ".caption", 3, 9, "cpu")
    assert request_of(request.record) == request
    job = make_job(request, tmp_path / "home")
    assert job.request == request
    assert make_job(request, tmp_path / "home").path == job.path
    (job.path / "request.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CaptioningError, match="damaged"):
        _ = job.request
    with pytest.raises(CaptioningError, match="does not exist"):
        make_job(CaptionRequest(tmp_path / "gone", "m"), tmp_path / "home")


def test_progress_survives_a_torn_line(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    with ProgressWriter(file) as writer:
        writer.state("captioning", 0, 2)
        writer.result(Result("a\n.png", "ä cat"))
    with file.open("ab") as raw:
        raw.write(b'{"name": "b.p')
    assert list(read_progress(file).results) == ["a\n.png"]
    with ProgressWriter(file) as writer:
        writer.result(Result("b.png", None, "no"))
    progress = read_progress(file)
    assert progress.results["a\n.png"].caption == "ä cat"
    assert progress.problems == [Result("b.png", None, "no")]


def test_a_process_that_died_without_a_word_has_failed(tmp_path: Path) -> None:
    job = CaptionJob(tmp_path)
    with ProgressWriter(job.progress_file) as writer:
        writer.state("captioning", 0, 2)
        writer.result(Result("a.png", "a cat"))
    follower = Follower(job)
    assert follower.read() == [Result("a.png", "a cat")]
    assert follower.progress.state == "failed"
    assert "log.txt" in follower.progress.detail
    assert follower.read() == []


def test_a_process_that_could_not_even_say_that_the_disk_is_full(tmp_path: Path, monkeypatch) -> None:
    job = CaptionJob(tmp_path)
    with ProgressWriter(job.progress_file) as writer:
        writer.state("captioning", 0, 2)
    monkeypatch.setattr("backend.captioning.job.shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    follower = Follower(job)
    follower.read()
    assert follower.progress.state == "failed"
    assert follower.progress.detail.startswith(f"the disk with {tmp_path} is full; make room")


def test_what_a_person_wrote_meanwhile_wins(tmp_path: Path) -> None:
    drafts, request = Drafts(tmp_path / "drafts"), CaptionRequest(tmp_path, "m")
    typed, written, free = (tmp_path / f"{name}.txt" for name in ("typed", "written", "free"))
    drafts.save(typed, "by hand")
    written.write_text("by hand", encoding="utf-8")
    assert deliver(request, typed, "by model", drafts, "m")
    assert deliver(request, written, "by model", drafts, "m")
    assert deliver(request, free, "by model", drafts, "m") == ""
    assert drafts.load(written) is None
    journal = Journal(tmp_path / "edits")
    applied = accept(drafts, journal, [typed, written, free])
    assert applied is not None
    assert applied.changed == (free,)
    assert drafts.load(typed) is not None
    assert not typed.exists()
    drafts.save(free, "another", base="not what it says", source="m")
    again = accept(drafts, journal, [free])
    assert again is not None
    assert again.conflicts == (free,)
    assert drafts.load(free) is not None
