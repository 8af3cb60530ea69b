"""The base model's download in the cloud: the real job and downloader; a Hub and a Modal of our own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from backend.credentials.modal_profiles import ModalToken
from backend.credentials.secret import Secret
from backend.doctor.situation import CachedModel, Shelf
from backend.doctor.volume import ask_library
from backend.launchers.base import LaunchError
from backend.launchers.modal.errand import ask
from tests.hub.fixtures import FLUX, hub
from tests.hub.server import LoopbackHub, Model
from tests.loopback.cloud import LoopbackCloud
from tests.loopback.fixtures import modal_cloud

__all__ = ["hub", "modal_cloud"]

WEIGHTS = bytes(range(256)) * 64
PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
FILES = {
    "model_index.json": b"{}",
    **{f"{part}/config.json": b"{}" for part in PARTS},
    **{f"{part}/model.safetensors": WEIGHTS for part in PARTS[:4]},
}


@pytest.fixture
def environment(
    modal_cloud: LoopbackCloud, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """What the job is started with; the token lies in the Hub's own file."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text(hub.add_token(user="alice"), encoding="utf-8")
    hub.models[FLUX] = Model(files=dict(FILES), gated=True, accepted={"alice"})
    modal_cloud.knobs.environment |= {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in modal_cloud.settings().items():
        monkeypatch.setenv(name, value)
    return {**os.environ, **modal_cloud.environ()}


async def fetch(
    environment: dict[str, str], root: Path, told: list[tuple[int, int]] | None = None
) -> list[str]:
    answer = await ask(
        "prefetch",
        {"models": [FLUX], "base_volume": "flux-base-model", "environment": None, "root": str(root)},
        (lambda done, total: told.append((done, total))) if told is not None else None,
        environment=environment,
    )
    return list(answer["fetched"])


async def look(cloud: LoopbackCloud) -> CachedModel | None:
    token = ModalToken(cloud.token_id, Secret(cloud.token_secret), "a test", None, cloud.url)
    return await ask_library(token, Shelf("flux-base-model"), FLUX)


async def test_it_is_downloaded_once(
    modal_cloud: LoopbackCloud, environment: dict[str, str], tmp_path: Path
) -> None:
    assert await look(modal_cloud) == CachedModel(0, False)
    told: list[tuple[int, int]] = []
    assert await fetch(environment, tmp_path, told) == [FLUX]
    total = sum(map(len, FILES.values()))
    assert any(of == total for _, of in told)
    cached = await look(modal_cloud)
    assert cached is not None
    assert cached.complete
    assert await fetch(environment, tmp_path) == []
    assert len(modal_cloud.apps()) == 1
    assert not list((tmp_path / "cloud-downloads").iterdir())


async def test_whoever_asks_again_waits_for_the_same_download(
    modal_cloud: LoopbackCloud, hub: LoopbackHub, environment: dict[str, str], tmp_path: Path
) -> None:
    hub.trouble, hub.delay = "slow", 120.0
    asking = asyncio.create_task(fetch(environment, tmp_path))
    notes = tmp_path / "cloud-downloads"
    await asyncio.to_thread(modal_cloud.wait, lambda: modal_cloud.tasks(running=True) and hub.asked, 120)
    assert len(list(notes.iterdir())) == 1
    asking.cancel()  # the app is closed
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert modal_cloud.tasks(running=True)
    again = asyncio.create_task(fetch(environment, tmp_path))
    seen = len(modal_cloud.rpcs())
    await asyncio.to_thread(modal_cloud.wait, lambda: len(modal_cloud.rpcs()) > seen + 4, 60)
    hub.trouble = ""
    hub.closing.set()
    assert await again == [FLUX]
    assert len(modal_cloud.apps()) == 1
    assert not list(notes.iterdir())


async def test_one_that_failed_is_begun_anew(
    modal_cloud: LoopbackCloud, hub: LoopbackHub, environment: dict[str, str], tmp_path: Path
) -> None:
    hub.models[FLUX].accepted = set()
    with pytest.raises(LaunchError, match="could not be downloaded"):
        await fetch(environment, tmp_path)
    hub.models[FLUX].accepted = {"alice"}
    assert await fetch(environment, tmp_path) == [FLUX]
    assert len(modal_cloud.apps()) == 2
