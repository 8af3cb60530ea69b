"""Tells the user, wherever in the app and on the desktop, what has become of runs."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tui.desktop_notice import notice, notice_kind
from tui.runs.status import is_live
from tui.text import clip

if TYPE_CHECKING:
    from textual.app import App

    from tui.messages import RunsChanged
    from tui.services import RunRow

Severity = Literal["information", "warning", "error"]
_NEARLY = 0.9  # of the budget


@dataclass(frozen=True)
class Notice:
    """Something that a user who looks elsewhere wants to know."""

    title: str
    text: str
    severity: Severity = "information"


class RunNotices:
    """Compares each table of runs with the one before; what was so at the start is no news."""

    def __init__(self) -> None:
        self._status: dict[str, str] = {}
        self._nan: set[str] = set()
        self._budget: set[str] = set()
        self._begun = False

    def news(self, runs: Sequence[RunRow]) -> list[Notice]:
        """What has happened since the last call."""
        found = [notice for run in runs for notice in self._of(run)]
        self._status = {run.id: str(run.status) for run in runs}
        known = self._status.keys()
        self._nan &= known
        self._budget &= known
        if not self._begun:
            self._begun = True
            return []
        return found

    def _of(self, run: RunRow) -> Iterator[Notice]:
        name, before, now = clip(run.name, 40), self._status.get(run.id), str(run.status)
        live = is_live(now)
        if before is not None and is_live(before) and not live:
            reason = f": {run.reason}" if run.reason else ""
            if now == "finished":
                yield Notice(name, f"finished: all {run.steps} steps are done")
            elif now == "stopped":
                severity: Severity = "warning" if reason else "information"
                yield Notice(name, f"stopped at step {run.step}{reason}", severity)
            else:
                yield Notice(name, f"{now} at step {run.step}{reason}", "error")
        if run.loss is not None and not math.isfinite(run.loss):
            if run.id not in self._nan and live:
                yield Notice(name, f"the loss of step {run.step} is not a number", "error")
            self._nan.add(run.id)
        else:
            self._nan.discard(run.id)
        if live and run.budget and run.dollars is not None and run.dollars >= _NEARLY * run.budget:
            if run.id not in self._budget:
                spent = f"${run.dollars:,.2f} of the budget of ${run.budget:,.2f} is spent"
                yield Notice(name, spent, "warning")
            self._budget.add(run.id)


class Herald:
    """Shows notices: a toast, the bell, and on the desktop where the terminal can.

    Args:
        app: Shows them.
        desktop: Whether the desktop is told too.
    """

    def __init__(self, app: App[Any], *, desktop: bool = True) -> None:
        self._app = app
        self._desktop = desktop
        self._notices = RunNotices()

    def take(self, change: RunsChanged) -> None:
        """Tell what is new in the table of runs."""
        if not change.live:
            return
        self.tell(self._notices.news(change.runs))

    def tell(self, news: Sequence[Notice]) -> None:
        """Show notices, wherever the user is."""
        for one in news:
            self._app.notify(one.text, title=one.title, severity=one.severity, timeout=10, markup=False)
        if news:
            self._app.bell()
            self._show_on_desktop(news)

    def _show_on_desktop(self, news: Sequence[Notice]) -> None:
        from backend.credentials.redaction import redact

        driver = self._app._driver  # Textual has no public way to send a sequence that it does not know
        if not self._desktop or driver is None or driver.is_headless:
            return
        kind = notice_kind(os.environ, is_tty=sys.__stderr__ is not None and sys.__stderr__.isatty())
        for one in news if kind else ():
            driver.write(notice(kind, redact(one.title), redact(one.text)))
