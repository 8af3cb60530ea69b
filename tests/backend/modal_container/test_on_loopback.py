"""Containers of the loopback Modal: the real SDK, entrypoint and commits, the real trainer, the tiny FLUX."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from backend.launchers.modal import wire
from tests.backend.modal_container.tiny_run import STEPS, lay_out
from tests.loopback.cloud import LoopbackCloud
from tests.loopback.fixtures import modal_cloud  # noqa: F401

ROOT = Path(__file__).parents[3]

LAUNCH = """
import json, sys
import modal
from backend.launchers.modal.container import worker

source, options = sys.argv[1], json.loads(sys.argv[2])
volume = modal.Volume.from_name("flux-lora-models", create_if_missing=True, version=2)
with volume.batch_upload(force=True) as batch:
    batch.put_directory(source, "/")
app = modal.App("lora-r1", tags={"lora-run": "r1"}, include_source=False)
image = (
    modal.Image.debian_slim(python_version="3.12")
    .env({"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"})
    .add_local_python_source("config", "backend")
)
shared = {
    "image": image,
    "volumes": {"/mnt/lora": volume},
    "timeout": 600,
    "single_use_containers": True,
    "max_containers": 1,
}
function = app.function(
    **shared, retries=modal.Retries(max_retries=3, initial_delay=0.0, backoff_coefficient=1.0)
)(worker.train)
sampler = app.function(**shared)(worker.sample) if options.get("sampler") else None
with app.run(detach=True):
    call = function.spawn({
        "folder": "fox",
        "run_id": "r1",
        "volume_id": volume.object_id,
        "base_volume_id": None,
        "sample_function_id": sampler.object_id if sampler else None,
    })
    print(json.dumps([app.app_id, call.object_id]), flush=True)
"""

RESULT = """
import json, sys
import modal

try:
    outcome = {"value": modal.FunctionCall.from_id(sys.argv[1]).get(timeout=240)}
except BaseException as error:
    outcome = {"error": type(error).__name__, "text": str(error)}
print(json.dumps(outcome))
"""


class Modal:
    """What the tests do with the cloud."""

    def __init__(self, cloud: LoopbackCloud) -> None:
        self.cloud = cloud

    def python(self, code: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env=self.cloud.environ(PYTHONPATH=str(ROOT)),
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, f"{done.stderr}\n{self.cloud.failures}"
        return done.stdout

    def launch(self, source: Path, **options: Any) -> tuple[str, str]:
        app_id, call_id = json.loads(self.python(LAUNCH, str(source), json.dumps(options)))
        return str(app_id), str(call_id)

    def result(self, call_id: str) -> dict[str, Any]:
        value = json.loads(self.python(RESULT, call_id))
        assert isinstance(value, dict)
        return value

    def wait_for_step(self, step: int) -> None:
        self.cloud.wait(
            lambda: bool(self.cloud.apps()) and f'"type":"step","step":{step},' in self.cloud.text(),
            120,
            f"step {step}",
        )

    def read(self, path: str) -> bytes:
        return bytes(self.cloud.volume("flux-lora-models").read(path))

    def json(self, path: str) -> Any:
        return json.loads(self.read(path))

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.read("fox/events.jsonl").splitlines() if line]


@pytest.fixture
def modal(modal_cloud: LoopbackCloud) -> Modal:  # noqa: F811
    return Modal(modal_cloud)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> bytes:
    """The final LoRA of a run that nobody disturbs, trained on this machine."""
    root = tmp_path_factory.mktemp("undisturbed")
    folder = lay_out(root, tiny_model)
    environment = os.environ | {
        "FLUXLORA_VOLUME": str(root),
        "FLUXLORA_HOME": str(root / ".fluxlora"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "backend.trainer", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "checkpoints/fox.safetensors").read_bytes()


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def assert_same_weights(one: bytes, other: bytes) -> None:
    left, right = load(one), load(other)
    assert left.keys() == right.keys()
    assert not [name for name in left if not torch.equal(left[name], right[name])]


def assert_printed_and_kept_agree(modal: Modal, boots: int) -> None:
    """Every event on the volume was printed, no number twice; the log's lines agree by container."""
    parsed = [wire.parse(line) for line in modal.cloud.text().split("\n")]
    printed = [json.loads(line.json)["seq"] for line in parsed if isinstance(line, wire.EventLine)]
    assert len(printed) == len(set(printed))
    kept = [event["seq"] for event in modal.events()]
    assert len(kept) == len(set(kept))
    assert set(kept) <= set(printed)
    offsets = [boot["log_offset"] for boot in modal.json("fox/state/boots.json")["boots"]]
    assert len(offsets) == boots
    log = modal.read("fox/log.txt")
    for boot, (start, end) in enumerate(zip(offsets, [*offsets[1:], len(log)], strict=True), start=1):
        lines = [line for line in parsed if isinstance(line, wire.LogLine) and line.boot == boot]
        assert [line.number for line in lines] == list(range(1, len(lines) + 1))
        here = log[start:end].decode().split("\n")[:-1]
        assert here == [line.text for line in lines][: len(here)]


def test_a_preempted_run_ends_with_the_bits_of_one_never_disturbed(
    modal: Modal, tmp_path: Path, tiny_model: Path, undisturbed: bytes
) -> None:
    lay_out(tmp_path, tiny_model)
    _, call = modal.launch(tmp_path)
    victim = random.randint(2, STEPS - 5)
    modal.wait_for_step(victim)
    modal.cloud.preempt()
    outcome = modal.result(call)
    assert outcome["value"]["status"] == "finished", outcome
    assert outcome["value"]["boot"] == 2
    assert_same_weights(modal.read("fox/checkpoints/fox.safetensors"), undisturbed)
    assert_printed_and_kept_agree(modal, 2)
    attempts = [event["step"] for event in modal.events() if event["type"] == "attempt"]
    assert attempts[0] == 0
    assert attempts[1] >= victim, "what was trained before the preemption is not trained again"
    boots = modal.json("fox/state/boots.json")["boots"]
    assert [boot["end"] for boot in boots] == ["preempted", "finished"]
    assert [boot["task"] for boot in boots] == [task.task_id for task in modal.cloud.tasks()]
    status = modal.json("fox/status.json")
    assert (status["ok"], status["status"], status["step"], status["boot"]) == (True, "finished", STEPS, 2)


def test_samples_are_drawn_in_a_container_of_their_own(
    modal: Modal, tmp_path: Path, tiny_model: Path
) -> None:
    lay_out(
        tmp_path,
        tiny_model,
        train={"steps": 8, "disable_sampling": False, "skip_first_sample": True},
        sample={
            "prompts": ["[trigger] in blue"],
            "sample_every": 4,
            "sample_steps": 2,
            "width": 64,
            "height": 64,
            "where": "async",
        },
    )
    _, call = modal.launch(tmp_path, sampler=True)
    value = modal.result(call)["value"]
    assert value["status"] == "finished"
    assert value["samplers"]
    for sampler in value["samplers"]:
        assert modal.result(sampler)["value"]["ok"]
    drawn = [json.loads(line) for line in modal.read("fox/state/sampler.jsonl").splitlines()]
    pictures = [event for event in drawn if event["type"] == "sample"]
    assert {event["step"] for event in pictures} == {4, 8}
    listed = {entry["path"]: entry for entry in modal.json("fox/samples.manifest.json")["files"]}
    for picture in pictures:
        assert listed[picture["path"]]["bytes"] == len(modal.read(f"fox/{picture['path']}"))
    parsed = [wire.parse(line) for line in modal.cloud.text().split("\n")]
    printed = [json.loads(p.json) for p in parsed if isinstance(p, wire.EventLine) and p.sampler]
    assert printed == drawn
