"""From a template to what a model is asked, and from its answer to a caption."""

from __future__ import annotations

import re

_PREAMBLE = re.compile(
    r"^(?:the|this) (?:image|picture|photo) (?:shows|depicts|features|is of) ", re.IGNORECASE
)
_SPECIAL = re.compile(r"</?s>|<pad>|<\|[a-z_]+\|>")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def fill(template: str, *, trigger: str = "", caption: str | None = None) -> str:
    """The prompt for one picture: ``{trigger}`` and ``{caption}`` are replaced, other braces stay."""
    return template.replace("{trigger}", trigger).replace("{caption}", (caption or "").strip())


def tidy(answer: str) -> str:
    """A model's answer as one line, without special tokens and "The image shows"."""
    text = " ".join(_CONTROL.sub(" ", _SPECIAL.sub(" ", answer)).replace("\ufffd", "").split())
    bare = _PREAMBLE.sub("", text, count=1)
    return bare[:1].upper() + bare[1:] if bare != text else text


def with_trigger(caption: str, trigger: str) -> str:
    """The caption, beginning with the trigger word unless the word occurs in it already."""
    word = trigger.strip()
    if not word or re.search(rf"(?<!\w){re.escape(word)}(?!\w)", caption) or "[trigger]" in caption:
        return caption
    return f"{word}, {caption}" if caption else word
