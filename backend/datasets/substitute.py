"""Regular expressions in a process of their own: one that never ends must not freeze the app.

Python's ``re`` cannot be interrupted and keeps the interpreter's lock, so a thread would not do.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from backend.datasets.errors import DatasetError

SECONDS = 5.0
_LONGEST = 64 * 2**20  # characters that all captions together may become


class PatternError(DatasetError):
    """A regular expression is wrong, or takes too long; the message is one sentence for people."""


def check_pattern(pattern: str, replacement: str) -> None:
    """Raise :class:`PatternError` if the pattern or the replacement is not valid."""
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(f"the pattern is not a regular expression: {error}") from None
    try:
        _template(compiled, replacement)
    except (re.error, IndexError) as error:
        raise PatternError(f"the replacement does not fit the pattern: {error}") from None


def _template(compiled: re.Pattern[str], replacement: str) -> None:
    """Parse a replacement without a match: an empty alternative always matches."""
    groups = "".join(
        f"(?P<{name}>)" if name else "()"
        for name in (
            {n: g for g, n in compiled.groupindex.items()}.get(i) for i in range(1, compiled.groups + 1)
        )
    )
    re.sub(f"{groups}", replacement, "", count=1)


def substitute(
    pattern: str,
    replacement: str,
    texts: Sequence[str],
    *,
    ignore_case: bool = False,
    seconds: float = SECONDS,
) -> list[str]:
    r"""Every text with all matches replaced, as ``re.sub`` does (``\1``, ``\g<name>``).

    Raises:
        PatternError: The pattern or the replacement is not valid, or it takes too long.
    """
    check_pattern(pattern, replacement)
    if not texts:
        return []
    flags = int(re.IGNORECASE) if ignore_case else 0
    work = json.dumps([pattern, replacement, flags, list(texts)])
    command = [sys.executable, "-P", "-m", "backend.datasets.substitute"]
    try:
        result = subprocess.run(
            command, input=work.encode(), capture_output=True, timeout=seconds, check=True
        )
    except subprocess.TimeoutExpired:
        raise PatternError(
            f"the pattern takes longer than {seconds:g} s on these captions; make it simpler "
            "(repetitions inside repetitions are slow)"
        ) from None
    except (subprocess.CalledProcessError, OSError):
        raise PatternError("the pattern cannot be used on these captions") from None
    answer: list[str] = json.loads(result.stdout)
    return answer


def _main() -> None:
    pattern, replacement, flags, texts = json.load(sys.stdin)
    compiled = re.compile(pattern, flags)
    found: list[str] = []
    total = 0
    for text in texts:
        found.append(compiled.sub(replacement, text))
        total += len(found[-1])
        if total > _LONGEST:
            raise SystemExit(1)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    _main()
