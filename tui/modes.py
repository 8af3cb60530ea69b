"""The app's screens that a number key opens. A new screen is one more row here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from textual.screen import Screen


class Mode(NamedTuple):
    """One main screen.

    Attributes:
        name: The mode's name for Textual.
        key: The key that opens it from everywhere.
        title: Its word in the bar at the top.
        tooltip: A sentence for the help screen.
        screen: ``module:class``, imported when the screen is first opened.
    """

    name: str
    key: str
    title: str
    tooltip: str
    screen: str


MODE_TABLE = (
    Mode("jobs", "1", "Jobs", "All runs, as they are now.", "tui.screens.jobs:JobsScreen"),
    Mode(
        "monitor",
        "2",
        "Monitor",
        "One run's log, loss and samples, live.",
        "tui.screens.monitor:MonitorScreen",
    ),
    Mode("cloud", "3", "Cloud", "All runs of the Modal workspace.", "tui.screens.cloud:CloudScreen"),
    Mode(
        "datasets",
        "4",
        "Datasets",
        "Pictures and captions: seen, checked, mended.",
        "tui.screens.datasets:DatasetsScreen",
    ),
    Mode(
        "configs",
        "5",
        "Configs",
        "Training configs, as text or as a form.",
        "tui.screens.configs:ConfigsScreen",
    ),
    Mode("setup", "9", "Setup", "What a launch needs, checked and mended.", "tui.screens.setup:SetupScreen"),
)


def make_screen(mode: Mode) -> Screen[Any]:
    """A new screen for ``mode``."""
    module, _, name = mode.screen.partition(":")
    screen: Screen[Any] = getattr(import_module(module), name)()
    return screen
