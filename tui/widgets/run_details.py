"""A few lines about the run under the cursor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widget import Widget

from tui.runs.place import place_name
from tui.runs.status import RESUMABLE, is_live, look
from tui.text import clip, duration, one_line

if TYPE_CHECKING:
    from tui.services import RunRow


def hint(run: RunRow) -> str:
    """What to do next with a run that stands still; empty if nothing."""
    if run.status not in RESUMABLE:
        return ""
    # Only a run that was asked to stop has saved its very last step.
    return f"press r to resume from step {run.step}" if run.status == "stopped" else "press r to resume"


class RunDetails(Widget):
    """What does not fit into the table's row: id, place, start, reason."""

    DEFAULT_CSS = """
    RunDetails { height: 3; padding: 0 2; color: $text-muted; }
    """

    def __init__(self) -> None:
        super().__init__(id="details")
        self._run: RunRow | None = None

    def show_run(self, run: RunRow | None) -> None:
        """Show ``run``, or nothing."""
        if run != self._run:
            self._run = run
            self.refresh()

    def render(self) -> Content:
        """Three lines: what and since when, where, and why it stands or what to do."""
        run, width = self._run, self.content_size.width
        if run is None:
            return Content("")
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created))
        took = duration(max(0.0, run.updated - run.created))
        span = f"{took} so far" if is_live(run.status) else f"ended after {took}"
        cost = "" if run.dollars is None else f" · ${run.dollars:,.2f}"
        tags = f" · {' '.join(f'#{one_line(tag)}' for tag in run.tags)}" if run.tags else ""
        facts = f"{run.id} · {one_line(place_name(run.backend))} · started {started} · {span}{cost}{tags}"
        style = look(run.status).style
        reason = one_line(run.reason or "")
        todo = hint(run)
        last = " · ".join(part for part in (reason, todo) if part)
        if len(last) > width and reason and todo:  # the reason may be cut, what to do may not
            last = f"{clip(reason, max(8, width - len(todo) - 3))} · {todo}"
        return Content("\n").join(
            (
                Content(clip(facts, width)),
                Content(clip(str(run.path), width)),
                Content.styled(clip(last, width), style),
            )
        )
