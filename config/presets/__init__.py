"""Configs to start from: each a complete file with comments, of which only the pictures are missing.

``demo.yaml`` is not among them: :mod:`backend.demo` fills it in.
"""

from __future__ import annotations

from importlib import resources

_NO_PRESET = frozenset({"demo"})


def preset_names() -> list[str]:
    """The names of all presets, in alphabetical order."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    names = (name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))
    return sorted(set(names) - _NO_PRESET)


def preset_text(name: str) -> str:
    """A preset's YAML.

    Raises:
        KeyError: There is no preset of that name.
    """
    if name not in preset_names():
        raise KeyError(name)
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def preset_summary(name: str) -> str:
    """What a preset is for, in one line.

    Raises:
        KeyError: There is no preset of that name.
    """
    return preset_text(name).partition("\n")[0].lstrip("# ").strip()
