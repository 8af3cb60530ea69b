"""What is written down of a launch, and what it means for who comes next."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.launchers.modal.journal import Journal, Stage, journal_file, read_journal, write_journal
from backend.launchers.modal.launcher import next_launch
from backend.launchers.modal.lock import held


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path


def test_it_comes_back_as_it_was_written(folder: Path) -> None:
    journal = Journal(
        stage=Stage.SPAWNED,
        launch=3,
        folder="my-lora-2",
        app_id="ap-1",
        call_id="fc-1",
        gpu=("H100", "L40S:2"),
        rate=4.2,
        budget=None,
        seconds=3600.0,
        earlier_apps=("ap-0",),
        spawned=12.5,
    )
    write_journal(folder, journal)
    assert read_journal(folder) == journal


def test_a_newer_version_may_know_more(folder: Path) -> None:
    write_journal(folder, Journal(stage=Stage.LAUNCHING))
    text = journal_file(folder).read_text(encoding="utf-8")
    journal_file(folder).write_text(text.replace("{", '{"moon": 1,', 1), encoding="utf-8")
    journal = read_journal(folder)
    assert journal is not None
    assert journal.stage is Stage.LAUNCHING


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stage": "on the moon"}', '{"launch": 1}'])
def test_a_damaged_one_is_none(folder: Path, content: str) -> None:
    journal_file(folder).write_text(content, encoding="utf-8")
    assert read_journal(folder) is None


def test_none_is_none(folder: Path) -> None:
    assert read_journal(folder) is None


@pytest.mark.parametrize(
    ("journal", "safe", "costs"),
    [
        (Journal(), False, False),
        (Journal(prefetch_app_id="ap-1"), False, True),
        (Journal(stage=Stage.LAUNCHING), False, True),
        (Journal(stage=Stage.SPAWNED), True, True),
        (Journal(stage=Stage.ENDED), False, False),
    ],
)
def test_safe_to_close_only_once_the_call_exists(journal: Journal, safe: bool, costs: bool) -> None:
    assert journal.safe_to_close is safe
    assert journal.may_cost is costs


def test_another_launch_keeps_the_folder_and_remembers_the_app() -> None:
    before = Journal(
        stage=Stage.ENDED,
        launch=2,
        folder="a",
        volume="v",
        app_id="ap-2",
        call_id="fc-2",
        earlier_apps=("ap-1",),
    )
    after = next_launch(before, Journal(volume="other", gpu=("L4",), budget=1.0))
    assert (after.stage, after.launch, after.folder, after.volume) == (Stage.PREPARING, 3, "a", "v")
    assert (after.app_id, after.call_id, after.earlier_apps) == (None, None, ("ap-1", "ap-2"))
    assert (after.gpu, after.budget) == (("L4",), 1.0)


def test_one_courier_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path / "lock") as mine:
        assert mine
        with held(tmp_path / "lock") as second:
            assert not second
    with held(tmp_path / "lock") as again:
        assert again
