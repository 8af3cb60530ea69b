from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.presets import preset_text
from tui.cli.main import run


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    path = tmp_path / "fox.yaml"
    path.write_text(preset_text("character"), encoding="utf-8")
    return str(path)


def test_the_estimate_names_every_gpu(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["estimate", config]) == 0
    said = capsys.readouterr().out
    assert "* H100" in said
    assert "T4            needs " in said
    assert "what would change it most" in said
    assert "prices of " in said


def test_json_of_chosen_gpus(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["estimate", config, "--gpu", "L40S,h100", "--set", "train.steps=100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["gpu"] for one in found["gpus"]} == {"L40S", "H100"}
    assert sum(share["steps"] for share in found["samples"]) == pytest.approx(100)
    assert found["changes"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--gpu", "H1000"], "is no GPU of Modal's"), (["--set", "train.steps=0"], "at least 1")],
)
def test_wrong_input_is_said_in_a_sentence(
    config: str, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(["estimate", config, *arguments]) == 2
    assert words in capsys.readouterr().err
