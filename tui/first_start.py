"""The first look round after the first paint: what must never be shown, and whether anything is set up."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_SEEN = "first-start.json"


def learn_secrets(folder: Path, environ: Mapping[str, str] | None = None) -> bool:
    """Keep the tokens that there are out of everything shown or logged; whether there are any.

    Reads a few small files; for a thread.

    Args:
        folder: The project's folder, whose ``.env`` may hold tokens.
        environ: The environment; the process's own if None.
    """
    from backend.credentials.hf_token import find_hf_token
    from backend.credentials.modal_profiles import find_modal_token
    from backend.credentials.redaction import redact_logging, remember_environment

    environ = os.environ if environ is None else environ
    remember_environment(environ)
    redact_logging()
    # Whatever is found is hidden from then on.
    found = find_modal_token(environ, folder), find_hf_token(environ, folder)
    return any(token is not None for token in found)


def is_first_start(root: Path, *, used: bool) -> bool:
    """Whether to show how to set things up: at the first start ever, if nothing was set up or trained yet.

    Says yes at most once for a data folder: the start is written down before it is said, and nothing is
    said if it cannot be written down.

    Args:
        root: The data folder.
        used: Whether there are runs or tokens.
    """
    from backend.files import write_json

    seen = root / _SEEN
    try:
        if seen.exists():
            return False
        seen.parent.mkdir(parents=True, exist_ok=True)
        write_json(seen, {"version": 1, "used": used})
    except OSError:
        return False
    return not used
