"""What is shown when the app fails: where, and nothing of what was typed."""

from __future__ import annotations

import traceback
from pathlib import Path

from rich.text import Text


def crash_report(root: Path) -> Text:
    """The present exception without local variables and without tokens; also kept as ``crash.txt``."""
    from backend.credentials.redaction import redact
    from backend.files import write_text

    said = redact(traceback.format_exc())
    details = "".join(char if char == "\n" or char.isprintable() else "?" for char in said)
    path = root / "crash.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, details, private=True)
        kept = f"It is kept in {path}; please report it."
    except OSError:
        kept = "Please report it."
    last = details.strip().splitlines()[-1]
    return Text(f"{details}\nfluxlora-tui failed: {last}\n{kept} Runs go on without the app.")
