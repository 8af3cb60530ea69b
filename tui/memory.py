"""How the process keeps its memory small over days."""

from __future__ import annotations

import sys

_ARENA_MAX = -8  # M_ARENA_MAX of <malloc.h>


def share_one_arena() -> bool:
    """Have glibc serve all threads from one pool of memory; whether it was told.

    Otherwise every thread that reads a log or a file gets a pool of its own, which keeps what was once
    needed at the same time: megabytes each, more the busier the machine is. Python's lock lets one thread
    allocate at a time anyway. Other systems' allocators do not do that, or cannot be told.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None).mallopt(_ARENA_MAX, 1))
    except (OSError, AttributeError):  # no glibc
        return False
