"""Captioning models from the Hub: a whole job, with the Hub's real client, against a server on 127.0.0.1."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
from PIL import Image

from backend.captioning.job import CaptionJob, Progress, make_job, read_progress
from backend.captioning.request import CaptionRequest
from backend.datasets.drafts import Drafts
from backend.trainer import downloads
from backend.trainer.captioner.__main__ import main
from tests.hub.fixtures import hub  # noqa: F401 - a fixture
from tests.hub.server import LoopbackHub, Model
from tests.trainer.tiny_captioners import make_florence

NAME = "someone/tiny-florence"


@pytest.fixture(scope="module")
def florence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_florence(tmp_path_factory.mktemp("florence"))


@pytest.fixture
def world(hub: LoopbackHub, florence: Path, tmp_path: Path, monkeypatch) -> LoopbackHub:  # noqa: F811
    """The Hub with the model; this process's client is pointed at it, its cache is empty."""
    hub.models[NAME] = Model(files={file.name: file.read_bytes() for file in florence.iterdir()})
    hub.models[NAME].files["README.md"] = b"# words"
    point_at(hub.url, tmp_path, monkeypatch)
    return hub


def point_at(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


def job_of(tmp_path: Path) -> CaptionJob:
    folder = tmp_path / "pets"
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (48, 40), "red").save(folder / "a.png")
    request = CaptionRequest(folder, NAME, "<CAPTION>", tokens=4, device="cpu")
    return make_job(request, tmp_path / "home")


def run(job: CaptionJob) -> Progress:
    main([str(job.path)])
    return read_progress(job.progress_file)


def test_a_model_is_downloaded_and_captions(world, tmp_path: Path) -> None:
    job = job_of(tmp_path)
    assert run(job).state == "finished"
    assert [draft.path.name for draft in Drafts(job.drafts).all(job.request.folder)] == ["a.txt"]
    states = job.progress_file.read_text(encoding="utf-8")
    assert states.index('"downloading"') < states.index('"loading"') < states.index('"captioning"')
    fetched = [asked.path for asked in world.asked if asked.method == "GET" and "/resolve/" in asked.path]
    assert any(path.endswith("/model.safetensors") for path in fetched)
    assert not any(path.endswith("/README.md") for path in fetched)


def test_without_a_network_the_copy_serves(world, tmp_path: Path, monkeypatch) -> None:
    assert run(job_of(tmp_path)).state == "finished"
    world.trouble = "dead"
    (tmp_path / "pets" / "b.png").write_bytes((tmp_path / "pets" / "a.png").read_bytes())
    progress = run(job_of(tmp_path))
    assert (progress.state, sorted(progress.results)) == ("finished", ["a.png", "b.png"])


def test_without_a_network_and_a_copy(world, tmp_path: Path) -> None:
    world.trouble = "dead"
    progress = run(job_of(tmp_path))
    assert progress.state == "failed"
    assert progress.detail == (
        f"{NAME} cannot be downloaded: the Hugging Face Hub cannot be reached and there is no local copy; "
        "check the network or give a folder"
    )


def test_a_download_goes_on_within_a_file(world, tmp_path: Path, monkeypatch) -> None:
    weights = world.models[NAME].files["model.safetensors"]
    monkeypatch.setattr(downloads, "LARGE", len(weights))  # else the Hub's client fetches it whole
    metadata_tag = downloads_etag(weights)
    blobs = tmp_path / "hub" / f"models--{NAME.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    half = len(weights) // 2
    (blobs / f"{metadata_tag}.partial").write_bytes(weights[:half])  # as a killed download leaves it
    assert run(job_of(tmp_path)).state == "finished"
    asked = [it for it in world.asked if it.method == "GET" and it.path.endswith("/model.safetensors")]
    assert [it.range for it in asked] == [f"bytes={half}-"]
    assert (blobs / metadata_tag).read_bytes() == weights


def downloads_etag(data: bytes) -> str:
    import hashlib

    return hashlib.sha1(data).hexdigest()  # the loopback's


@pytest.mark.parametrize("what", ["missing", "gated", "revoked", "no weights"])
def test_a_sentence_for_what_the_hub_refuses(world, tmp_path: Path, monkeypatch, what: str) -> None:
    if what == "missing":
        monkeypatch.setenv("HF_TOKEN", world.add_token())  # the Hub answers 404; without a token, 401
        del world.models[NAME]
    elif what == "gated":
        world.models[NAME].gated = True
    elif what == "revoked":
        monkeypatch.setenv("HF_TOKEN", "hf_" + "Revoked123" * 3 + "Wxyz")
    else:
        del world.models[NAME].files["model.safetensors"]
    progress = run(job_of(tmp_path))
    assert progress.state == "failed"
    wanted = {
        "missing": f"there is no model {NAME} on the Hugging Face Hub",
        "gated": f"{NAME} is gated: accept its licence",
        "revoked": "the Hugging Face Hub refuses the token in use",
        "no weights": f"{NAME} is no captioning model: it has no .safetensors file",
    }
    assert wanted[what] in progress.detail
    assert "\n" not in progress.detail
    assert "Revoked123" not in (job_of(tmp_path).path / "progress.jsonl").read_text(encoding="utf-8")


def test_a_model_that_is_not_there_without_a_token(world, tmp_path: Path) -> None:
    del world.models[NAME]
    progress = run(job_of(tmp_path))
    assert progress.state == "failed"
    assert (
        f"there is no model {NAME} on the Hugging Face Hub (or it is private and HF_TOKEN" in progress.detail
    )
