"""A tiny FLUX, really trained on the loopback Modal: the file works at home, and no secret got out."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from backend.launchers.modal.journal import Stage
from tests.modal.client import Client, complete

HF = "hf_PlantedPlantedPlantedPlanted00"
OTHER = "planted-secret-of-the-project-4711"


def plant(computer: Client) -> list[str]:
    """Secrets in every place where one may be; returns them."""
    computer.environment["HF_TOKEN"] = HF
    (computer.config.parent / ".env").write_text(f"PLANTED={OTHER}\n", encoding="utf-8")
    config = yaml.safe_load(computer.config.read_text(encoding="utf-8"))
    config["meta"] = {"note": "${PLANTED}"}
    config["config"]["process"][0]["save"]["push_to_hub"] = False
    computer.config.write_text(yaml.safe_dump(config), encoding="utf-8")
    return [HF, OTHER, computer.cloud.token_secret]


def found_in(folder: Path, secrets: list[str]) -> list[str]:
    """Files below the folder that hold one of the secrets."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            data = path.read_bytes()
            found += [str(path) for secret in secrets if secret.encode() in data]
    return found


def test_trained_left_alone_brought_home_and_nothing_got_out(
    computer: Client, tmp_path: Path, tiny_flux: Path
) -> None:
    secrets = plant(computer)
    run = computer.launch("train.steps=8", "train.disable_sampling=false", "sample.sample_every=4")
    computer.wait(lambda: computer.journal(run).stage is Stage.SPAWNED, 90, "spawned")
    computer.switch_off()

    status = computer.wait_for_end(run, 240)
    assert (status["status"], status["step"]) == ("finished", 8), computer.report()
    assert complete(8, computer.events(run))
    result = computer.run("pull", "last", "--dest", str(tmp_path / "there"))
    assert result.returncode == 0, result.stderr

    lora = next((tmp_path / "there").rglob("fox.safetensors"))
    from diffusers import FluxPipeline, FluxTransformer2DModel

    state, *_ = FluxPipeline.lora_state_dict(str(lora), return_lora_metadata=True)
    assert state
    transformer = FluxTransformer2DModel.from_pretrained(tiny_flux / "transformer")
    FluxPipeline.load_lora_into_transformer(state, None, transformer)
    assert transformer.peft_config

    assert not found_in(computer.home, secrets)
    assert not found_in(tmp_path / "there", secrets)
    volume = computer.cloud.volume("flux-lora-models")
    for name in volume.files():
        data = volume.read(name)
        assert not [secret for secret in secrets if secret.encode() in data], name
    assert not [
        secret
        for app in computer.cloud.apps()
        for secret in secrets
        if secret in computer.cloud.text(app.app_id)
    ]
    for rpc in computer.cloud.rpcs():
        if rpc.name != "SecretGetOrCreate":
            assert not [secret for secret in secrets if secret in str(rpc.request)], rpc.name
    sent = [rpc for rpc in computer.cloud.rpcs("SecretGetOrCreate") if OTHER in str(rpc.request)]
    assert sent  # it did travel, the one way that it may
