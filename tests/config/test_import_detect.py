from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from config.importers import ImportRefusedError, import_file, import_text
from config.importers.draft import Draft, scalar

from . import test_import_kohya, test_import_onetrainer, test_import_simpletuner


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "{", "line 1: is not valid JSON"),
        ("a.json", '{"a": 1}', "no config that can be imported"),
        ("a.json", "[]", "no config that can be imported"),
        ("a.json", '[{"instance_data_dir": "x"}]', "dataset file of SimpleTuner"),
        ("a.json", '{"LoRA_type": "Flux1"}', "kohya_ss GUI"),
        ("a.json", '{"job": "extension", "config": {"process": []}}', "ai-toolkit's format already"),
        ("a.yaml", "config:\n  process: []", "ai-toolkit's format already"),
        ("a.yaml", "x: 1", "no config that can be imported"),
        ("a.toml", "[a", "not valid TOML"),
        ("a.toml", "[[datasets]]\nresolution = 512", "kohya dataset file only"),
        ("a.toml", "[model]\ntype = 'flux'\n[adapter]\nrank = 4", "diffusion-pipe"),
        ("a.txt", "hello", "no training command"),
        ("a.sh", " \n", "is empty"),
        ("a.sh", "a\x00b", "not a text file"),
    ],
)
def test_refusals_are_one_sentence(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ImportRefusedError, match=words) as refusal:
        import_file(tmp_path / name)
    assert "\n" not in str(refusal.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImportRefusedError, match="no such file"):
        import_file(tmp_path / "gone.toml")
    with pytest.raises(ImportRefusedError, match="is a folder"):
        import_file(tmp_path)
    (tmp_path / "b.sh").write_bytes(b"\xff\xfa\x00")
    with pytest.raises(ImportRefusedError, match="not UTF-8"):
        import_file(tmp_path / "b.sh")


def test_powershell_writes_utf_16(tmp_path: Path) -> None:
    (tmp_path / "run.ps1").write_text(
        "python flux_train_network.py --ae x --network_dim 9", encoding="utf-16"
    )
    assert "linear: 9" in import_file(tmp_path / "run.ps1").text


def test_values_cannot_break_out_of_the_yaml(tmp_path: Path) -> None:
    evil = 'x: [1\n- "y" # \x1b[31m {a}\u2028'
    data = {
        **test_import_simpletuner.CONFIG,
        "--hub_model_id": evil,
        "--unheard_of": evil,
        "--validation_prompt": evil,
    }
    (tmp_path / "config.json").write_text(json.dumps(data), encoding="utf-8")
    text = import_file(tmp_path / "config.json").text
    process = yaml.safe_load(text)["config"]["process"][0]
    assert evil.strip() in process["sample"]["prompts"]
    assert "\x1b" not in text


SOURCES: list[tuple[str, dict[str, Any]]] = [
    ("config.json", test_import_simpletuner.CONFIG),
    ("onetrainer.json", test_import_onetrainer.CONFIG),
]
_VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
    | st.lists(st.integers() | st.text(max_size=4), max_size=3)
    | st.dictionaries(st.text(max_size=4), st.integers(), max_size=2)
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SOURCES), st.data())
def test_mutated_configs_are_imported_or_refused(
    source: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    name, config = source
    keys = data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=4, unique=True))
    changed = {**config, **{key: data.draw(_VALUES) for key in keys}}
    _imports_or_refuses(json.dumps(changed), name)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(test_import_kohya.TOML.splitlines()), _VALUES), min_size=1, max_size=4)
)
def test_mutated_commands_are_imported_or_refused(changes: list[tuple[str, Any]]) -> None:
    options: dict[str, Any] = {"network_module": "networks.lora_flux", "network_train_unet_only": True}
    for line, value in changes:
        key = line.split(" =")[0].strip("[]")
        options[key] = value
    _imports_or_refuses(json.dumps(options), "kohya.json")


def _imports_or_refuses(text: str, name: str) -> None:
    try:
        imported = import_text(text, name, Path("/nowhere"))
    except ImportRefusedError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert yaml.safe_load(imported.text)["config"]["process"][0]["type"] == "sd_trainer"
    assert "\n" not in refusal


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.integers(-(10**9), 10**9)
)
def test_a_scalar_reads_back_as_itself(value: Any) -> None:
    text = scalar(value)
    assert "\n" not in text
    assert yaml.safe_load(f"a: {text}")["a"] == value


def test_a_draft_without_sections_is_yaml() -> None:
    draft = Draft("x")
    draft["train"].note("a remark")
    assert yaml.safe_load(draft.render("heading"))["config"]["name"] == "x"
