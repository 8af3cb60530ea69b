from __future__ import annotations

from pathlib import Path

import pytest

from config.diagnose import diagnose, span_of
from config.editing import apply, offset_of
from config.presets import preset_text
from config.quickfix import fix_all, fixes_for

TEXT = preset_text("character")
FILE = Path("c.yaml")


def problem_of(text: str, key: str, code: str):  # type: ignore[no-untyped-def]
    return next(p for p in diagnose(FILE, text, files=False, env={}) if p.key == key and p.code == code)


@pytest.mark.parametrize(
    ("old", "new", "key", "code", "title", "after"),
    [
        ("lr: 1e-4", "learning_rate: 1e-4", "train.learning_rate", "misspelt", "Rename to lr", "lr: 1e-4"),
        (
            "optimizer: adamw",
            "optimizer: adamq",
            "train.optimizer",
            "choice",
            "Change to adam",
            "optimizer: adam",
        ),
        ("batch_size: 1", "batch_size: 0", "train.batch_size", "bound", "Change to 1", "batch_size: 1"),
        (
            "batch_size: 1",
            "batch_size: 2\n        batch_size: 1",
            "batch_size",
            "duplicate",
            "Remove the earlier batch_size",
            "batch_size: 1",
        ),
        (
            "lr: 1e-4",
            "lr: 1e-4\n        nonsense_key: 3",
            "train.nonsense_key",
            "unread",
            "Remove nonsense_key",
            "lr: 1e-4",
        ),
        (
            "folder_path: ./",
            "path: ./",
            "datasets.0.path",
            "misspelt",
            "Rename to folder_path",
            "folder_path: ./",
        ),
    ],
)
def test_a_fix_restores_the_config(old: str, new: str, key: str, code: str, title: str, after: str) -> None:
    text = TEXT.replace(old, new, 1)
    fix = fixes_for(text, problem_of(text, key, code))[0]
    assert fix.title == title
    assert apply(text, fix.edits) == TEXT.replace(old, after, 1)


def test_a_misplaced_key_is_moved() -> None:
    text = TEXT.replace("linear_alpha: 16", "linear_alpha: 16\n        steps: 3", 1).replace(
        "        steps: 2000\n", ""
    )
    fix = fixes_for(text, problem_of(text, "network.steps", "misplaced"))[0]
    assert fix.title == "Move to train.steps"
    done = apply(text, fix.edits)
    assert [p.key for p in diagnose(FILE, done, files=False, env={})] == [
        "save.save_every",
        "sample.sample_every",
    ]
    assert "steps: 3" in done[done.index("train:") :]


def test_missing_sections_are_added() -> None:
    text = TEXT[: TEXT.index("      model:")] + TEXT[TEXT.index("      sample:") :]
    fix = fixes_for(text, problem_of(text, "model", "missing"))[0]
    assert fix.title == "Add model"
    assert not any(p.severity == "error" for p in diagnose(FILE, apply(text, fix.edits), files=False, env={}))


def test_a_process_that_is_no_list_becomes_one() -> None:
    text = TEXT.replace("    - type: sd_trainer", "      type: sd_trainer", 1)
    fix = fixes_for(text, problem_of(text, "config.process", "needs_list"))[0]
    assert not any(p.severity == "error" for p in diagnose(FILE, apply(text, fix.edits), files=False, env={}))


def test_a_tab_becomes_spaces() -> None:
    text = TEXT.replace("        lr: 1e-4", "\tlr: 1e-4", 1)
    (problem,) = diagnose(FILE, text, files=False, env={})
    assert problem.code == "tab"
    (fix,) = fixes_for(text, problem)
    assert apply(text, fix.edits) == TEXT


def test_everything_is_fixed_at_once() -> None:
    text = TEXT.replace("lr: 1e-4", "learning_rate: 1e-4").replace("optimizer: adamw", "optimizer: adamq")
    text = text.replace("batch_size: 1", "batch_size: 0")
    done = fix_all(text, diagnose(FILE, text, files=False, env={}))
    assert diagnose(FILE, done.text, files=False, env={}) == []
    assert apply(text, done.edits) == done.text


def test_what_is_underlined_is_the_key_or_the_value() -> None:
    text = "\ufeff" + TEXT.replace("lr: 1e-4", "learning_rate: 1e-4").replace(
        "optimizer: adamw", "optimizer: adamq"
    )

    def underlined(key: str, code: str) -> str:
        span = span_of(text, problem_of(text, key, code))
        assert span is not None
        return text[offset_of(text, *span[:2]) : offset_of(text, *span[2:])]

    assert underlined("train.learning_rate", "misspelt") == "learning_rate"
    assert underlined("train.optimizer", "choice") == "adamq"
    broken = "a: [1,\nb: 2\n"
    (problem,) = diagnose(FILE, broken, files=False, env={})
    assert span_of(broken, problem) is not None
