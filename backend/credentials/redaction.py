"""Known secrets are taken out of everything that is logged, stored or shown.

Two nets: every value that was ever wrapped in a :class:`~backend.credentials.secret.Secret` in this process
or named like a secret in the environment, whatever its shape; and everything with the shape of a token.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from config.secrets import HIDDEN, hide_tokens

# Shorter values are words or numbers that stand in many lines by chance.
_SHORTEST = 8
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIAL", re.IGNORECASE)
_PLACE_NAME = re.compile(r"(PATH|FILE|DIR|NAME|PARALLELISM)$", re.IGNORECASE)  # HF_TOKEN_PATH is no secret

_lock = threading.Lock()
_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def remember(*values: str) -> None:
    """From now on, hide these values wherever they stand; values under 8 characters are left out."""
    global _pattern
    new = {form for value in values if len(value.strip()) >= _SHORTEST for form in _forms(value.strip())}
    with _lock:
        if new <= _known:
            return
        _known.update(new)
        # The longest first: a secret that begins like another one is hidden to its end.
        _pattern = re.compile("|".join(map(re.escape, sorted(_known, key=len, reverse=True))))


def remember_environment(env: Mapping[str, str] | None = None) -> None:
    """Hide the values of all variables that are named like secrets (``…TOKEN``, ``…API_KEY``, …).

    ``env`` is the process's environment if None.
    """
    variables = os.environ if env is None else env
    remember(
        *(
            value
            for name, value in variables.items()
            if _SECRET_NAME.search(name) and not _PLACE_NAME.search(name)
        )
    )


def _forms(value: str) -> Iterable[str]:
    """The value as it is, and as JSON, a Python literal and a web address write it."""
    return {value, json.dumps(value)[1:-1], repr(value)[1:-1], quote(value, safe="")}


def redact(text: str) -> str:
    """``text`` with every known secret, and everything that looks like a token, replaced."""
    pattern = _pattern
    if pattern is not None:
        text = pattern.sub(HIDDEN, text)
    return hide_tokens(text)


def redact_data(value: Any) -> Any:
    """A copy of plain data (dicts, lists, strings, numbers) with :func:`redact` applied to every string."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(key) if isinstance(key, str) else key: redact_data(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact_data(item) for item in value]
    return value


class RedactingFilter(logging.Filter):
    """Takes secrets out of log records: message, arguments, traceback and stack.

    A logger's filters do not see what its children log, a handler's filters do: add it to handlers.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; it is always let through."""
        try:
            message = record.getMessage()
        except Exception:  # a wrong format string must not lose the line, nor its arguments slip through
            message = f"{record.msg} {record.args!r}"
        record.msg, record.args = redact(message), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            # Formatters print the text; the exception itself would be formatted once more, in full.
            record.exc_text, record.exc_info = redact(record.exc_text), None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True


def redact_logging(*loggers: logging.Logger) -> None:
    """Add a :class:`RedactingFilter` to all handlers of these loggers, of the root and of last resort."""
    handlers = [handler for logger in (logging.getLogger(), *loggers) for handler in logger.handlers]
    if logging.lastResort is not None:
        handlers.append(logging.lastResort)
    for handler in handlers:
        if not any(isinstance(known, RedactingFilter) for known in handler.filters):
            handler.addFilter(RedactingFilter())
