"""What the app's parts tell each other, in the past tense.

``RunsChanged`` travels by a signal to every screen that shows runs. The others are Textual messages
that bubble up to the app; Textual marks a message while it travels, so those cannot be frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from tui.services import RunRow


@dataclass(frozen=True)
class RunsChanged:
    """The table of runs has new content; ``live`` is False for the last session's table."""

    runs: tuple[RunRow, ...]
    live: bool


@dataclass(eq=False)
class RunChosen(Message):
    """The user wants to see a run."""

    run_id: str


@dataclass(eq=False)
class RunStarted(Message):
    """A new run was launched."""

    run_id: str


@dataclass(eq=False)
class OperationFailed(Message):
    """Something the user asked for did not work; ``reason`` is a sentence for people."""

    title: str
    reason: str


@dataclass(eq=False)
class EditConfig(Message):
    """The user wants to edit a config file, to start a run with it."""

    path: Path
