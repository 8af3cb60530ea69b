"""A dataset as a JSON file that maps pictures to captions.

``{path: "caption"}`` or ai-toolkit's ``{path: {"caption": ..., "caption_short": ...}}``; paths are
relative to the file's folder. Short captions are not used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from backend.trainer.errors import TrainingError

_FORMS = '{"picture.jpg": "caption"} or {"picture.jpg": {"caption": "caption"}}'


def is_manifest(path: Path) -> bool:
    """Whether a dataset's path means a manifest rather than a folder."""
    return path.suffix.lower() == ".json" and not path.is_dir()


def read_manifest(path: Path) -> dict[Path, str]:
    """Pictures and their captions (empty where there is none), sorted by path.

    Raises:
        TrainingError: It is missing, unreadable, or not of one of the two forms.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise _bad(path, "does not exist; correct datasets.folder_path", "no_dataset") from None
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror or error}", "no_dataset") from error
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise _bad(path, f"must map picture paths to captions: {_FORMS}")
    captions = {
        path.parent / Path(name.replace("\\", "/") if ":" not in name else name): _caption(path, name, value)
        for name, value in data.items()
    }
    return dict(sorted(captions.items()))


def _caption(path: Path, name: str, value: Any) -> str:
    text = value.get("caption") if isinstance(value, dict) else value
    if text is None:
        return ""
    if not isinstance(text, str):
        raise _bad(path, f"has no caption text for {name!r}: it must be {_FORMS}")
    return text


def _bad(path: Path, what: str, code: str = "bad_manifest") -> TrainingError:
    return TrainingError(f"the dataset file {path} {what}", code, bad_input=True)
