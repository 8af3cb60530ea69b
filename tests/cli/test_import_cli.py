from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import yaml

from tests.config.importing import pictures
from tui.cli.main import run

COMMAND = "accelerate launch flux_train_network.py --t5xxl x --network_train_unet_only --output_name fox"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    dataset = pictures(tmp_path / "data", 3)
    file = tmp_path / "train.sh"
    options = f"--train_data_dir {dataset} --caption_extension .txt --min_snr_gamma 5 --max_train_steps 300"
    file.write_text(f"{COMMAND} {options}\n", encoding="utf-8")
    return file


def test_import_writes_a_config_that_can_be_trained(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["import", str(script)]) == 0
    out, err = capfd.readouterr()
    target = script.with_suffix(".yaml")
    assert out == f"{target}: imported from kohya sd-scripts; 3 remarks in its comments\n"
    assert err == ""
    assert run(["check", str(target)]) == 0
    assert "min_snr_gamma: 5  has no equal" in target.read_text(encoding="utf-8")
    assert list(script.parent.glob(".*")) == []


def test_import_never_replaces_a_file(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = script.with_suffix(".yaml")
    target.write_text("mine", encoding="utf-8")
    for arguments in (["import", str(script)], ["import", str(script), "--output", str(target)]):
        assert run(arguments) == 2
        _, err = capfd.readouterr()
        assert err.count("\n") == 1
        assert "exists already" in err
        assert "--output" in err
    assert target.read_text(encoding="utf-8") == "mine"
    other = script.with_name("other.yaml")
    assert run(["import", str(script), "--output", str(other)]) == 0
    assert other.is_file()


def test_import_prints_with_a_dash(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["import", str(script), "--output", "-"]) == 0
    assert yaml.safe_load(capfd.readouterr().out)["config"]["name"] == "fox"
    assert not script.with_suffix(".yaml").exists()


def test_a_pasted_command_comes_from_standard_input(
    script: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(COMMAND))
    assert run(["import", "-"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith(str(script.parent / "fox.yaml"))
    assert "names no folder of pictures" in err
    assert "there is no folder" in err


@pytest.mark.parametrize(
    ("text", "words"),
    [("python sdxl_train_network.py --x 1", "SDXL"), ("", "is empty"), ("ls", "no training command")],
)
def test_a_refusal_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    file = tmp_path / "x.sh"
    file.write_text(text, encoding="utf-8")
    assert run(["import", str(file)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"fluxlora-tui: {file} ")
    assert err.count("\n") == 1
    assert words in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.sh"]


def test_import_into_a_folder_that_is_missing(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["import", str(script), "--output", str(script.parent / "no" / "x.yaml")]) == 2
    assert "there is no folder" in capfd.readouterr().err


def test_explain(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "linear"]) == 0
    out = capfd.readouterr().out
    assert out.splitlines()[0] == "network.rank"
    assert "range    1 to 18432" in out
    assert run(["explain", "train"]) == 0
    assert re.search(r"train\.gradient_checkpointing +Recompute activations", capfd.readouterr().out)
    assert run(["explain"]) == 0
    assert "train.ema_config" in capfd.readouterr().out


def test_explain_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "train.lr", "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert (record["key"], record["default"], record["type"]) == ("train.lr", 1e-6, "number")
    assert run(["explain", "--json"]) == 0
    assert {"train", "datasets"} <= {record["key"] for record in json.loads(capfd.readouterr().out)}


def test_explain_an_unknown_key(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "train.learning_rate"]) == 2
    assert (
        capfd.readouterr().err == "fluxlora-tui: train.learning_rate is not a key; did you mean train.lr?\n"
    )


def test_schema(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    schema = json.loads(capfd.readouterr().out)
    assert schema["properties"]["config"]["properties"]["process"]["items"] == {
        "$ref": "#/$defs/ProcessConfig"
    }
