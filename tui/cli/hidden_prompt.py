"""A prompt that shows nothing of what is typed or pasted, over several lines if need be."""

from __future__ import annotations

import contextlib
import getpass
import sys
from collections.abc import Callable, Iterator

_MOST_LINES = 12  # a command that was copied with its line breaks has four or five
_QUIET = 0.1  # seconds without input after which a paste is over


def read_hidden(prompt: str, wants_more: Callable[[str], bool]) -> str:
    """Lines from the terminal, hidden, for as long as ``wants_more`` says so of what came until then.

    An empty line or the end of the input ends it too. What is left of a paste is thrown away, so that the
    shell does not run it.

    Args:
        prompt: What to ask for; a colon follows.
        wants_more: Told the text so far; whether it lacks something.
    """
    text = ""
    with _hidden(prompt) as read_line:
        for _ in range(_MOST_LINES):
            line = read_line()
            if not line.strip():
                break
            text += line
            if not wants_more(text):
                break
    return text


@contextlib.contextmanager
def _hidden(prompt: str) -> Iterator[Callable[[], str]]:
    """A function that reads a line; the terminal shows nothing while the block runs."""
    try:
        import termios
    except ImportError:  # Windows: key by key, never shown
        first = [f"{prompt}: "]
        yield lambda: getpass.getpass(first.pop() if first else "") + "\n"
        return
    # getpass would do for one line, but it throws away what was typed ahead: the rest of a paste.
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    silent = termios.tcgetattr(terminal)
    silent[3] &= ~(termios.ECHO | termios.ECHONL)
    try:
        termios.tcsetattr(terminal, termios.TCSADRAIN, silent)
        print(f"{prompt}: ", end="", file=sys.stderr, flush=True)
        yield sys.stdin.readline
    finally:
        _throw_away_the_rest(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        print(file=sys.stderr)


def _throw_away_the_rest(terminal: int) -> None:
    import os
    import select

    with contextlib.suppress(OSError):
        while select.select([terminal], [], [], _QUIET)[0] and os.read(terminal, 4096):
            pass
