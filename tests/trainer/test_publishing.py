"""Uploading: a local server stands in for the Hub, the client is the real one."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from backend.runs.folder import RunFolder
from backend.trainer.publishing import publish
from backend.trainer.report import Reporter
from config.schema import RunConfig

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub's interface as an upload needs."""

    files: dict[str, bytes]
    created: list[dict[str, Any]]
    tokens: set[str]
    allowed = True

    def do_GET(self) -> None:
        self.tokens.add(self.headers.get("Authorization", ""))
        self.send(200, {"name": "me", "type": "user", "auth": {}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.tokens.add(self.headers.get("Authorization", ""))
        path = self.path.partition("?")[0]
        if not self.allowed:
            self.send(403, {"error": "You don't have the rights to create a model"})
        elif path == "/api/validate-yaml":
            front = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            self.send(200, {"errors": [] if "license" in front else [{"message": "no"}], "warnings": []})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            self.created.append(asked)
            owner = asked.get("organization") or "me"
            self.send(
                200, {"url": f"http://{self.headers['Host']}/{owner}/{asked['name']}", "name": asked["name"]}
            )
        elif "/preupload/" in path:
            wanted = json.loads(body)["files"]
            self.send(
                200,
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in wanted
                    ]
                },
            )
        elif "/commit/" in path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            url = f"http://{self.headers['Host']}/me/x/commit/{COMMIT}"
            self.send(200, {"commitOid": COMMIT, "commitUrl": url})
        else:
            self.send(404, {})

    def send(self, code: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.files, Hub.created, Hub.tokens, Hub.allowed = {}, [], set(), True
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_" + "t" * 34)
    yield Hub
    server.shutdown()
    server.server_close()


class Finished:
    """A finished run's folder and config."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.folder.create()
        self.final = self.folder.checkpoints / "my fox.safetensors"
        self.final.write_bytes(b"weights")
        (self.folder.checkpoints / "my fox_000000100.safetensors").write_bytes(b"old")
        (self.folder.checkpoints / "my fox_as_lora.safetensors").write_bytes(b"plain")
        for time, step, index in ((1, 0, 0), (2, 200, 0), (3, 200, 1), (4, 200, 1)):
            Image.new("RGB", (8, 8), (time * 9, 0, 0)).save(
                self.folder.samples / f"{time}__{step:09d}_{index}.jpg"
            )
        self.out = io.StringIO()

    def publish(self, base: str = "black-forest-labs/FLUX.1-dev", **save: Any) -> bool:
        config = RunConfig.model_validate(
            {
                "name": "my fox",
                "process": {
                    "trigger_word": "zork",
                    "datasets": [{"folder_path": "/home/me/private", "resolution": [512, 768]}],
                    "model": {"name_or_path": base},
                    "train": {"steps": 200},
                    "sample": {"prompts": ["[trigger] in the snow", "a: dog | cat --w 64"]},
                    "save": {"push_to_hub": True, **save},
                },
            }
        )
        return publish(self.folder, config, self.final, Reporter(None, self.out))


@pytest.fixture
def run(tmp_path: Path) -> Finished:
    return Finished(tmp_path / "run")


def test_everything_useful_is_uploaded_once(hub: type[Hub], run: Finished) -> None:
    assert run.publish(hf_private=True)
    assert hub.files.keys() == {
        "README.md",
        "my fox.safetensors",
        "my fox_as_lora.safetensors",
        "images/2__000000200_0.jpg",
        "images/4__000000200_1.jpg",
    }
    assert hub.files["my fox.safetensors"] == b"weights"
    (created,) = hub.created
    assert (created["name"], created.get("private")) == ("my-fox", True) or created.get(
        "visibility"
    ) == "private"
    assert hub.tokens == {"Bearer hf_" + "t" * 34}
    hub.files.clear()
    assert not run.publish()  # a second time there is nothing new
    assert not hub.files
    run.final.write_bytes(b"more training")
    assert run.publish()
    assert hub.files["my fox.safetensors"] == b"more training"


def test_the_card_tells_the_hub_and_people(hub: type[Hub], run: Finished) -> None:
    assert run.publish(hf_repo_id="me/foxes")
    assert hub.created[0]["name"] == "foxes"
    card = hub.files["README.md"].decode()
    _, matter, text = card.split("---\n", 2)
    front = yaml.safe_load(matter)
    assert front["base_model"] == "black-forest-labs/FLUX.1-dev"
    assert front["license"] == "other"
    assert front["instance_prompt"] == "zork"
    assert front["widget"] == [
        {"text": "zork in the snow", "output": {"url": "images/2__000000200_0.jpg"}},
        {"text": "a: dog | cat", "output": {"url": "images/4__000000200_1.jpg"}},
    ]
    assert "load_lora_weights('me/foxes', weight_name='my fox_as_lora.safetensors')" in text
    assert "| Steps | 200 |" in text
    assert "`zork`" in text
    assert "| Resolution | 512, 768 |" in text
    compile(text.split("```python\n")[1].split("```")[0], "snippet", "exec")
    assert "/home/me" not in card


def test_a_run_that_ended_early_says_so(hub: type[Hub], run: Finished) -> None:
    save_file({"a": torch.zeros(1)}, run.final, {"ss_steps": "150"})
    (run.folder.checkpoints / "my fox_as_lora.safetensors").unlink()
    assert run.publish()
    card = hub.files["README.md"].decode()
    assert "| Steps | 150 |" in card
    assert "weight_name='my fox.safetensors'" in card


def test_schnell_is_free_and_paths_stay_private(hub: type[Hub], run: Finished, tmp_path: Path) -> None:
    assert run.publish(base=str(tmp_path / "FLUX.1-schnell"))
    card = hub.files["README.md"].decode()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "apache-2.0"
    assert "base_model" not in front
    assert str(tmp_path) not in card


def test_without_a_token_nobody_is_asked(
    hub: type[Hub], run: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert not run.publish()
    assert "HF_TOKEN" in run.out.getvalue()
    assert not hub.tokens


def test_a_refusal_is_a_warning_and_can_be_tried_again(hub: type[Hub], run: Finished) -> None:
    hub.allowed = False
    assert not run.publish()
    assert "WARNING the LoRA is not uploaded" in run.out.getvalue()
    assert "hf_ttt" not in run.out.getvalue()
    hub.allowed = True
    assert run.publish()


def test_without_a_network(run: Finished, hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert not run.publish(hf_repo_id="me/foxes")
    assert "resume the run to try again" in run.out.getvalue()


def test_nothing_happens_unasked(hub: type[Hub], run: Finished) -> None:
    assert not run.publish(push_to_hub=False)
    assert not hub.tokens
    assert not run.out.getvalue()
