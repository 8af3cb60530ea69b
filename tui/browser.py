"""Web pages: opened in the user's browser where there is one, and copied to the clipboard."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping


def has_browser(environ: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a page that is opened here would come up in front of the user.

    Over SSH it would open on the wrong machine, and without a display in this very terminal.
    """
    if environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"):
        return False
    if platform in ("win32", "darwin"):
        return True
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY") or environ.get("WSL_DISTRO_NAME"))


async def open_page(url: str, environ: Mapping[str, str] | None = None) -> bool:
    """Open a web page; whether it was tried.

    In a process of its own, without a terminal: browsers write to it, and some wait to be closed.
    """
    environ = os.environ if environ is None else environ
    if not url.startswith(("https://", "http://")) or not has_browser(environ):
        return False
    with contextlib.suppress(OSError):
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "webbrowser",
            url,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        return True
    return False
