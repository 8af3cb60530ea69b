"""A run's config as it may leave this machine: no paths, no secrets."""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from config.paths import looks_like_path
from config.secrets import HIDDEN, hide_tokens
from config.walk import section_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from config.schema import RunConfig

_SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_SECRET_LENGTH = 8  # characters; shorter values occur in ordinary text


def public_config(config: RunConfig) -> dict[str, Any]:
    """The whole config as plain data, paths cut to their last name, secrets replaced."""
    process = config.process.model_dump(mode="json")
    _cut_paths(process, type(config.process))
    data = {"name": config.name, "process": [process], "meta": dict(config.meta)}
    return {key: _without_secrets(value) for key, value in data.items()}


def public_name(name_or_path: str) -> str:
    """A Hub id as it is; of a path only its last name."""
    if not looks_like_path(name_or_path) and not os.path.exists(name_or_path):
        return name_or_path
    return PurePath(name_or_path.replace("\\", "/")).name


def hide_secrets(text: str) -> str:
    """``text`` without tokens, and without the values of environment variables that are named like secrets.

    A config may say ``${MY_API_KEY}``; what the trainer read has the value in its place.
    """
    for name, value in os.environ.items():
        if len(value) >= _SECRET_LENGTH and _SECRET_NAME.search(name):
            text = text.replace(value, HIDDEN)
    return hide_tokens(text)


def _cut_paths(data: dict[str, Any], model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        value = data.get(name)
        inner, is_list = section_of(field.annotation)
        if inner is not None:
            for item in value if is_list and isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    _cut_paths(item, inner)
            continue
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "path" in extra and isinstance(value, str):
            data[name] = public_name(value)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, dict):
        return {hide_secrets(str(key)): _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value
