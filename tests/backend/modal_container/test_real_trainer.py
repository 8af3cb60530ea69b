"""The worker's functions with the real trainer and the tiny FLUX, without Modal: a folder is the volume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.launchers.modal import wire
from tests.backend.modal_container.tiny_run import lay_out

CALL = """
import json, sys
sys.modules["modal"] = None  # as where it is not installed
from backend.launchers.modal.container import worker
print(json.dumps(getattr(worker, sys.argv[1])(json.loads(sys.argv[2]))), file=sys.stderr)
"""


def call(root: Path, function: str, ref: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Call a function of the worker in a process; returns its result and what was printed."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, function, json.dumps(ref)],
        capture_output=True,
        text=True,
        env=os.environ | {"LORA_ROOT": str(root), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.strip().splitlines()[-1]), done.stdout.splitlines()


@pytest.mark.thorough
def test_training_then_sampling(tmp_path: Path, tiny_model: Path) -> None:
    folder = lay_out(
        tmp_path,
        tiny_model,
        train={"steps": 6, "disable_sampling": False},
        sample={
            "prompts": ["[trigger] in blue"],
            "sample_every": 3,
            "sample_steps": 2,
            "width": 64,
            "height": 64,
            "where": "async",
        },
    )
    ref = {"folder": "fox", "run_id": "r1"}
    result, printed = call(tmp_path, "train", ref)
    assert (result["ok"], result["status"], result["step"], result["boot"]) == (True, "finished", 6, 1)
    parsed = [wire.parse(line) for line in printed]
    events = [line.json for line in parsed if isinstance(line, wire.EventLine)]
    assert events == (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(events[0])["seq"] == wire.SEQ_STRIDE + 1
    lines = [line.text for line in parsed if isinstance(line, wire.LogLine)]
    assert lines == (folder / "log.txt").read_text(encoding="utf-8").splitlines()
    manifest = json.loads((folder / "manifest.json").read_text())
    paths = {entry["path"] for entry in manifest["files"]}
    assert {"checkpoints/fox.safetensors", "checkpoints/fox_000000005.safetensors"} <= paths
    assert {"state/resume.safetensors", "events.jsonl", "log.txt", "config.yaml"} <= paths
    assert (tmp_path / ".fluxlora/cache").is_dir()  # the cache is on the volume

    drawn, printed = call(tmp_path, "sample", ref | {"step": 0})
    assert drawn == {
        "ok": False,
        "status": "failed",
        "reason": drawn["reason"],
        "step": 0,
        "boot": 0,
        "error": "sampling_failed",
    }
    drawn, printed = call(tmp_path, "sample", ref | {"step": 6, "checkpoint": "checkpoints/fox.safetensors"})
    assert drawn["ok"], drawn
    events = [
        line.json for line in map(wire.parse, printed) if isinstance(line, wire.EventLine) and line.sampler
    ]
    kinds = [json.loads(event)["type"] for event in events]
    assert "sample" in kinds
    assert not [line for line in printed if line.startswith("@@{")]
    sample = json.loads(events[kinds.index("sample")])
    listed = json.loads((folder / "samples.manifest.json").read_text())["files"]
    assert sample["path"] in [entry["path"] for entry in listed]


def test_a_download_that_cannot_work_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnt/base").mkdir(parents=True)
    monkeypatch.setenv("MODAL_EMU_ROOT", str(tmp_path))
    answer, _ = call(tmp_path, "prefetch", {"run_id": "r1", "models": ["some/model"]})
    assert (answer["ok"], answer["status"], answer["error"]) == (False, "failed", "download_failed")
    assert answer["reason"].startswith("the base model could not be downloaded: ")
    answer, _ = call(tmp_path, "prefetch", {"run_id": "r1", "models": []})
    assert answer["error"] == "bad_launch"
