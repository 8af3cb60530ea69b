"""The config of a run whose inputs are on the volume only, because another machine launched it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from config.load import LoadedConfig, load_config, variables

VOLUME = "FLUXLORA_VOLUME"
"""Stands in a container's config for the place where the volume is mounted."""


def load_for_resume(path: Path, overrides: Sequence[str]) -> LoadedConfig:
    """The run's config with overrides; where its inputs are on the volume only, they are taken as good.

    Raises:
        ConfigError: It has errors.
    """
    if f"${{{VOLUME}}}" not in path.read_text(encoding="utf-8"):
        return load_config(path, overrides)
    return load_config(path, overrides, env={**variables(path), VOLUME: "/mnt/lora"}, files=False)
