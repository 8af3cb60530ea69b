"""The user's settings file: ``settings.toml`` in the data folder.

It holds ``theme = "nord"``, ``images = "auto"``, ``desktop_notices = true`` and a table ``[keymap]`` of
binding ids to keys. A file with mistakes never stops the app: what is wrong is reported and its default used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IMAGES = ("auto", "half", "off", "kitty", "sixel")
DEFAULT_THEME = "textual-dark"


@dataclass(frozen=True)
class Settings:
    """What the user chose.

    Attributes:
        theme: Name of the colour theme.
        images: How pictures are drawn: one of ``IMAGES``.
        keymap: Keys by binding id; several keys are separated by commas.
        problems: One sentence for each mistake in the file, with its place.
        desktop_notices: Whether the terminal is asked to show notices about runs on the desktop.
    """

    theme: str = DEFAULT_THEME
    images: str = "auto"
    keymap: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    desktop_notices: bool = True


def settings_path(home: Path) -> Path:
    """Where the settings of the data folder ``home`` are."""
    return home / "settings.toml"


def load_settings(path: Path) -> Settings:
    """The settings in ``path``; defaults where it says nothing or something wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        return Settings(problems=(f"{path}: cannot be read ({error}). The defaults are used.",))
    import tomllib  # only with a file: the first paint of a new user pays nothing

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Settings(problems=(_toml_problem(path, text, error),))
    return _check(path, text, document)


def _toml_problem(path: Path, text: str, error: Exception) -> str:
    message = str(error)
    place = re.search(r" \(at line (\d+), column \d+\)$| \(at end of document\)$", message)
    line = int(place[1]) if place and place[1] else max(1, len(text.splitlines()))
    what = message[: place.start()] if place else message
    return f"{path}:{line}: {what}. The file is not used until this is mended."


def _line_of(text: str, key: str) -> int:
    """The line that sets ``key``, 1 if it cannot be told."""
    pattern = re.compile(rf"""^\s*["']?(?:[\w-]+["'\s]*\.["'\s]*)*{re.escape(key)}["']?\s*=""")
    return next((n for n, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1)


def _check(path: Path, text: str, document: Mapping[str, Any]) -> Settings:
    problems: list[str] = []

    def complain(key: str, what: str) -> None:
        problems.append(f"{path}:{_line_of(text, key)}: {key}: {what}")

    for key in document.keys() - {"theme", "images", "desktop_notices", "keymap"}:
        complain(key, "is no setting; there are theme, images, desktop_notices and [keymap].")
    theme = document.get("theme", DEFAULT_THEME)
    if not isinstance(theme, str):
        complain("theme", 'must be a name in quotes, such as "textual-light".')
        theme = DEFAULT_THEME
    images = document.get("images", "auto")
    if images not in IMAGES:
        complain("images", f"must be one of {', '.join(IMAGES)}.")
        images = "auto"
    notices = document.get("desktop_notices", True)
    if not isinstance(notices, bool):
        complain("desktop_notices", "must be true or false, without quotes.")
        notices = True
    table = document.get("keymap", {})
    keymap: dict[str, str] = {}
    if not isinstance(table, dict):
        complain("keymap", 'must be a table: a line [keymap], then lines such as "app.help" = "f2".')
        table = {}
    for key, keys in _flat(table):
        if isinstance(keys, list) and all(isinstance(part, str) for part in keys):
            keys = ",".join(keys)
        if isinstance(keys, str) and all(part.strip() for part in keys.split(",")):
            keymap[key] = ",".join(part.strip() for part in keys.split(","))
        else:
            complain(key.rpartition(".")[2], 'must be keys in quotes, such as "ctrl+j,j".')
    return Settings(theme, images, keymap, tuple(problems), notices)


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The entries of a table; ``app.help = "f2"`` without quotes is a nested table in TOML."""
    entries: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            entries += _flat(value, f"{prefix}{key}.")
        else:
            entries.append((prefix + key, value))
    return entries


def save_setting(path: Path, key: str, value: str) -> None:
    """Set one top-level ``key``; everything else in the file, comments too, stays as it is.

    Raises:
        OSError: The file cannot be written.
        ValueError: The file is no TOML, so it cannot be changed without losing something.
    """
    import tomlkit
    import tomlkit.exceptions

    from backend.files import write_text

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    try:
        document = tomlkit.parse(text)
    except tomlkit.exceptions.TOMLKitError as error:
        raise ValueError(f"{path} is no valid TOML: {error}") from error
    document[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, tomlkit.dumps(document))
