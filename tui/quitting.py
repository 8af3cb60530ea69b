"""Whether leaving the app needs a question, and which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui.runs.place import LABEL
from tui.text import plural

if TYPE_CHECKING:
    from tui.screens.confirm import Question


def quit_question(going: int, busy: Sequence[str], *, stand_in: bool = False) -> Question | None:
    """The question to ask before the app closes; None if nothing is under way.

    Args:
        going: Number of runs that go on by themselves.
        busy: Requests that are on their way, such as ``starting demo.yaml``.
        stand_in: Whether the runs train on a stand-in for Modal, which ends with the app.
    """
    from tui.screens.confirm import Question

    lines = []
    if going:
        goes = "goes" if going == 1 else "go"
        lines.append(
            f"{plural(going, 'run')} on the {LABEL} will be ended: it closes with the app."
            if stand_in
            else f"{plural(going, 'run')} {goes} on without the app. Open it again at any time to watch."
        )
    if busy:
        lines.append(f"Still {', '.join(busy)}: leaving now may cut that short.")
    if not lines:
        return None
    return Question("Leave fluxlora-tui?", "\n".join(lines), yes="Leave", no="Stay", danger=bool(busy))
