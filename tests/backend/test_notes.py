"""What a person writes on runs, and runs side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.events import AttemptEvent, StepEvent
from backend.runs.compare import Difference, differences, flatten, loss_curve, read_config, sweep_of
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.notes import Notes, clean_tags, notes_file, read_notes
from backend.runs.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def add(registry: Registry, run_id: str) -> RunRecord:
    record = RunRecord(id=run_id, name="cat", backend="local", steps=9, path=registry.runs_folder / run_id)
    folder = RunFolder(record.path)
    folder.create()
    folder.write_record(record)
    registry.add(record)
    return record


def test_notes_survive_a_rebuild_of_the_index(registry: Registry) -> None:
    record = add(registry, "abcd2345")
    notes = Notes("the good one\nsecond line", clean_tags(["Good", "sweep:lr"]), True)
    registry.write_notes(record.id, record.path, notes)
    assert read_notes(record.path) == notes
    for _ in range(2):
        (run,) = registry.all()
        assert (run.tags, run.archived) == (("good", "sweep:lr"), True)
        registry.rebuild()
    (registry.root / "runs.db").unlink()
    registry = Registry(registry.root)
    registry.rebuild()
    (run,) = registry.all()
    assert (run.tags, run.archived) == (("good", "sweep:lr"), True)


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"note": 3, "tags": "x", "archived": "yes"}'])
def test_damaged_notes_are_no_notes(registry: Registry, damage: str) -> None:
    record = add(registry, "abcd2345")
    notes_file(record.path).write_text(damage, encoding="utf-8")
    assert read_notes(record.path) == Notes()


def test_tags_are_words() -> None:
    assert clean_tags(["#Good one", "b", "b", " ", "\x1b[31m", "x" * 90]) == ("b", "good-one", "x" * 40)


def test_configs_are_told_apart_by_their_keys() -> None:
    first = flatten({"train": {"lr": 1e-4, "steps": 500}, "prompts": ["a", "b"], "empty": {}})
    second = flatten({"train": {"lr": 2e-4, "steps": 500}, "prompts": ["a"], "empty": {}})
    assert differences([first, second]) == [
        Difference("train.lr", ("0.0001", "0.0002")),
        Difference("prompts[1]", ("b", "–")),  # noqa: RUF001
    ]
    assert differences([first, first]) == []


def test_a_config_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.yaml cannot be read"):
        read_config(tmp_path)
    (tmp_path / "config.yaml").write_text("a: [1", encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.yaml cannot be read"):
        read_config(tmp_path)


def test_a_curve_has_each_step_once_as_it_was_last_trained() -> None:
    def step(n: int, loss: float) -> StepEvent:
        return StepEvent(step=n, loss=loss, smoothed=loss, lr=1)

    events = [step(1, 9), step(2, 8), AttemptEvent(attempt=2, step=1, steps=3), step(2, 7), step(3, 6)]
    assert loss_curve(events) == ([1, 2, 3], [9, 7, 6])


def test_runs_of_a_sweep_belong_together() -> None:
    assert sweep_of("cat-lr-3") == sweep_of("cat-lr-12") == "cat-lr"
    assert sweep_of("anything", ("good", "sweep:ranks")) == "ranks"
    assert sweep_of("123") == "123"
