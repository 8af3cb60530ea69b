"""Fixtures for tests that need a Hub: import ``hub`` from here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import LoopbackHub, Model

FLUX = "black-forest-labs/FLUX.1-dev"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A loopback Hub with the gated FLUX.1-dev; ``HF_ENDPOINT`` points to it, and no token is set."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with LoopbackHub() as server:
        server.models[FLUX] = Model(
            files={"model_index.json": b"{}", "ae.safetensors": bytes(range(256))}, gated=True
        )
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield server
