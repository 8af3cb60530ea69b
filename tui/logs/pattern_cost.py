"""How long a regular expression may take at most, told from its form before it runs.

Python's ``re`` backtracks, cannot be interrupted and keeps the interpreter's lock, so a pattern like
``(a+)+$`` would freeze the app. The bound is the usual one of backtracking matchers: every repetition that
has something after it may end at any of a line's characters, and those in others multiply for ever.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

CHEAP = 1e7
"""Steps that a line may take where others wait for it: about a tenth of a second at the very worst."""


@lru_cache(maxsize=64)
def growth(source: str) -> tuple[float, float]:
    """How the cost of searching a line grows with its length.

    Args:
        source: A pattern that compiles.

    Returns:
        ``(factor, degree)``: at most about ``factor * length ** degree`` steps; an infinite degree if it
        may be exponential.
    """
    try:
        # Since 3.11 the parser has no public name; without one every pattern counts as dangerous.
        tree: Any = re._parser.parse(source)  # type: ignore[attr-defined]
    except Exception:
        return 1.0, math.inf
    items = list(tree)
    repeats = list(_repeats(items, inside=False))
    # What ends the pattern succeeds with the first end it tries.
    if repeats and items and items[-1][1] is repeats[-1][0]:
        repeats.pop()
    factor, degree = 1.0, 1.0  # a search begins at every character
    for (low, high, _), nested in repeats:
        if nested:
            return 1.0, math.inf
        width = int(high) - int(low) + 1
        if width > 8:
            degree += 1
        else:
            factor *= width
    return factor, degree


def is_cheap(source: str, length: int) -> bool:
    """Whether searching a line of ``length`` characters never takes noticeable time."""
    factor, degree = growth(source)
    if math.isinf(degree):
        return False
    return bool(factor * float(max(1, length)) ** min(degree, 30.0) <= CHEAP)


def _repeats(items: Any, *, inside: bool) -> Iterator[tuple[Any, bool]]:
    """Every choice of how often or which way: its bounds, and whether it stands in a repetition."""
    for operation, argument in items:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            low, high, body = argument
            if low != high:
                yield argument, inside
            yield from _repeats(body, inside=inside or int(high) > 1)
        elif name == "BRANCH":
            yield (0, min(len(argument[1]), 8) - 1, None), inside
            for body in argument[1]:
                yield from _repeats(body, inside=inside)
        elif name == "SUBPATTERN":
            yield from _repeats(argument[3], inside=inside)
        elif name in ("ASSERT", "ASSERT_NOT"):
            yield from _repeats(argument[1], inside=inside)
        elif name == "ATOMIC_GROUP":
            yield from _repeats(argument, inside=inside)
        elif name == "GROUPREF_EXISTS":
            for body in argument[1:]:
                yield from _repeats(body or (), inside=inside)
