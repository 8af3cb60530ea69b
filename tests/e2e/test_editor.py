"""The editor in a real terminal: a crash in the middle of typing loses two seconds of it at the most."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from config.presets import preset_text

if TYPE_CHECKING:
    from .terminal import Terminal

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.waits,
    pytest.mark.skipif(sys.platform == "win32", reason="needs a pty"),
]


def typed_in(folder: Path) -> str:
    """What the drafts hold of the line that is typed."""
    texts = [file.read_text(encoding="utf-8") for file in (folder / "home" / "drafts").glob("*.json")]
    return texts[0].partition("# typed ")[2] if texts else ""


def test_a_kill_in_the_middle_of_typing_loses_two_seconds_at_most(
    open_terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    text = preset_text("character")
    (tmp_path / "fox.yaml").write_text(text, encoding="utf-8")
    own = {
        "HF_HOME": str(tmp_path / "hf"),
        "MODAL_CONFIG_PATH": str(tmp_path / "modal.toml"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "MODAL_SERVER_URL": "http://127.0.0.1:9",
    }
    (tmp_path / "home").mkdir()
    terminal = open_terminal(**own)
    terminal.wait_for("Jobs")
    terminal.press("5")
    terminal.wait_for("my_character", 60)
    terminal.press("\r")
    terminal.wait_for("job: extension", 60)
    terminal.wait_for("1 error", 60)
    terminal.press("# typed ")
    typed: list[tuple[float, int]] = []  # when so many letters had been sent
    for number in range(1, 31):  # three seconds of typing
        terminal.press("x")
        typed.append((time.monotonic(), number))
        time.sleep(0.1)
    deadline = time.monotonic() + 30
    early = next(count for at, count in reversed(typed) if at <= typed[-1][0] - 2)
    while typed_in(tmp_path).count("x") < early and time.monotonic() < deadline:
        time.sleep(0.02)
    terminal.kill()
    assert (tmp_path / "fox.yaml").read_text(encoding="utf-8") == text
    kept = typed_in(tmp_path).partition("A person")[0].count("x")
    assert kept >= early
    again = open_terminal(**own)
    again.wait_for("Jobs")
    again.press("5")
    again.wait_for("a draft waits", 60)
    again.press("\r")
    again.wait_for("typed " + "x" * early, 60)
    again.press("\x11")
    assert again.wait_for_end() == 0
