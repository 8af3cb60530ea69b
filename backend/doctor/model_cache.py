"""Whether a model of the Hub lies in this machine's own cache, found out without the Hub's client."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def hub_cache(env: Mapping[str, str]) -> Path:
    """The folder in which the Hub's client keeps models."""
    for name, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if value := env.get(name):
            return Path(os.path.expandvars(value)).expanduser() / below
    base = Path(os.path.expandvars(env.get("XDG_CACHE_HOME") or "~/.cache")).expanduser()
    return base / "huggingface" / "hub"


def cached_on_this_machine(repo: str, env: Mapping[str, str]) -> bool:
    """Whether the branch ``main`` of a model is there, with nothing of it half downloaded."""
    folder = hub_cache(env) / f"models--{repo.replace('/', '--')}"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
        snapshot = folder / "snapshots" / revision
        if not revision or any((folder / "blobs").glob("*.incomplete")):
            return False
        return any(path.suffix == ".safetensors" and path.exists() for path in snapshot.rglob("*"))
    except OSError:
        return False
