"""What a training config is: schema, loading, problems, presets.

The names below are imported on first use, so that importing :mod:`config` costs neither
pydantic nor yaml (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from config.load import LoadedConfig, load_config
    from config.problems import ConfigError, Problem
    from config.schema import RunConfig

_LAZY = {
    "ConfigError": "config.problems",
    "LoadedConfig": "config.load",
    "Problem": "config.problems",
    "RunConfig": "config.schema",
    "load_config": "config.load",
}

__all__ = ["ConfigError", "LoadedConfig", "Problem", "RunConfig", "load_config"]


def __getattr__(name: str) -> Any:
    try:
        module = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module 'config' has no attribute {name!r}") from None
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value
