"""Writing lines of a log to a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backend.files import atomic_file
from tui.logs.lines import visible_text
from tui.logs.store import LogStore


def write_lines(store: LogStore, path: Path, numbers: Sequence[int] | None = None) -> int:
    """Write the whole lines of a log as they are shown, without colours.

    Args:
        store: The log.
        path: The file, which is replaced at the end.
        numbers: Only these lines, in order; None for all.

    Returns:
        How many lines were written.

    Raises:
        OSError: The file cannot be written.
    """
    wanted = set(numbers) if numbers is not None else None
    count = 0
    with atomic_file(path) as file:
        for number, chunk in store.chunks(store.first):
            lines = visible_text(chunk.decode("utf-8", "replace")).split("\n")[: chunk.count(b"\n")]
            for index, text in enumerate(lines):
                if wanted is None or number + index in wanted:
                    file.write(text.encode("utf-8", "replace") + b"\n")
                    count += 1
        last = store.stop - 1
        if store.stop > store.complete and (wanted is None or last in wanted):
            file.write(store.line(last).text.encode("utf-8", "replace") + b"\n")
            count += 1
    return count
