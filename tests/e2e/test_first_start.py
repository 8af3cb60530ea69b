"""A first start in a real terminal: it opens on Setup, and a paste of several lines arrives whole."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .terminal import Terminal

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")]

COMMAND = (
    "modal token set \\\r\n  --token-id ak-Qq1Ww2Ee3Rr4Tt5Yy6Uu7i \\\r\n"
    "  --token-secret as-Pp1Oo2Ii3Uu4Yy5Tt6Rr7e\r\n"
)


def test_a_newcomer_lands_on_setup_once(open_terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    own = {
        "HF_HOME": str(tmp_path / "hf"),
        "MODAL_CONFIG_PATH": str(tmp_path / "modal.toml"),
        "MODAL_SERVER_URL": "http://127.0.0.1:9",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "SSH_CONNECTION": "a test",
    }
    terminal = open_terminal(columns=80, rows=24, **own)
    terminal.wait_for("Welcome")
    terminal.wait_for("there is no Modal token", 60)
    terminal.press("j", "j", "\r")
    terminal.wait_for("Paste the command")
    terminal.press(f"\x1b[200~{COMMAND}\x1b[201~")
    terminal.wait_for("a token, ak-…Uu7i")
    assert "as-Pp1" not in terminal.text()
    terminal.press("\r")
    terminal.wait_for("Press enter again")
    terminal.press("\r")
    terminal.wait_for("not verified", 60)
    assert "as-Pp1Oo2Ii3Uu4Yy5Tt6Rr7e" in (tmp_path / "modal.toml").read_text(encoding="utf-8")
    terminal.press("q")
    assert terminal.wait_for_end() == 0
    (tmp_path / "modal.toml").unlink()  # nothing is set up again, but this is no first start
    again = open_terminal(columns=80, rows=24, **own)
    again.wait_for("No runs yet")
    again.press("q")
    assert again.wait_for_end() == 0
