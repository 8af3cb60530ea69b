"""Opens a file with the program that the desktop uses for it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tui.browser import has_browser


def viewer_command(path: Path, environ: Mapping[str, str], platform: str = sys.platform) -> list[str] | None:
    """The command that opens ``path`` in front of the user; None where there is no desktop."""
    if not has_browser(environ, platform):
        return None
    if platform == "darwin":
        return ["open", str(path)]
    if platform == "win32":
        return ["explorer", str(path)]
    program = shutil.which("xdg-open", path=environ.get("PATH"))
    return [program, str(path)] if program else None


async def open_file(path: Path, environ: Mapping[str, str] | None = None) -> bool:
    """Open a file that exists; whether that was tried."""
    command = viewer_command(path, os.environ if environ is None else environ)
    if command is None:
        return False
    try:
        await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    return True
