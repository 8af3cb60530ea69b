"""Recognising tokens that people paste into configs, so that they are not copied anywhere."""

from __future__ import annotations

import re
from typing import Any

# Hugging Face (hf_...), Modal (ak-... and as-...), W&B's older 40 hex digits are too common a shape.
_TOKEN = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|a[ks]-[A-Za-z0-9]{16,})\b")

HIDDEN = "(secret removed)"


def hide_tokens(text: str) -> str:
    """``text`` with everything that looks like a Hugging Face or Modal token replaced."""
    return _TOKEN.sub(HIDDEN, text)


def has_token(text: str) -> bool:
    """Whether ``text`` holds something that looks like a token."""
    return _TOKEN.search(text) is not None


def without_tokens(value: Any) -> Any:
    """A copy of plain data with tokens in strings replaced."""
    if isinstance(value, str):
        return hide_tokens(value)
    if isinstance(value, dict):
        return {key: without_tokens(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_tokens(item) for item in value]
    return value
