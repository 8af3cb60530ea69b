"""What must happen before Textual is imported, so that the first paint comes soon.

Nothing here may import Textual or anything slow: Textual reads its environment once, at import.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator, MutableMapping

SLOW_LINK_FPS = "15"


def calm_over_ssh(environ: MutableMapping[str, str]) -> None:
    """Ask Textual for fewer frames and no animation on a remote terminal.

    The user's own ``TEXTUAL_FPS`` and ``TEXTUAL_ANIMATIONS`` win.
    """
    if environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"):
        environ.setdefault("TEXTUAL_FPS", SLOW_LINK_FPS)
        environ.setdefault("TEXTUAL_ANIMATIONS", "none")


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Import modules without garbage collection in between: nearly all they make stays alive.

    The collector is left off; :func:`settle` turns it on again after the first paint.
    """
    calm_over_ssh(os.environ)
    gc.disable()
    yield


def settle() -> None:
    """Take up garbage collection again; what start-up made is exempt from every later scan."""
    gc.freeze()
    gc.enable()
