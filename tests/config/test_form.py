from __future__ import annotations

import pytest

from config.editing import INSIDE, EditError
from config.form import Field, add_dataset, edit, filter_fields, groups, parse_value, reset_field, step
from config.presets import preset_text
from config.problems import Problem

TEXT = preset_text("character")


def field(key: str, text: str = TEXT) -> Field:
    return next(f for g in groups(text) for f in g.fields if f.key == key)


def test_groups_hold_every_section_in_order() -> None:
    names = [group.name for group in groups(TEXT)]
    assert names == ["", "network", "datasets.0", "train", "sample", "save", "model", "modal", "logging"]


def test_a_field_says_what_it_is() -> None:
    lr = field("train.lr")
    assert (lr.kind, lr.value, lr.is_set, lr.changed) == ("number", 1e-4, True, True)
    assert lr.help.description == "Learning rate."
    rank = field("network.linear")  # in the file's spelling, with the schema's help
    assert (rank.path, rank.help.key, rank.value) == ((*INSIDE, "network", "linear"), "network.rank", 16)
    budget = field("modal.budget")
    assert (budget.value, budget.is_set, budget.help.unit) == (10.0, False, "dollars")
    assert field("save.dtype").choices == ("float32", "float16", "bfloat16", "float8")
    assert field("datasets.0.folder_path").path_kind == "input"
    assert field("sample.prompts").kind == "texts"
    assert field("train.gradient_checkpointing").choices == ("true", "false", "auto")


def test_changed_means_another_meaning_than_the_default() -> None:
    text = TEXT.replace("caption_ext: txt", "caption_ext: .txt").replace("steps: 2000", "steps: 1000")
    assert not field("datasets.0.caption_ext").changed
    assert not field("train.steps", text).changed
    assert field("train.steps").changed
    assert not field("datasets.0.resolution", TEXT.replace("[512, 768, 1024]", "512")).changed


def test_problems_stand_at_their_fields() -> None:
    found = groups(
        TEXT, problems=[Problem("error", "train.lr", "is bad"), Problem("warning", "network.rank", "hm")]
    )
    said = {f.key: f.problem for g in found for f in g.fields if f.problem}
    assert said == {"train.lr": "is bad", "network.linear": "hm"}


@pytest.mark.parametrize(
    ("key", "given", "up", "down"),
    [
        ("train.lr", "1e-4", 2e-4, 5e-5),
        ("train.lr", "3e-4", 5e-4, 2e-4),
        ("network.linear", "16", 32, 8),
        ("network.linear", "12", 16, 8),
        ("network.linear", "1", 2, 1),
        ("sample.width", "1000", 1024, 960),
        ("train.steps", "900", 950, 850),
        ("train.steps", "1000", 1100, 950),
        ("train.batch_size", "1", 2, 1),
        ("datasets.0.caption_dropout_rate", "0.95", 0.96, 0.94),
        ("datasets.0.caption_dropout_rate", "1.0", 1.0, 0.99),
        ("train.ema_config.ema_decay", "0.99", 0.995, 0.98),
        ("save.dtype", "bf16", "float8", "float16"),
        ("train.gradient_checkpointing", "auto", True, False),
        ("model.quantize", "false", True, True),
    ],
)
def test_steps_go_along_sensible_scales(key: str, given: str, up: object, down: object) -> None:
    from config.editing import set_value
    from config.source import parse_scalar

    found = field(key)
    text = set_value(TEXT, found.path, parse_scalar(given)).text
    found = field(key, text)
    assert step(found, +1) == pytest.approx(up)
    assert step(found, -1) == pytest.approx(down)
    assert type(step(found, +1)) is type(up)


def test_every_field_can_be_stepped_from_its_default() -> None:
    for group in groups(TEXT):
        for found in group.fields:
            for direction in (-1, 1):
                value = step(found, direction)
                if found.kind in ("integer", "number") and value is not None:
                    assert found.minimum is None or value >= found.minimum
                    assert found.maximum is None or value <= found.maximum


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("train.lr", "2e-4", 2e-4),
        ("train.steps", "1,500", 1500),
        ("modal.budget", "", None),
        ("datasets.0.resolution", "512, 768", [512, 768]),
        ("datasets.0.resolution", "512 768", [512, 768]),
        ("modal.gpu", "H100\nL40S", ["H100", "L40S"]),
        ("save.dtype", "BF16", "bf16"),
        ("train.gradient_checkpointing", "false", False),
        ("model.quantize", "yes", True),
        ("config.name", "2024", "2024"),
        ("train.optimizer_params", "{weight_decay: 0.1}", {"weight_decay": 0.1}),
    ],
)
def test_what_is_typed_is_read(key: str, typed: str, value: object) -> None:
    assert parse_value(field(key), typed) == value


@pytest.mark.parametrize(
    ("key", "typed", "words"),
    [
        ("train.steps", "0", "steps must be at least 1"),
        ("train.steps", "1.5", "whole number"),
        ("train.lr", "0", "more than 0, at most 10"),
        ("train.lr", "fast", "must be a number"),
        ("train.optimizer", "adamv", "did you mean adam"),
        ("model.quantize", "perhaps", "true or false"),
        ("train.steps", "", "needs a value"),
        ("datasets.0.resolution", "big", "must be numbers"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(key: str, typed: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_value(field(key), typed)


def test_filter_finds_by_key_alias_letters_and_help() -> None:
    found = groups(TEXT)
    assert filter_fields(found, "lr")[0].key == "train.lr"
    assert filter_fields(found, "rank")[0].key == "network.linear"
    assert filter_fields(found, "smplev")[0].key == "sample.sample_every"
    assert "train.lr" in [f.key for f in filter_fields(found, "learning rate")]
    assert filter_fields(found, "zzzz") == ()
    assert len(filter_fields(found, "")) == sum(len(group.fields) for group in found)


def test_edit_reset_and_another_dataset() -> None:
    done = edit(TEXT, field("modal.budget"), 5.0).text
    assert field("modal.budget", done).value == 5.0
    assert reset_field(done, field("modal.budget", done)).text.rstrip("\n").endswith('version: "1.0"')
    with pytest.raises(EditError, match="no default"):
        reset_field(TEXT, field("datasets.0.folder_path"))
    two = groups(add_dataset(TEXT, "./more").text)
    assert [g.title for g in two if g.name.startswith("datasets")] == ["Dataset 1", "Dataset 2"]
    with pytest.raises(EditError, match="the file is not valid YAML in line"):
        groups("a: 1\nb: [")
