"""A base model from the Hub is downloaded once, in the cloud, by a container without a GPU."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.hub.server import LoopbackHub, Model
from tests.modal.client import Client

REPO = "black-forest-labs/FLUX.1-dev"


@pytest.fixture
def hub(tiny_flux: Path) -> Iterator[LoopbackHub]:
    """A Hub with the tiny FLUX under the name of the real one."""
    with LoopbackHub() as server:
        server.models[REPO] = Model(
            files={
                path.relative_to(tiny_flux).as_posix(): path.read_bytes()
                for path in tiny_flux.rglob("*")
                if path.is_file()
            }
        )
        yield server


def from_the_hub(computer: Client, hub: LoopbackHub) -> None:
    environment = computer.cloud.knobs.environment
    environment |= {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1,localhost", "HF_HUB_DISABLE_XET": "1"}
    computer.environment.pop("HF_HUB_OFFLINE", None)
    config = yaml.safe_load(computer.config.read_text(encoding="utf-8"))
    config["config"]["process"][0]["model"] = {"name_or_path": REPO, "is_flux": True}
    computer.config.write_text(yaml.safe_dump(config), encoding="utf-8")


def gpus(computer: Client) -> list[str]:
    """What every container had, in order."""
    return [task.gpu for task in computer.cloud.tasks()]


def test_downloaded_once_without_a_gpu(pretend: Callable[..., Client], hub: LoopbackHub) -> None:
    computer = pretend(pause=0.0)
    from_the_hub(computer, hub)
    run = computer.launch("train.steps=3")
    assert computer.wait_for_end(run, 120)["status"] == "finished", computer.report()
    assert "downloading base model" in computer.said(run)
    assert gpus(computer) == ["", "H100"]
    weights = "transformer/diffusion_pytorch_model.safetensors"
    assert len([ask for ask in hub.asked if ask.method == "GET" and ask.path.endswith(weights)]) >= 1
    files = [str(name) for name in computer.cloud.volume("flux-base-model").files()]
    assert any("complete-black-forest-labs--FLUX.1-dev" in name for name in files), files

    second = computer.launch("train.steps=3")
    assert computer.wait_for_end(second, 120)["status"] == "finished", computer.report()
    assert "downloading base model" not in computer.said(second)
    assert gpus(computer) == ["", "H100", "H100"]
    listed = computer.run("modal", "models")
    assert REPO in listed.stdout, listed.stderr


def test_the_tutorials_own_volume_is_used_as_it_is(
    pretend: Callable[..., Client], hub: LoopbackHub, tiny_flux: Path
) -> None:
    computer = pretend(pause=0.0)
    from_the_hub(computer, hub)
    for command in (
        ["create", "flux-base-model"],
        *(["put", "flux-base-model", str(path), f"/{path.name}"] for path in sorted(tiny_flux.iterdir())),
    ):
        subprocess.run(
            [computer.command()[0], "-m", "modal", "volume", *command],
            env=computer.environment,
            check=True,
            capture_output=True,
            timeout=60,
        )
    run = computer.launch("train.steps=3")
    assert computer.wait_for_end(run, 120)["status"] == "finished", computer.report()
    assert gpus(computer) == ["H100"]
    plan = json.loads(computer.cloud.volume("flux-lora-models").read("fox/state/launch.json"))
    assert plan["model_folder"] == "."
    assert not hub.asked


def test_a_gated_model_is_said_before_a_gpu_is_paid_for(
    pretend: Callable[..., Client], hub: LoopbackHub
) -> None:
    computer = pretend()
    from_the_hub(computer, hub)
    hub.models[REPO].gated = True
    run = computer.launch()
    status = computer.wait_for_end(run, 120)
    assert status["status"] == "failed"
    assert "gated" in computer.said(run), computer.report()
    assert gpus(computer) == [""]
