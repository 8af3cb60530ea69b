from __future__ import annotations

from pathlib import Path

import pytest

from config.load import check_text
from config.presets import preset_text
from config.sweeps import SweepError, collapse, find_sweep

TEXT = preset_text("character")
SWEPT = TEXT.replace("lr: 1e-4", "lr: [1e-4, 2e-4]  # try both").replace("linear: 16 ", "linear: [8, 16] ")


def test_no_list_no_sweep() -> None:
    assert find_sweep(TEXT) is None
    assert find_sweep("a: [") is None
    assert collapse(TEXT) == TEXT


def test_lists_multiply_and_each_run_is_valid() -> None:
    sweep = find_sweep(SWEPT)
    assert sweep is not None
    assert sweep.axes == {"network.linear": (8, 16), "train.lr": (1e-4, 2e-4)}
    assert [run.name for run in sweep.runs] == [
        "my_character-linear8-lr1e-4",
        "my_character-linear8-lr2e-4",
        "my_character-linear16-lr1e-4",
        "my_character-linear16-lr2e-4",
    ]
    for run in sweep.runs:
        loaded, problems = check_text(Path("c.yaml"), SWEPT, run.overrides, files=False, env={})
        assert loaded is not None, problems
        assert loaded.config.name == run.name
        assert loaded.config.process.train.lr == run.values["train.lr"]
        assert loaded.config.process.network.rank == run.values["network.linear"]


def test_keys_that_take_lists_are_swept_by_lists_of_lists() -> None:
    sweep = find_sweep(TEXT.replace("[512, 768, 1024]", "[[512], [512, 1024]]"))
    assert sweep is not None
    assert sweep.axes == {"datasets.0.resolution": ([512], [512, 1024])}
    assert sweep.runs[1].overrides[0] == "datasets.0.resolution=[512, 1024]"


def test_the_first_run_can_be_checked_as_one() -> None:
    assert "lr: 1e-4  # try both" in collapse(SWEPT)
    assert find_sweep(collapse(SWEPT)) is None


def test_names_are_files_names_and_differ() -> None:
    text = TEXT.replace("optimizer: adamw", "optimizer: [adamw, lion]")
    text = text.replace("name: my_character", "name: " + "x" * 78)
    sweep = find_sweep(text)
    assert sweep is not None
    names = [run.name for run in sweep.runs]
    assert len(set(names)) == 2
    assert all(len(name) <= 80 for name in names)
    assert all(f"config.name={run.name}" == run.overrides[-1] for run in sweep.runs)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[]", "empty list"),
        ("[1e-4, 0.0001]", "twice"),
        (str([i / 1000 + 1e-3 for i in range(65)]), "65 runs"),
    ],
)
def test_what_makes_no_sweep_is_refused(value: str, words: str) -> None:
    with pytest.raises(SweepError, match=words):
        find_sweep(TEXT.replace("lr: 1e-4", f"lr: {value}"))
