"""Finding base models on a Hub: a small local server stands in for it, the client is the real one."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from backend.trainer.control import StopControl
from backend.trainer.errors import TrainingError
from backend.trainer.hub import ModelFiles, _wanted, find_base_model, find_model
from backend.trainer.report import Reporter
from config.schema import ModelConfig

REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "model_index.json": b"{}",
    "transformer/config.json": b'{"_class_name": "FluxTransformer2DModel"}',
    "vae/diffusion_pytorch_model.safetensors": b"weights",
    "flux1-dev.safetensors": b"a single-file copy",
    "README.md": b"# words",
}
REPOSITORIES = {
    "good/flux": FILES,
    "bare/flux": {
        "config.json": b'{"_class_name": "FluxTransformer2DModel"}',
        "diffusion_pytorch_model.safetensors": b"weights",
        "preview.safetensors": b"something else",
    },
    "some/adapter": {"pytorch_lora_weights.safetensors": b"adapter", "other.safetensors": b"x"},
    "bare/nothing": {"README.md": b"# words"},
}


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub's interface as a download needs."""

    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if "/gated/" in path:
            self.send(
                403, b"{}", body, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."}
            )
        elif "/missing/" in path:
            self.send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})
        elif (repo := path.removeprefix("/api/models/")) in REPOSITORIES:
            siblings = [{"rfilename": name, "size": len(data)} for name, data in REPOSITORIES[repo].items()]
            info = {"id": repo, "modelId": repo, "sha": REVISION, "siblings": siblings}
            self.send(200, json.dumps(info).encode(), body)
        elif (repo := "/".join(path.split("/")[1:3])) in REPOSITORIES:
            name = path.removeprefix(f"/{repo}/resolve/").partition("/")[2]
            if body:
                type(self).asked.append(name)
            tag = name.replace("/", "-")
            self.send(200, REPOSITORIES[repo][name], body, {"ETag": f'"{tag}"', "X-Repo-Commit": REVISION})
        else:
            self.send(404, b"{}", body, {"X-Error-Code": "EntryNotFound"})

    def send(self, code: int, data: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A running server; the client is pointed at it."""
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    point_at(endpoint, tmp_path, monkeypatch)
    yield endpoint
    server.shutdown()
    server.server_close()


def point_at(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def find(name: str, stop: StopControl) -> Path:
    return find_base_model(name, Reporter(None, io.StringIO()), stop)


def test_only_what_training_needs_is_downloaded(hub: str, never_stop: StopControl) -> None:
    folder = find("good/flux", never_stop)
    assert (folder / "transformer" / "config.json").read_bytes() == FILES["transformer/config.json"]
    assert sorted(Hub.asked) == [
        "model_index.json",
        "transformer/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    Hub.asked.clear()
    assert find("good/flux", never_stop) == folder
    assert not Hub.asked


def test_without_a_network_the_copy_serves(
    hub: str, never_stop: StopControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = find("good/flux", never_stop)
    point_at("http://127.0.0.1:9", tmp_path, monkeypatch)
    assert find("good/flux", never_stop) == folder
    with pytest.raises(TrainingError, match="no local copy") as caught:
        find("other/flux", never_stop)
    assert caught.value.code == "model_offline"


def test_a_gated_model_says_what_to_do(hub: str, never_stop: StopControl) -> None:
    with pytest.raises(TrainingError, match="HF_TOKEN") as caught:
        find("gated/flux", never_stop)
    assert caught.value.code == "model_gated"


def test_a_missing_model(hub: str, never_stop: StopControl) -> None:
    with pytest.raises(TrainingError, match="no model missing/flux") as caught:
        find("missing/flux", never_stop)
    assert caught.value.code == "no_model"


@pytest.mark.parametrize("name", ["/no/such/folder", "./here", "models/flux/dev", "flux", "~/models/flux"])
def test_what_looks_like_a_folder_is_not_asked_for_on_the_hub(name: str, never_stop: StopControl) -> None:
    with pytest.raises(TrainingError, match="does not exist") as caught:
        find(name, never_stop)
    assert caught.value.bad_input


def find_all(never_stop: StopControl, **model: str) -> ModelFiles:
    return find_model(ModelConfig(**model), Reporter(None, io.StringIO()), never_stop)


def test_a_folder_stands_in_for_the_base_models_id(
    tmp_path: Path, tiny_flux: Path, never_stop: StopControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = "black-forest-labs/FLUX.1-dev"
    monkeypatch.setenv("FLUXLORA_MODEL_FOLDER", str(tiny_flux))
    assert find_all(never_stop, name_or_path=dev) == ModelFiles(tiny_flux)
    assert find_all(never_stop, name_or_path="some/flux") == ModelFiles(tiny_flux)
    alone = tiny_flux / "transformer"
    assert find_all(never_stop, name_or_path=str(alone)) == ModelFiles(tiny_flux, {"transformer": alone})
    # A folder of one's own, and an id beside FLUX.1-dev's, are not what it stands in for.
    assert find_all(never_stop, name_or_path=str(tiny_flux.parent)).folder == tiny_flux.parent
    with pytest.raises(TrainingError, match="no local copy"):
        find_all(never_stop, name_or_path="some/flux", extras_name_or_path=dev)
    monkeypatch.setenv("FLUXLORA_MODEL_FOLDER", str(tmp_path / "gone"))
    with pytest.raises(TrainingError, match="correct FLUXLORA_MODEL_FOLDER") as caught:
        find_all(never_stop, name_or_path=dev)
    assert caught.value.bad_input


def test_of_single_files_only_safetensors_are_taken(tmp_path: Path, never_stop: StopControl) -> None:
    file = tmp_path / "flux.gguf"
    file.touch()
    with pytest.raises(TrainingError, match=r"is a \.gguf file") as caught:
        find_all(never_stop, name_or_path=str(file))
    assert caught.value.bad_input


def test_a_file_of_a_transformer_takes_the_other_parts_from_elsewhere(
    hub: str, tmp_path: Path, never_stop: StopControl
) -> None:
    file = tmp_path / "flux.safetensors"
    file.touch()
    files = find_all(never_stop, name_or_path=str(file), extras_name_or_path="good/flux")
    assert files.parts == {"transformer": file}
    assert (files.folder / "vae" / "diffusion_pytorch_model.safetensors").read_bytes() == b"weights"
    assert "transformer/config.json" not in Hub.asked


def test_a_folder_of_a_transformer_alone(tmp_path: Path, tiny_flux: Path, never_stop: StopControl) -> None:
    alone = tiny_flux / "transformer"
    files = find_all(never_stop, name_or_path=str(alone), extras_name_or_path=str(tiny_flux))
    assert files == ModelFiles(tiny_flux, {"transformer": alone})
    nested = tmp_path / "fine-tune"
    nested.mkdir()
    (nested / "transformer").mkdir()
    files = find_all(never_stop, name_or_path=str(nested), extras_name_or_path=str(tiny_flux))
    assert files == ModelFiles(tiny_flux, {"transformer": nested / "transformer"})


def test_a_transformer_alone_on_the_hub(hub: str, tiny_flux: Path, never_stop: StopControl) -> None:
    files = find_all(never_stop, name_or_path="bare/flux", extras_name_or_path=str(tiny_flux))
    assert (files.parts["transformer"] / "diffusion_pytorch_model.safetensors").read_bytes() == b"weights"
    assert files.folder == tiny_flux


def test_an_autoencoder_of_its_own(hub: str, tiny_flux: Path, never_stop: StopControl) -> None:
    where = {"name_or_path": str(tiny_flux)}
    assert find_all(never_stop, vae_path=str(tiny_flux), **where).parts == {"vae": tiny_flux / "vae"}
    assert find_all(never_stop, vae_path=str(tiny_flux / "vae"), **where).parts == {"vae": tiny_flux / "vae"}
    with pytest.raises(TrainingError, match=r"model\.vae_path"):
        find_all(never_stop, vae_path="./nowhere", **where)
    with pytest.raises(TrainingError, match="has no config"):
        find_all(never_stop, vae_path=str(tiny_flux.parent), **where)


def test_loras_are_found_on_the_hub_in_folders_and_as_files(
    hub: str, tmp_path: Path, tiny_flux: Path, never_stop: StopControl
) -> None:
    folder = tmp_path / "loras"
    folder.mkdir()
    (folder / "one.safetensors").touch()
    where = {"name_or_path": str(tiny_flux)}
    files = find_all(never_stop, lora_path=str(folder), assistant_lora_path="some/adapter", **where)
    assert files.loras["lora_path"] == folder / "one.safetensors"
    assert files.loras["assistant_lora_path"].read_bytes() == b"adapter"
    (folder / "two.safetensors").touch()
    with pytest.raises(TrainingError, match=r"2 \.safetensors files; name one"):
        find_all(never_stop, lora_path=str(folder), **where)
    (folder / "pytorch_lora_weights.safetensors").touch()
    found = find_all(never_stop, inference_lora_path=str(folder), **where).loras
    assert found == {"inference_lora_path": folder / "pytorch_lora_weights.safetensors"}
    with pytest.raises(TrainingError, match=r"no \.safetensors file"):
        find_all(never_stop, lora_path="bare/nothing", **where)


def test_an_adapter_from_the_hub_serves_without_a_network(
    hub: str, tmp_path: Path, tiny_flux: Path, never_stop: StopControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"name_or_path": str(tiny_flux), "assistant_lora_path": "some/adapter"}
    files = find_all(never_stop, **model)
    point_at("http://127.0.0.1:9", tmp_path, monkeypatch)
    assert find_all(never_stop, **model) == files


def test_half_size_variants_are_left_out() -> None:
    from huggingface_hub.hf_api import ModelInfo

    names = [
        "transformer/a.safetensors",
        "transformer/a.fp16.safetensors",
        "vae/config.json",
        "x/config.json",
    ]
    info = ModelInfo(id="a/b", siblings=[{"rfilename": name, "size": 3} for name in names], tags=[])
    assert _wanted(info) == [("transformer/a.safetensors", 3), ("vae/config.json", 3)]
