"""``fluxlora-tui caption``."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.captioning.job import CaptionJob, Follower
from backend.datasets.drafts import Drafts
from backend.datasets.journal import Journal
from tests.pretend_captioner import pretend_captioner
from tests.tui.dataset_folders import make_dataset
from tui.cli.main import run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    return make_dataset(tmp_path / "animals")


def test_drafts_then_applied_without_captioning_again(folder: Path, monkeypatch, capsys) -> None:
    pretend_captioner(monkeypatch)
    words = ["caption", str(folder), "--prompt", "[b]short", "--trigger", "sks"]
    assert run(words) == 0
    said = capsys.readouterr().out
    assert "cat.png: sks, a 144 wide picture, [b]short" in said
    assert "1 draft;" in said
    assert not (folder / "cat.txt").exists()
    assert [draft.path.name for draft in Drafts().all(folder)] == ["cat.txt"]
    assert run([*words, "--apply"]) == 0
    assert "1 caption written" in capsys.readouterr().out
    assert (folder / "cat.txt").read_text(encoding="utf-8") == "sks, a 144 wide picture, [b]short"
    assert Drafts().all(folder) == []
    assert (folder / "bear.txt").read_text(encoding="utf-8") == "a bear, snow, snow"
    assert run(words) == 0
    assert "no picture needed a caption" in capsys.readouterr().out


def test_all_replaces_and_can_be_taken_back(folder: Path, monkeypatch, capsys) -> None:
    pretend_captioner(monkeypatch)
    assert run(["caption", str(folder), "--all", "--apply", "--prompt", "before: {caption}"]) == 0
    bear = folder / "bear.txt"
    assert bear.read_text(encoding="utf-8") == "a 120 wide picture, before: a bear, snow, snow"
    journal = Journal()
    last = journal.last(folder)
    assert last is not None
    journal.undo(last.id)
    assert bear.read_text(encoding="utf-8") == "a bear, snow, snow"
    assert not (folder / "cat.txt").exists()


def test_ctrl_c_stops_it_and_the_same_command_goes_on(
    folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    pretend_captioner(monkeypatch, str(tmp_path / "go"))
    (folder / "emu.txt").unlink()
    real = Follower.read

    def read(self: Follower):
        new = real(self)
        if self.progress.state == "captioning" and not (tmp_path / "go").exists():
            (tmp_path / "pressed").touch()
            raise KeyboardInterrupt
        return new

    monkeypatch.setattr(
        Follower, "read", lambda self: real(self) if (tmp_path / "pressed").exists() else read(self)
    )
    assert run(["caption", str(folder)]) == 130
    assert "stopped after 1 picture; the same command goes on" in capsys.readouterr().err
    (tmp_path / "go").touch()
    assert run(["caption", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "going on after 1 picture" in said
    assert "2 drafts" in said


def test_a_folder_that_is_not_there(tmp_path: Path, folder: Path, capsys) -> None:
    assert run(["caption", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpu", "L4"], "are for --backend modal"),
        (["--backend", "modal", "--gpu", "X1"], "is no GPU of Modal's"),
        (["--backend", "modal", "--budget", "much"], "is no number of dollars"),
        (["--backend", "modal", "--budget", "nan"], "more than 0"),
        (["--backend", "modal", "--budget", "0.01"], "captioning needs at least 120"),
    ],
)
def test_a_place_that_makes_no_sense_is_a_sentence(folder: Path, capsys, words: list[str], said: str) -> None:
    assert run(["caption", str(folder), *words]) == 2
    assert said in capsys.readouterr().err


def test_on_modal_the_courier_does_it(folder: Path, monkeypatch, capsys) -> None:
    pretend_captioner(monkeypatch)
    monkeypatch.setattr(CaptionJob, "COURIER", CaptionJob.CAPTIONER)
    monkeypatch.setattr(CaptionJob, "CAPTIONER", ("none",))
    assert run(["caption", str(folder), "--backend", "modal", "--gpu", "t4"]) == 0
    assert "1 draft;" in capsys.readouterr().out
