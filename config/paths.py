"""Making the paths in a config absolute, so that a run's copy of it works from any folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.schema import ProcessConfig
from config.walk import names_of, section_of

if TYPE_CHECKING:
    from pydantic import BaseModel

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


def looks_like_path(name_or_path: str) -> bool:
    """Whether a ``model.name_or_path`` means a folder or file rather than a Hub id."""
    if name_or_path.startswith((".", "/", "~", "\\")) or re.match(r"^[A-Za-z]:[\\/]", name_or_path):
        return True
    return not _HUB_ID.match(name_or_path)


def make_absolute(process: dict[str, Any], beside: Path) -> None:
    """Replace every path in the plain data of a process by an absolute one, in place.

    Values that hold ``${VAR}`` stay as they are.

    Args:
        process: The process's data, of any shape.
        beside: The folder of the config file.
    """
    _walk(process, ProcessConfig, beside)


def _walk(data: dict[str, Any], model: type[BaseModel], beside: Path) -> None:
    names = names_of(model)
    for key, value in list(data.items()):
        field = model.model_fields.get(names.get(str(key), ""))
        if field is None:
            continue
        inner, is_list = section_of(field.annotation)
        if inner is not None:
            for item in value if is_list and isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    _walk(item, inner, beside)
            continue
        extra = field.json_schema_extra
        kind = extra.get("path") if isinstance(extra, dict) else None
        if kind and isinstance(value, str) and value and "${" not in value:
            data[key] = _absolute(value, str(kind), beside)


def _absolute(text: str, kind: str, beside: Path) -> str:
    path = Path(text).expanduser()
    if path.is_absolute():
        return str(path)
    if kind == "output":
        return str(path.absolute())
    near = beside / path
    found = near if not path.exists() and near.exists() else path.absolute()
    if kind == "model" and not found.exists() and not looks_like_path(text):
        return text
    return str(found)
