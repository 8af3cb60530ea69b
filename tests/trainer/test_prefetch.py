"""Downloading ahead: the real client and program against a small Hub on this machine that cuts and slows."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from backend.events import ErrorEvent, Event, PhaseEvent
from backend.runs.stream import EventTail
from backend.trainer.downloads import LARGE
from backend.trainer.prefetch import Need, needs_of
from config.schema import ModelConfig

SHA = "0123456789abcdef0123456789abcdef01234567"
BIG = os.urandom(1 << 20) * (LARGE // (1 << 20) + 8)  # 40 MiB
PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
MODEL = {
    "model_index.json": b"{}",
    "README.md": b"# words",
    "flux1-dev.safetensors": b"a single-file copy",
    **{f"{part}/config.json": f'{{"part": "{part}"}}'.encode() for part in PARTS},
    "transformer/diffusion_pytorch_model.safetensors": BIG,
    "vae/diffusion_pytorch_model.safetensors": b"vae weights",
}
REPOSITORIES: dict[str, dict[str, bytes]] = {
    "good/flux": MODEL,
    "bare/flux": {
        "config.json": b"{}",
        "diffusion_pytorch_model.safetensors": b"weights",
        "x.safetensors": b"",
    },
    "some/adapter": {"pytorch_lora_weights.safetensors": b"adapter", "other.safetensors": b"x"},
    "closed/flux": {"model_index.json": b"{}", "vae/a.safetensors": b"secret"},
    "no/weights": {"README.md": b"# words"},
}


@dataclass
class Hub:
    """What the server does and has seen."""

    port: int = 0
    cut_after: list[int] = field(default_factory=list)  # bytes of the big file's body, one a request
    pause: float = 0.0  # after each MiB
    spoil: int = 0  # how many of the big file's bodies arrive with a wrong byte
    without_ranges: bool = False
    ranges: list[str | None] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    tokens: list[tuple[str, bool]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        parts = path.strip("/").split("/")
        self.hub.tokens.append((parts[0], "authorization" in {key.lower() for key in self.headers}))
        if "gated" in (parts[0], parts[2]) or parts[0] == "closed":  # of a closed one the list can be read
            self.reply(403, b"{}", body, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Restricted."})
        elif parts[:2] == ["api", "models"] and "/".join(parts[2:4]) in REPOSITORIES:
            repo = "/".join(parts[2:4])
            siblings = [{"rfilename": name, "size": len(data)} for name, data in REPOSITORIES[repo].items()]
            info = {"id": repo, "modelId": repo, "sha": SHA, "siblings": siblings}
            self.reply(200, json.dumps(info).encode(), body)
        elif "/".join(parts[:2]) in REPOSITORIES and parts[2] == "resolve":
            repo, name = "/".join(parts[:2]), "/".join(parts[4:])
            data = REPOSITORIES[repo][name]
            digest = hashlib.sha256(data).hexdigest()
            if data is BIG:
                place = (
                    f"http://localhost:{self.hub.port}/signed/{repo}/{name}"  # another host than 127.0.0.1
                )
                linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
                self.reply(302, b"", body, linked | {"Location": place, "X-Repo-Commit": SHA})
                return
            if body:
                self.hub.asked.append(name)
            self.reply(200, data, body, {"ETag": f'"{digest}"', "X-Repo-Commit": SHA})
        elif parts[0] == "signed" and body:
            self.big()
        else:
            self.reply(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})

    def big(self) -> None:
        asked = self.headers.get("Range")
        self.hub.ranges.append(asked)
        start = (
            int(asked.removeprefix("bytes=").partition("-")[0])
            if asked and not self.hub.without_ranges
            else 0
        )
        data = BIG[start:]
        if self.hub.spoil:
            self.hub.spoil -= 1
            data = bytes([data[0] ^ 1]) + data[1:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BIG) - 1}/{len(BIG)}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        end = self.hub.cut_after.pop(0) if self.hub.cut_after else len(data)
        for begin in range(0, min(end, len(data)), 1 << 20):
            self.wfile.write(data[begin : min(begin + (1 << 20), end)])
            time.sleep(self.hub.pause)
        if end < len(data):
            self.close_connection = True
            self.connection.close()

    def reply(self, code: int, data: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):  # the client has gone, or the body was cut on purpose
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handling", (Handler,), {"hub": state}))
    server.daemon_threads = True
    state.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


@dataclass
class Program:
    """The program, its cache and its events."""

    hub: Hub
    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "base" / "hub"

    @property
    def events_file(self) -> Path:
        return self.root / "out" / "events.jsonl"

    def start(self, *needs: str, **variables: str) -> subprocess.Popen[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= {
            "HF_ENDPOINT": f"http://127.0.0.1:{self.hub.port}",
            "HF_HUB_CACHE": str(self.cache),
            "HF_HOME": str(self.root / "hf-home"),
            "HF_TOKEN": "hf_" + "s" * 34,
            "NO_PROXY": "*",
            **variables,
        }
        return subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "backend.trainer.prefetch",
                *needs,
                "--events",
                str(self.events_file),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *needs: str, **variables: str) -> tuple[int, str]:
        process = self.start(*needs, **variables)
        output, _ = process.communicate(timeout=120)
        assert "Traceback" not in output
        assert "ssssssss" not in output + self.events_file.read_text() if self.events_file.exists() else True
        return process.returncode, output

    def events(self, kind: type[Event] = Event) -> list[Any]:
        return [event for event in EventTail(self.events_file).read() if isinstance(event, kind)]

    def marker(self, name: str) -> Any:
        return json.loads((self.cache / name).read_text())

    def big_file(self) -> Path:
        return (
            self.cache / f"models--good--flux/snapshots/{SHA}/transformer/diffusion_pytorch_model.safetensors"
        )

    def partial(self) -> Path:
        return self.cache / "models--good--flux/blobs" / f"{hashlib.sha256(BIG).hexdigest()}.partial"


@pytest.fixture
def program(hub: Hub, tmp_path: Path) -> Program:
    return Program(hub, tmp_path)


NEEDED = {name: data for name, data in MODEL.items() if "/" in name or name == "model_index.json"}


def test_what_training_needs_is_downloaded_and_marked_as_whole(program: Program) -> None:
    code, output = program.run("good/flux")
    assert code == 0, output
    snapshot = program.cache / f"models--good--flux/snapshots/{SHA}"
    there = {p.relative_to(snapshot).as_posix(): p.read_bytes() for p in snapshot.rglob("*") if p.is_file()}
    assert there == NEEDED
    marker = program.marker("complete-good--flux.json")
    size = sum(len(data) for data in NEEDED.values())
    assert (marker["repo"], marker["sha"], marker["bytes"], marker["role"]) == (
        "good/flux",
        SHA,
        size,
        "model",
    )
    assert {file["path"]: file["bytes"] for file in marker["files"]} == {n: len(d) for n, d in NEEDED.items()}
    assert not list(program.cache.rglob("*.partial*"))
    last = program.events(PhaseEvent)[-1]
    assert (last.phase, last.done, last.total) == ("downloading base model", size, size)
    assert "good/flux is whole" in output
    assert ("signed", True) not in program.hub.tokens  # the token stays with the Hub
    assert ("good", True) in program.hub.tokens

    program.hub.ranges.clear()
    program.hub.asked.clear()
    code, _ = program.run("good/flux")
    assert code == 0
    assert program.hub.ranges == program.hub.asked == []


def test_progress_is_in_bytes_also_within_a_file(program: Program) -> None:
    program.hub.pause = 0.05
    assert program.run("good/flux")[0] == 0
    done = [event.done for event in program.events(PhaseEvent)]
    assert done == sorted(done)
    within = [count for count in done if 1 << 20 < count < len(BIG)]
    assert len(set(within)) >= 3


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM] if os.name != "nt" else [])
def test_a_killed_download_goes_on_where_it_was(program: Program, number: signal.Signals) -> None:
    program.hub.pause = 0.1
    process = program.start("good/flux")
    deadline = time.monotonic() + 60
    while not (program.partial().exists() and program.partial().stat().st_size >= 10 << 20):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 1)
    assert "Traceback" not in output
    assert not (program.cache / "complete-good--flux.json").exists()
    kept = program.partial().stat().st_size
    assert 10 << 20 <= kept < len(BIG)

    program.hub.pause = 0.0
    assert program.run("good/flux")[0] == 0
    assert program.hub.ranges == [None, f"bytes={kept}-"]
    assert program.big_file().read_bytes() == BIG
    assert program.marker("complete-good--flux.json")["sha"] == SHA


def test_a_dropped_connection_goes_on_by_itself(program: Program) -> None:
    program.hub.cut_after = [12 << 20, 3 << 20]
    code, output = program.run("good/flux")
    assert code == 0, output
    assert program.hub.ranges[0] is None
    assert len(program.hub.ranges) == 3
    assert all(asked is not None for asked in program.hub.ranges[1:])
    assert program.big_file().read_bytes() == BIG


def test_a_server_that_knows_no_ranges_starts_over(program: Program) -> None:
    program.partial().parent.mkdir(parents=True)
    program.partial().write_bytes(BIG[: 5 << 20])
    program.hub.without_ranges = True
    assert program.run("good/flux")[0] == 0
    assert program.big_file().read_bytes() == BIG
    size = sum(len(data) for data in NEEDED.values())
    assert program.events(PhaseEvent)[-1].done == size


def test_a_partial_file_that_is_not_the_beginning_is_found_out(program: Program) -> None:
    program.partial().parent.mkdir(parents=True)
    program.partial().write_bytes(b"\0" * (5 << 20))
    assert program.run("good/flux")[0] == 0
    assert program.hub.ranges == [f"bytes={5 << 20}-", None]
    assert program.big_file().read_bytes() == BIG


def test_a_file_that_is_always_damaged_is_not_kept(program: Program) -> None:
    program.hub.spoil = 10
    code, output = program.run("good/flux")
    assert code == 1
    assert "damaged whenever it is fetched" in output
    assert not program.big_file().exists()
    assert not (program.cache / "complete-good--flux.json").exists()


def test_roles_choose_the_files(program: Program) -> None:
    needs = ["good/flux@extras", "good/flux@vae", "bare/flux", "some/adapter", "bare/flux@transformer"]
    assert program.run(*needs)[0] == 0
    assert not program.hub.ranges  # the transformer's weights were not asked for
    assert sorted(path.name for path in program.cache.glob("complete-*")) == [
        "complete-bare--flux.json",
        "complete-bare--flux@transformer.json",
        "complete-good--flux@extras.json",
        "complete-good--flux@vae.json",
        "complete-some--adapter.json",
    ]
    files = program.marker("complete-some--adapter.json")["files"]
    assert [file["path"] for file in files] == ["pytorch_lora_weights.safetensors"]
    files = program.marker("complete-bare--flux.json")["files"]
    assert [file["path"] for file in files] == ["config.json", "diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize(
    ("need", "code", "sentence"),
    [
        ("gated/flux", "model_gated", "gated/flux is gated: accept its licence"),
        ("closed/flux", "model_gated", "closed/flux is gated: accept its licence"),
        ("missing/flux", "no_model", "there is no model missing/flux"),
        ("no/weights", "no_lora", "no .safetensors file"),
    ],
)
def test_failures_are_sentences(program: Program, need: str, code: str, sentence: str) -> None:
    assert program.run(need)[0] == 1
    (error,) = program.events(ErrorEvent)
    assert error.code == code
    assert sentence in error.message


def test_no_network(program: Program) -> None:
    began = time.monotonic()
    assert program.run("good/flux", HF_ENDPOINT="http://127.0.0.1:9")[0] == 1
    (error,) = program.events(ErrorEvent)
    assert error.code == "model_offline"
    assert "cannot be reached" in error.message
    assert time.monotonic() - began < 60


def test_wrong_use(program: Program) -> None:
    code, output = program.run("./folder")
    assert code == 2
    assert "is no Hub id" in output
    code, output = program.run("good/flux@engine")
    assert code == 2
    assert "no role 'engine'; there are model, transformer, extras, vae, lora" in output


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, backend.trainer.prefetch\n"
        "print([m for m in ('torch', 'diffusers', 'transformers', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_a_config_needs(tmp_path: Path) -> None:
    def needs(**model: str) -> list[str]:
        return [str(need) for need in needs_of(ModelConfig(**model))]

    assert needs(name_or_path="a/b") == ["a/b"]
    assert needs(name_or_path="a/b", extras_name_or_path="c/d") == ["a/b@transformer", "c/d@extras"]
    assert needs(name_or_path=str(tmp_path)) == []
    file = tmp_path / "one.safetensors"
    file.touch()
    assert needs(name_or_path=str(file)) == ["black-forest-labs/FLUX.1-dev@extras"]
    assert needs(name_or_path=str(tmp_path), vae_path="v/v", assistant_lora_path="l/l") == [
        "v/v@vae",
        "l/l@lora",
    ]
    assert Need.parse("a/b@vae") == Need("a/b", "vae")


def test_the_trainer_finds_what_was_downloaded_ahead_without_asking_for_a_file(
    program: Program, hub: Hub
) -> None:
    assert program.run("good/flux")[0] == 0
    hub.asked.clear()
    hub.ranges.clear()
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from backend.trainer.control import StopControl\n"
        "from backend.trainer.hub import find_model\n"
        "from backend.trainer.report import Reporter\n"
        "from config.schema import ModelConfig\n"
        "stop = StopControl(None, lambda: None)\n"
        "print(find_model(ModelConfig(name_or_path='good/flux'), Reporter(None, sys.stderr), stop).folder)"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.port}", "HF_HUB_CACHE": str(program.cache)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == str(program.cache / f"models--good--flux/snapshots/{SHA}")
    assert hub.asked == hub.ranges == []
    assert "downloading" not in done.stderr
