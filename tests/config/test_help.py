from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import compat
from config.help import UnknownKeyError, all_fields, explain
from config.json_schema import file_schema
from config.presets import preset_names, preset_text
from config.reference import PATH, markdown_reference
from config.source import parse
from config.walk import SECTIONS

from . import test_import_kohya

Write = Callable[..., Path]
_NUMERIC = re.compile("whole number|number")
# Any number makes sense here.
_UNBOUNDED = {
    "training_seed",
    "sample.seed",
    "sample.samples[].seed",
    "sample.network_multiplier",
    "sample.samples[].network_multiplier",
    "datasets[].network_weight",
}


def test_every_key_has_a_sentence() -> None:
    for key, field in all_fields().items():
        assert field.description, key
        assert field.description.endswith("."), key
        assert field.description[0].isupper() or field.description.startswith(("diffusers", "cuda")), key
        assert "\n" not in field.description, key


def test_every_number_has_a_range_or_a_unit() -> None:
    for key, field in all_fields().items():
        if _NUMERIC.match(field.type):
            unbounded = field.unit is None and field.range in (None, "any")
            assert unbounded == (key.removeprefix("first_") in _UNBOUNDED), key


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ("train.lr", "train.lr"),
        ("lr", "train.lr"),
        ("linear", "network.rank"),
        ("network.linear_alpha", "network.alpha"),
        ("datasets.resolution", "datasets[].resolution"),
        ("datasets[0].resolution", "datasets[].resolution"),
        ("datasets.0.dataset_path", "datasets[].folder_path"),
        ("config.process[0].train.ema_config.use_ema", "train.ema_config.use_ema"),
        ("TRAIN.LR", "train.lr"),
        ("walk_seed", "sample.walk_seed"),
        ("first_sample.walk_seed", "first_sample.walk_seed"),
        ("config.name", "name"),
        ("meta", "meta"),
        ("train", "train"),
        ("config.process", "process"),
    ],
)
def test_a_key_is_found_however_it_is_asked_for(asked: str, key: str) -> None:
    assert explain(asked).key == key


def test_what_is_said_of_a_key() -> None:
    rank = explain("linear")
    assert (rank.type, rank.range, rank.default, rank.aliases) == (
        "whole number",
        "1 to 18432",
        4,
        ("linear",),
    )
    assert explain("train.lr").range == "more than 0, at most 10"
    assert explain("network.dropout").range == "at least 0, less than 1"
    resolution = explain("datasets.resolution")
    assert (resolution.type, resolution.unit, resolution.default) == (
        "list of whole numbers",
        "pixels",
        [512],
    )
    assert explain("model.qtype").choices == ("float8", "int8", "nf4")
    assert explain("train.gradient_checkpointing").type == "true or false or auto"
    assert explain("model.name_or_path").required
    datasets = explain("datasets")
    assert datasets.type == "list of sections"
    assert "datasets[].folder_path" in datasets.fields
    assert json.loads(json.dumps(datasets.record()))["fields"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("train.learning_rate", r"did you mean train\.lr\?"),
        ("learning_rate", r"did you mean train\.lr\?"),
        ("traim.lr", r"did you mean train\.lr\?"),
        ("sample.steps", r"did you mean sample\.sample_steps\?"),
        ("train.resolution", r"did you mean datasets\[\]\.resolution"),
        ("optimiser", r"did you mean train\.optimizer\?"),
        ("resolution", r"several sections: datasets\[\]\.resolution, train\.validation_config\.resolution"),
        ("train.snr_gamma", "has no effect on FLUX"),
        ("xyzzy", "the sections are network, save"),
        ("", "|a section"),
    ],
)
def test_an_unknown_key_gets_a_hint(asked: str, words: str) -> None:
    if not asked:
        assert explain(asked).key == "process"
        return
    with pytest.raises(UnknownKeyError, match=words):
        explain(asked)


def test_the_committed_reference_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == markdown_reference(), "run python -m config.reference"


def test_the_reference_has_every_key() -> None:
    text = markdown_reference()
    for section, model in SECTIONS.items():
        if not section.startswith("first_sample"):
            for name in model.model_fields:
                assert f"`{name}`" in text


SCHEMA = file_schema()


def errors(schema: Any, value: Any, path: str = "") -> list[str]:
    """Where ``value`` breaks ``schema``; knows what :func:`file_schema` uses."""
    if "$ref" in schema:
        return errors(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], value, path)
    found: list[str] = []
    if "anyOf" in schema:
        tried = [errors(choice, value, path) for choice in schema["anyOf"]]
        found += [] if any(not some for some in tried) else min(tried, key=len)
    for inner in schema.get("allOf", ()):
        found += errors(inner, value, path)
    kinds = schema.get("type", [])
    if kinds and not any(_is(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return [*found, f"{path}: is no {kinds}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: not in the enum")
    if "const" in schema and (value != schema["const"] or type(value) is not type(schema["const"])):
        found.append(f"{path}: is not {schema['const']}")
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{path}: does not match")
    if isinstance(value, int | float) and not isinstance(value, bool):
        found += _bounds(schema, value, path)
    if isinstance(value, list):
        found += [f"{path}: too short"] if len(value) < schema.get("minItems", 0) else []
        for index, item in enumerate(value):
            found += errors(schema.get("items", {}), item, f"{path}.{index}")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{path}.{key}: missing" for key in schema.get("required", ()) if key not in value]
        for key, item in value.items():
            if key in properties:
                found += errors(properties[key], item, f"{path}.{key}")
            elif schema.get("additionalProperties") is False:
                found.append(f"{path}.{key}: unknown")
    return found


def _is(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        return not isinstance(value, bool) and isinstance(value, int if kind == "integer" else int | float)
    types = {"boolean": bool, "string": str, "object": dict, "array": list, "null": type(None)}
    return isinstance(value, types[kind])


def _bounds(schema: Any, value: float, path: str) -> list[str]:
    outside = (
        value < schema.get("minimum", value)
        or value > schema.get("maximum", value)
        or ("exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"])
        or ("exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"])
    )
    return [f"{path}: out of bounds"] if outside else []


@pytest.mark.parametrize("name", preset_names())
def test_the_schema_accepts_the_presets(name: str) -> None:
    assert errors(SCHEMA, parse(preset_text(name)).data) == []


def config(changes: str) -> Any:
    process: dict[str, Any] = {"datasets": [{"folder_path": "x"}], "model": {"name_or_path": "a/b"}}
    return {"config": {"name": "x", "process": [{**process, **yaml.safe_load(changes)}]}}


@pytest.mark.parametrize(
    "changes",
    [
        "train: {dtype: bf16, optimizer: AdamW8bit, lr: 0.0001, gradient_checkpointing: auto}",
        "train: {lr: '${LR}', gradient_accumulation_steps: 2, snr_gamma: 5, noise_scheduler: FlowMatch}",
        "model: {dataset: 1}\nnetwork: {linear: 16, linear_alpha: 16, conv: 8, type: locon}",
        "model: {name_or_path: a/b, qtype: qfloat8, is_flux: true, arch: flux}",
        "save: {save_every: null, dtype: fp16, save_format: diffusers}",
        "save: {save_every: false}",
        "datasets: [{dataset_path: x, resolution: 512, random_triggers: word}]",
        "train:\nsample:",
        "first_sample: {prompts: [a], width: 512}",
    ],
)
def test_the_schema_accepts_what_is_allowed(changes: str) -> None:
    changes = changes.replace("model: {dataset: 1}\n", "")
    assert errors(SCHEMA, config(changes)) == []


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ("train: {learning_rate: 1}", "train.learning_rate: unknown"),
        ("train: {steps: 0}", "train.steps: out of bounds"),
        ("train: {steps: 1.5}", "train.steps"),
        ("train: {optimizer: adamx}", "train.optimizer"),
        ("train: {lr: fast}", "train.lr"),
        ("network: {dropout: 1}", "network.dropout: out of bounds"),
        ("network: {linear: 0}", "network.linear: out of bounds"),
        ("datasets: []", "datasets: too short"),
        ("datasets: [{caption_ext: txt}]", "folder_path: missing"),
        ("model: {is_flux: true}", "name_or_path: missing"),
    ],
)
def test_the_schema_refuses_what_check_refuses(changes: str, where: str) -> None:
    found = errors(SCHEMA, config(changes))
    assert any(where in error for error in found), found


def test_the_schema_accepts_every_spelling_and_every_ignored_key() -> None:
    train = SCHEMA["$defs"]["TrainConfig"]["properties"]
    assert train["gradient_accumulation_steps"]["description"].endswith(
        "Another spelling of gradient_accumulation."
    )
    assert set(compat.SECTIONS["train"]) <= set(train)
    assert set(compat.PROCESS) <= set(SCHEMA["$defs"]["ProcessConfig"]["properties"])


def test_all_references_of_the_schema_exist() -> None:
    text = json.dumps(SCHEMA)
    assert set(re.findall(r'"#/\$defs/(\w+)"', text)) <= set(SCHEMA["$defs"])
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_what_check_accepts_of_the_kohya_fixture_the_schema_accepts(tmp_path: Path) -> None:
    from config.importers import import_text

    text = import_text(test_import_kohya.TOML, "train.toml", tmp_path).text
    assert errors(SCHEMA, parse(text).data) == []
