"""Names of files on their way to Modal: which can travel, and which a config can say."""

from __future__ import annotations

from config.secrets import hide_tokens

_MAX_BYTES = 255  # what Linux takes


def safe_name(name: str, instead: str) -> str:
    """``name`` if Modal holds it and a config can say it, else ``instead``."""
    return name if name and not why_no_name(name) and can_be_said(name) else instead


def can_be_said(path: str) -> bool:
    """Whether a config keeps a path as it is: no variable, no placeholder, nothing like a token."""
    return "${" not in path and "[name]" not in path and hide_tokens(path) == path


def why_no_name(path: str) -> str:
    """What keeps a relative path from Modal's volumes, a clause; empty if nothing does."""
    try:
        sizes = [len(part.encode("utf-8")) for part in path.split("/")]
    except UnicodeEncodeError:
        return "its name is not valid Unicode"
    if max(sizes) > _MAX_BYTES:
        return f"its name is longer than {_MAX_BYTES} bytes in UTF-8"
    if "\\" in path:
        return "its name has a backslash"
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        return "its name has control characters"
    return ""


def printable(path: str) -> str:
    """A path for people, with ``?`` for what no terminal should get."""
    text = path.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else "?" for c in text)
