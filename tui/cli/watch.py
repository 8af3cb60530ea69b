"""``watch``: a run's progress, loss, warnings and log, inline; plain lines when nobody sees a terminal."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from backend.events import Event, Status
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.insight import RunInsight
from backend.runs.service import RunService
from backend.runs.watchdog import alarms
from tui.cli.report import printable
from tui.cli.watching import RunWatch
from tui.text import bar, clip, duration, number, one_line, pace, size

if TYPE_CHECKING:
    from rich.text import Text

    from backend.launchers.base import RunFacts, RunState

_LOOK = 0.5  # seconds between two looks at the run's files
_PLAIN = 10.0  # seconds between two lines of progress, where there is no terminal
_LOG_LINES = 8
_CHUNK = 256 * 1024
_SPARKS = "▁▂▃▄▅▆▇█"


def watch(run: str) -> int:
    """Watch a run until it ends; 0 if it finished or was stopped, 1 if it failed, 130 after Ctrl-C."""
    service = RunService()
    record = service.record_now(run)
    watcher = _Watcher(service, record)
    try:
        state = asyncio.run(watcher.live() if sys.stdout.isatty() else watcher.plain())
    except KeyboardInterrupt:
        print(f"not watching any more; run {record.id} goes on", file=sys.stderr)
        return 130
    reason = f": {printable(state.reason)}" if state.reason else ""
    print(f"run {record.id} {state.status}{reason}", flush=True)
    return 0 if state.status in (Status.FINISHED, Status.STOPPED) else 1


class _Watcher:
    def __init__(self, service: RunService, record: RunRecord) -> None:
        self.record = record
        self._watch = RunWatch(service, record)
        self._insight = RunInsight()
        self._losses: deque[float] = deque(maxlen=4096)
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)
        self._log_at = 0
        self._half = b""
        self._told = 0  # entries of the timeline that were printed
        self._warned: set[str] = set()

    def _look(self) -> tuple[list[Event], RunState, RunFacts]:
        fresh, state, facts = self._watch.look()
        self._insight.take(fresh)
        for event in fresh:
            loss = getattr(event, "smoothed", None)
            if loss is not None:
                self._losses.append(loss)
        return list(fresh), state, facts

    def _read_log(self) -> None:
        """Read on; of a long log only the end, since only the last lines are shown."""
        try:
            with RunFolder(self.record.path).log.open("rb") as file:
                end = file.seek(0, 2)
                file.seek(max(self._log_at, end - _CHUNK))
                data = self._half + file.read(_CHUNK)
                self._log_at = file.tell()
        except OSError:
            return
        *lines, self._half = data.split(b"\n")
        self._lines.extend(
            one_line(line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace"))
            for line in lines[-_LOG_LINES:]
        )

    # In a terminal

    async def live(self) -> RunState:
        """Redraw a few lines in place until the run ends."""
        from rich.console import Console
        from rich.live import Live

        console = Console(highlight=False, markup=False)
        with Live(console=console, auto_refresh=False, transient=False) as display:
            while True:
                _, state, facts = await asyncio.to_thread(self._look)
                await asyncio.to_thread(self._read_log)
                display.update(self._picture(state, facts, console.width), refresh=True)
                if state.status.ended:
                    return state
                await asyncio.sleep(_LOOK)

    def _picture(self, state: RunState, facts: RunFacts, width: int) -> Text:
        from rich.text import Text

        view = self._watch.view
        total = view.steps or self.record.steps
        counting = view.step > 0 or view.phase in (None, "training")
        done, of = (view.step, total) if counting else (view.phase_done, view.phase_total)
        filled, rest = bar(done / of if of else 0.0, max(10, min(40, width - 40)))
        doing = view.phase or str(state.status)
        parts = [
            Text.assemble(
                (f"{state.status} ", "bold"),
                clip(self.record.name, 50),
                (f"  {self.record.id} · {facts.where}", "dim"),
            ),
            Text.assemble((filled, "blue"), (rest, "dim"), f"  {doing} {done}/{of}" if of else f"  {doing}"),
            Text(" · ".join(self._numbers(facts))),
            Text(_sparkline(list(self._losses), min(width, 80)), style="blue"),
        ]
        parts += [Text(f"! {sentence}", style="yellow") for sentence in self._remarks(state, facts)]
        parts += [Text(line, style="dim") for line in self._lines]
        for part in parts:
            part.truncate(max(1, width - 1), overflow="ellipsis")
        return Text("\n").join(parts)

    def _numbers(self, facts: RunFacts) -> list[str]:
        view = self._watch.view
        found = [] if view.loss is None else [f"loss {number(view.smoothed)}"]
        if view.validation is not None:
            found.append(f"validation {number(view.validation.loss)}")
        if view.lr is not None:
            found.append(f"lr {view.lr:.3g}")
        if view.seconds_per_step:
            found.append(pace(view.seconds_per_step))
        left = None if view.status.ended else self._insight.eta.left(view.steps or self.record.steps)
        if left is not None:
            sure = f" ± {duration(left.plus_minus)}" if left.plus_minus >= 1 else ""
            found.append(f"{duration(left.seconds)}{sure} left")
        if view.memory:
            found.append(size(view.memory))
        if facts.dollars is not None:
            cap = f" of ${facts.budget:,.2f}" if facts.budget is not None else ""
            found.append(f"${facts.dollars:,.2f}{cap}")
        return found or ["no steps yet"]

    def _remarks(self, state: RunState, facts: RunFacts) -> list[str]:
        view = self._watch.view
        found = [f"{signal.text} {signal.hint}" for signal in self._insight.signals.found()]
        for alarm in alarms(view, state.status, time.time(), dollars=facts.dollars, budget=facts.budget):
            found.append(f"{alarm.text} {alarm.hint}")
        return found

    # In a pipe

    async def plain(self) -> RunState:
        """Print a line for what happens, and one for progress now and then."""
        next_progress = 0.0
        while True:
            _, state, facts = await asyncio.to_thread(self._look)
            entries = self._insight.timeline.entries
            for entry in entries[self._told :]:
                clock = time.strftime("%H:%M:%S", time.localtime(entry.t))
                print(f"{clock} step {entry.step} {entry.kind}: {one_line(entry.text)}")
            self._told = len(entries)
            for remark in self._remarks(state, facts):
                if (name := remark.split(" ", 3)[0:3].__str__()) not in self._warned:
                    self._warned.add(name)
                    print(f"{time.strftime('%H:%M:%S')} ! {one_line(remark)}")
            view = self._watch.view
            ended = state.status.ended
            if view.step and (ended or time.monotonic() >= next_progress):
                next_progress = time.monotonic() + _PLAIN
                total = view.steps or self.record.steps
                print(
                    f"{time.strftime('%H:%M:%S')} step {view.step}/{total} {' · '.join(self._numbers(facts))}"
                )
            sys.stdout.flush()
            if ended:
                return state
            await asyncio.sleep(_LOOK)


def _sparkline(values: list[float], width: int) -> str:
    """The values as a line of bars, the mean of as many as a cell has to hold."""
    good = [value for value in values if value == value and abs(value) != float("inf")]
    if len(good) < 2:
        return ""
    cells = min(width, len(good))
    cuts = [round(place * len(good) / cells) for place in range(cells + 1)]
    means = [sum(good[a:b]) / (b - a) for a, b in itertools.pairwise(cuts) if b > a]
    low, high = min(means), max(means)
    scale = (len(_SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_SPARKS[round((value - low) * scale)] for value in means)
