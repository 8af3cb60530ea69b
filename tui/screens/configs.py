"""Configs: the screen is under way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from textual.widgets import Static

from tui.messages import RunsChanged
from tui.screens.base import MainScreen

if TYPE_CHECKING:
    from textual.widget import Widget


class ConfigsScreen(MainScreen):
    """Configs."""

    MODE = "configs"

    def compose_body(self) -> Iterable[Widget]:
        """Nothing yet."""
        yield Static("")

    def show_runs(self, change: RunsChanged) -> None:
        """Runs are not shown here."""
