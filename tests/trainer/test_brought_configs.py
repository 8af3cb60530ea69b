"""Configs that people bring train here with only the model and the folder changed (and made short)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from backend.events import CheckpointEvent, SampleEvent, Status, StatusEvent, StepEvent, WarningEvent
from backend.runs.folder import RunFolder
from backend.runs.stream import EventTail
from backend.trainer.attempt import run_attempt
from config.load import load_config

FIXTURES = Path(__file__).parents[1] / "config" / "fixtures"
# Only what a CPU could not finish within a test: length and sizes.
SHORT = (
    "train.steps=4",
    "save.save_every=2",
    "sample.sample_every=4",
    "sample.width=64",
    "sample.height=64",
    "sample.sample_steps=2",
    "datasets.0.resolution=[64, 96]",
)


@pytest.fixture
def assistant(tmp_path: Path) -> Path:
    """An assistant adapter as that for schnell is: a plain LoRA on some layers."""
    generator = torch.Generator().manual_seed(1)
    name = "transformer.transformer_blocks.0.attn.to_q"
    path = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(
        {
            f"{name}.lora_A.weight": torch.randn(4, 128, generator=generator) * 0.05,
            f"{name}.lora_B.weight": torch.randn(128, 4, generator=generator) * 0.05,
        },
        path,
    )
    return path


@pytest.mark.parametrize("name", ["tutorial.yaml", "dev_24gb.yaml", "schnell_24gb.yaml", "web_ui.json"])
def test_it_trains_and_its_files_are_ai_toolkits(
    name: str, tiny_flux: Path, pictures: Path, assistant: Path, tmp_path: Path
) -> None:
    overrides = [f"model.name_or_path={tiny_flux}", f"datasets.0.folder_path={pictures}", *SHORT]
    if "schnell" in name:
        overrides.append(f"model.assistant_lora_path={assistant}")
    loaded = load_config(FIXTURES / name, overrides)
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.config.write_text(loaded.dump(), encoding="utf-8")

    assert run_attempt(folder.path) == 0

    events = EventTail(folder.events).read()
    assert [e.status for e in events if isinstance(e, StatusEvent)][-1] is Status.FINISHED
    assert [e.step for e in events if isinstance(e, StepEvent)] == [1, 2, 3, 4]
    run = loaded.config.name
    assert [e.path for e in events if isinstance(e, CheckpointEvent)] == [
        f"checkpoints/{run}_000000002.safetensors",
        f"checkpoints/{run}.safetensors",
    ]
    samples = [Path(e.path).name for e in events if isinstance(e, SampleEvent)]
    assert len(samples) == 4  # two prompts, before the first and after the last step
    assert all(f"__{step:09d}_" in samples[i] for i, step in ((0, 0), (1, 0), (2, 4), (3, 4)))
    # On a machine without CUDA two things cannot be had, and are said once; nothing else is off.
    codes = [e.code for e in events if isinstance(e, WarningEvent)]
    assert sorted(codes) == ["device_fallback", "optimizer_fallback"], [
        e.message for e in events if isinstance(e, WarningEvent)
    ]

    with safe_open(folder.checkpoints / f"{run}.safetensors", framework="pt") as file:
        keys, metadata = set(file.keys()), file.metadata()
        wanted = {"float16": torch.float16, "bf16": torch.bfloat16}[
            yaml.safe_load(folder.config.read_text(encoding="utf-8"))["config"]["process"][0]["save"]["dtype"]
        ]
        assert {file.get_tensor(key).dtype for key in keys} == {wanted}
    assert len(keys) == 2 * 26
    assert "transformer.transformer_blocks.0.attn.to_q.lora_A.weight" in keys
    assert "transformer.single_transformer_blocks.1.proj_mlp.lora_B.weight" in keys
    assert not [key for key in keys if key.endswith(".alpha")]
    assert json.loads(metadata["training_info"])["step"] == 4
    assert metadata["name"] == run
    assert metadata["version"] == "1.0"
    assert metadata["ss_output_name"] == run
