"""Dangerous regular expressions in a process of their own, which can be ended when one takes too long."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence

SECONDS = 2.0
"""How long the lines of one chunk (about 256 KiB) may take."""


class TooSlow(Exception):  # noqa: N818 - says what the pattern is
    """The pattern took longer than it may; its process is gone."""


class PatternProcess:
    """Searches lines for one pattern in a child process; for any thread.

    The process starts with the first lines and ends with this object.

    Args:
        pattern: What is searched for.
        seconds: How long the lines of one call may take.
    """

    def __init__(self, pattern: re.Pattern[str], seconds: float = SECONDS) -> None:
        self._pattern = pattern
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def search(self, lines: Sequence[str]) -> list[int]:
        """The indices of the lines in which the pattern occurs.

        Raises:
            TooSlow: It took too long, or the process could not do it.
        """
        with self._lock:
            try:
                process = self._started()
                return self._ask(process, json.dumps(list(lines)))
            except (OSError, ValueError):
                self.close()
                raise TooSlow from None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tui.logs.pattern_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="ascii",
            )
            weakref.finalize(self, _end, self._process)
            # Starting Python does not count as the pattern's time.
            self._ask(self._process, json.dumps([self._pattern.pattern, self._pattern.flags]), 30.0)
        return self._process

    def _ask(self, process: subprocess.Popen[str], words: str, seconds: float | None = None) -> list[int]:
        # A pipe cannot be read with a time limit everywhere; its end can be brought about everywhere.
        timer = threading.Timer(seconds or self._seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(words + "\n")
            process.stdin.flush()
            answer: list[int] = json.loads(process.stdout.readline())
            return answer
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the process; another search starts one again."""
        if self._process is not None:
            _end(self._process)
            self._process = None


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was not written yet is of no use any more
                continue


def _main() -> None:
    source, flags = json.loads(sys.stdin.readline())
    found = re.compile(source, flags).search
    print("[]", flush=True)
    for words in sys.stdin:
        print(json.dumps([n for n, line in enumerate(json.loads(words)) if found(line)]), flush=True)


if __name__ == "__main__":
    _main()
