from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.terminal import Terminal

COMMAND = (sys.executable, "-m", "tui")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has just installed the app: a data folder with nothing in it."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "SYSTEMROOT")}
    return {
        **kept,
        "FLUXLORA_HOME": str(tmp_path / "home"),
        "TEXTUAL_ANIMATIONS": "none",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def open_terminal(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Run ``fluxlora-tui`` with some arguments in a terminal of its own."""
    if sys.platform == "win32":
        pytest.skip("needs a pty")
    from tests.e2e.terminal import Terminal

    opened: list[Terminal] = []

    def start(*arguments: str, columns: int = 120, rows: int = 36, **env: str) -> Terminal:
        terminal = Terminal(
            (*COMMAND, *arguments), columns=columns, rows=rows, env={**environment, **env}, cwd=tmp_path
        )
        opened.append(terminal)
        return terminal

    yield start
    for terminal in opened:
        terminal.close()
