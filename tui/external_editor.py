"""A file in the user's own editor, while the app waits."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported

from tui.messages import OperationFailed

if TYPE_CHECKING:
    from textual.screen import Screen


def open_outside(screen: Screen[None], path: Path) -> bool:
    """Open a file in ``$VISUAL`` or ``$EDITOR`` while the app waits; False if that was not possible."""
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ("notepad" if os.name == "nt" else "vi")
    try:
        with screen.app.suspend():
            done = subprocess.run([*shlex.split(command, posix=os.name != "nt"), str(path)], check=False)
    except SuspendNotSupported:
        screen.notify("There is no terminal for an editor here.", severity="warning", markup=False)
        return False
    except (OSError, ValueError) as error:
        screen.post_message(OperationFailed(f"{command} cannot be started", f"{error}; set $EDITOR"))
        return False
    if done.returncode:
        screen.notify(f"{command} ended with code {done.returncode}.", severity="warning", markup=False)
    screen.refresh(layout=True)
    return True
