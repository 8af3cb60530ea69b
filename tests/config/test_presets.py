from __future__ import annotations

from pathlib import Path

import pytest

from config.load import check_config
from config.presets import preset_names, preset_summary, preset_text

from .importing import pictures

PRESETS = preset_names()


def test_there_are_the_promised_presets() -> None:
    assert PRESETS == [
        "best-quality",
        "character",
        "fast-draft",
        "krea",
        "low-memory-24gb",
        "object",
        "schnell",
        "style",
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_lacks_nothing_but_the_pictures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{name}.yaml"
    file.write_text(preset_text(name), encoding="utf-8")
    _, problems = check_config(file)
    assert [(p.severity, p.key) for p in problems] == [("error", "datasets.0.folder_path")]
    pictures(tmp_path / "pictures", 40)
    loaded, problems = check_config(file)
    assert problems == []
    assert loaded is not None


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_is_for(name: str) -> None:
    summary = preset_summary(name)
    assert 20 <= len(summary) <= 90
    assert summary.endswith(".")
    assert preset_text(name).count("#") >= 8


def test_the_schnell_and_24_gb_presets_have_what_they_cannot_do_without(tmp_path: Path) -> None:
    assert "assistant_lora_path: ostris/FLUX.1-schnell-training-adapter" in preset_text("schnell")
    low = preset_text("low-memory-24gb")
    assert "quantize: true" in low
    assert "gradient_checkpointing: true" in low


def test_an_unknown_preset_and_the_demos_template_are_none() -> None:
    for name in ("nope", "demo", "../presets/style"):
        with pytest.raises(KeyError):
            preset_text(name)
