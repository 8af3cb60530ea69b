"""``python -m …leash MODULE ARGUMENTS``: run a module that must not outlive the process that started it.

When a container's main process is killed, the kernel ends the trainer with it (Linux): nothing trains on
that nobody watches and nobody commits.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the module."""
    _tie()
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _tie() -> None:
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):  # a sandbox may not know it
        return
    parent = os.environ.pop("FLUXLORA_LEASH", None)
    if parent is not None and os.getppid() != int(parent):
        os._exit(1)  # it died while we were being started


if __name__ == "__main__":
    main()
