"""Files that an importer reads, and the paths in them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path, PureWindowsPath
from typing import Any

from config.importers.options import ImportRefusedError

_MAX_BYTES = 8 << 20


def read_text(path: Path) -> str:
    """A text file of any of the encodings that editors write.

    Raises:
        ImportRefusedError: It cannot be read, is no text or is too large.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ImportRefusedError(f"is larger than {_MAX_BYTES >> 20} MiB; that is no config")
        raw = path.read_bytes()
    except OSError as error:
        what = (
            "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        )
        raise ImportRefusedError(f"cannot be read: {what}") from None
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"  # PowerShell writes UTF-16
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        raise ImportRefusedError("is not UTF-8 text; save it as UTF-8") from None
    if "\x00" in text:
        raise ImportRefusedError("is not a text file")
    return text


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        ImportRefusedError: It cannot be read or is not JSON.
    """
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """JSON text.

    Raises:
        ImportRefusedError: It is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ImportRefusedError(f"line {error.lineno}: is not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise ImportRefusedError("is not valid JSON") from None


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file.

    Raises:
        ImportRefusedError: It cannot be read or is not TOML.
    """
    return parse_toml(read_text(path))


def parse_toml(text: str) -> dict[str, Any]:
    """TOML text.

    Raises:
        ImportRefusedError: It is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ImportRefusedError(f"is not valid TOML: {error}") from None
    except RecursionError:
        raise ImportRefusedError("is not valid TOML: it is nested too deeply") from None


def existing(text: str, beside: Path) -> Path | None:
    """The file or folder that ``text`` means, from the working folder or beside the imported file."""
    path = Path(text).expanduser()
    try:
        return next((p for p in (path, beside / path) if p.exists()), None)
    except (OSError, ValueError):
        return None


def companion(text: str, beside: Path) -> Path | None:
    """A file that the imported one names: as it says, else of that name beside the imported file.

    fluxgym and SimpleTuner write paths that hold only on the machine that they ran on.
    """
    found = existing(text, beside) or existing(PureWindowsPath(text).name, beside)
    return found if found is not None and found.is_file() else None


def path_text(text: str, beside: Path) -> str:
    """``text``, made absolute if it is found only beside the imported file."""
    path = Path(text).expanduser()
    found = existing(text, beside)
    return (
        str(found.absolute()) if found is not None and not path.is_absolute() and not path.exists() else text
    )
