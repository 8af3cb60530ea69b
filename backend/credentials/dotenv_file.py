"""Changing one key of a ``.env`` file and nothing else.

Reading is python-dotenv's. Its writer drops blank lines, comments behind a value, ``export`` and line
ends, so this one replaces only the value, and afterwards compares what python-dotenv reads with what it
should read.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from backend.credentials.errors import CredentialsError, cannot
from backend.files import write_text

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+-]*")
_BOM = "\ufeff"
# The parts of one binding, as python-dotenv splits it: what stands before the value, the value, what follows.
_BINDING = re.compile(
    r"""
    (?P<head>\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=\#\s]+)[^\S\r\n]*)
    (?:
      (?P<equals>=(?![^\S\r\n]+\#)[^\S\r\n]*|=)
      (?:
        (?P<quoted>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")(?P<behind>[^\S\r\n]*(?:\#[^\r\n]*)?)
        | (?!['"])(?P<bare>[^\r\n]*?)(?P<after>(?:[^\S\r\n]+\#[^\r\n]*)?)
      )
    )?
    (?P<end>[^\S\r\n]*(?:\r\n|\n|\r)?)
    """,
    re.VERBOSE | re.DOTALL,
)


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables of a ``.env`` file; empty if there is none or it is no text.

    ``${NAME}`` in values is replaced as :mod:`config.load` does.
    """
    from dotenv import dotenv_values

    try:
        if not path.is_file():
            return {}
        values = dotenv_values(path, encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    return {name: value for name, value in values.items() if value is not None}


def set_key(path: Path, name: str, value: str) -> None:
    """Set ``name`` in the file, or add it at the end; a missing file is made.

    All other bytes stay. Afterwards only the file's owner can read it. A symbolic link is followed.

    Raises:
        CredentialsError: The file cannot be read or written, or holds something that prevents the change.
        ValueError: ``name`` is no variable's name, or ``value`` has a line break or ``${``.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a variable")
    if re.search(r"[\r\n\0]|\$\{", value):
        raise ValueError("a value in .env cannot hold a line break or ${")
    text = _read(path) or ""
    parts, found = [], False
    for binding_name, original in _bindings(text):
        if binding_name == name:
            original, found = _with_value(original, value), True
        parts.append(original)
    new = "".join(parts)
    if not found:
        line_end = "\r\n" if "\r\n" in text else "\n"
        if new and not new.endswith(("\n", "\r")):
            new += line_end
        new += f"{name}={_quoted(value, '')}{line_end}"
    _write(path, text, new, {**_values(text), name: value})


def unset_key(path: Path, name: str) -> bool:
    """Take all lines that set ``name`` out of the file; returns whether there were any.

    Raises:
        CredentialsError: The file cannot be read or written, or holds something that prevents the change.
    """
    text = _read(path)
    if text is None:
        return False
    parts, found = [], False
    for binding_name, original in _bindings(text):
        if binding_name == name:
            found = True
            original = original[: len(original) - len(original.lstrip())]  # blank lines before it
            original = original[: original.rfind("\n") + 1]
        parts.append(original)
    if found:
        _write(path, text, "".join(parts), {k: v for k, v in _values(text).items() if k != name})
    return found


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise CredentialsError(f"{path} is not changed: it is not text in UTF-8; save it as such") from None
    except OSError as error:
        raise cannot("read", path, error) from None


def _bindings(text: str) -> list[tuple[str | None, str]]:
    """Name and original text of each piece of the file, in order; together they are the file."""
    from dotenv.parser import parse_stream

    mark = _BOM if text.startswith(_BOM) else ""  # python-dotenv takes it off
    pieces = [(binding.key, binding.original.string) for binding in parse_stream(io.StringIO(text))]
    return [(None, mark), *pieces] if mark else pieces


def _values(text: str) -> dict[str, str | None]:
    from dotenv import dotenv_values

    return dict(dotenv_values(stream=io.StringIO(text), interpolate=False))


def _with_value(original: str, value: str) -> str:
    match = _BINDING.fullmatch(original)
    if match is None:  # the check of the result would find it, but only after guessing
        return original
    quote = (match["quoted"] or "")[:1]
    remark = match["behind"] or match["after"] or ""
    return f"{match['head']}{match['equals'] or '='}{_quoted(value, quote)}{remark}{match['end']}"


def _quoted(value: str, quote: str) -> str:
    """``value`` in the given quotes, or in none where it needs none."""
    if not quote and _PLAIN.fullmatch(value):
        return value
    quote = quote or "'"
    escaped = value.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return f"{quote}{escaped}{quote}"


def _write(path: Path, old: str, new: str, expected: dict[str, str | None]) -> None:
    if _values(new) != expected:
        raise CredentialsError(
            f"{path} is not changed: a line in it cannot be kept as it is; "
            "correct its quotes, or edit it by hand"
        )
    if new == old and path.exists():
        return
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, new, private=True)
    except OSError as error:
        raise cannot("written", path, error) from None
