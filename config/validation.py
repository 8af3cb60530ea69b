"""Pydantic's errors in the words of somebody who edits a config."""

from __future__ import annotations

import difflib
import re
from typing import Any

from config.secrets import hide_tokens
from config.source import Path as KeyPath


def missing_message(path: KeyPath, section: str) -> str:
    """What is said of a key that must be there."""
    if path[-1] == "folder_path":
        return "is missing: give the folder with the pictures"
    if path[-1] == "name_or_path" or path == ("model",):
        return "is missing: give a Hugging Face id or the folder of a FLUX.1 model"
    if path == ("datasets",):
        return "is missing: give at least one folder of pictures"
    return f"is missing in {section}" if section else "is missing"


def plain_message(detail: dict[str, Any]) -> str:
    """One sentence for a pydantic error."""
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    shown = repr(given) if isinstance(given, str | int | float | bool) else type(given).__name__
    shown = hide_tokens(shown if len(shown) <= 60 else shown[:57] + "...")
    if given is None:
        return "is empty; give a value or remove the key"
    match kind:
        case "greater_than_equal":
            return f"is {shown}; it must be at least {context['ge']:g}"
        case "greater_than":
            return f"is {shown}; it must be more than {context['gt']:g}"
        case "less_than_equal":
            return f"is {shown}; it must be at most {context['le']:g}"
        case "less_than":
            return f"is {shown}; it must be less than {context['lt']:g}"
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return f"is {shown}; it must be a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return f"is {shown}; it must be a number"
        case "bool_parsing" | "bool_type":
            return f"is {shown}; it must be true or false"
        case "string_type":
            return f"is {shown}; it must be text (put it in quotes)"
        case "string_too_short":
            return "is empty"
        case "literal_error":
            return f"is {shown}; {_choice(given, context['expected'])}"
        case "list_type" if isinstance(given, dict):
            return "must be a list: put a dash before its first key"
        case "list_type":
            return f"is {shown}; it must be a list"
        case "too_short":
            return "is empty; it needs at least one entry"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"is {shown}; it must be a section with keys of its own"
        case "value_error":
            return str(context.get("error", detail["msg"]))
    return f"is {shown}: {detail['msg'].lower()}"


def problem_code(detail: dict[str, Any]) -> tuple[str, str | None]:
    """The kind of a pydantic error and what to put in the value's place, see :class:`Problem`."""
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if given is None:
        return "empty", None
    match kind:
        case "greater_than_equal" | "less_than_equal":
            bound = context["ge" if kind.startswith("greater") else "le"]
            return "bound", f"{bound:g}"
        case "literal_error":
            near = _nearest(given, context["expected"])
            return "choice", near
        case "list_type" if isinstance(given, dict):
            return "needs_list", None
    return "type", None


def _nearest(given: Any, expected: str) -> str | None:
    names = re.findall(r"'([^']*)'", expected)
    near = difflib.get_close_matches(str(given).lower(), names, n=1) if isinstance(given, str) else []
    return near[0] if near else None


def _choice(given: Any, expected: str) -> str:
    """What a value must be, out of pydantic's ``'a', 'b' or 'c'``; the nearest first."""
    near = _nearest(given, expected)
    hint = f"did you mean '{near}'? " if near else ""
    return f"{hint}it must be {expected}"
