"""How many lines a second the log pane takes in, beside Textual's own Log and RichLog in the same run.

Run ``python -m benchmarks.log``. Every widget fills a 120x36 screen, gets the same 95-byte lines in the
same chunks from the event loop, and counts as done when its last line is on the screen. A probe measures
how late the loop comes to a timer meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from textual import events
from textual.app import App, ComposeResult
from textual.widgets import Log, RichLog  # noqa: TID251 - to compare with

from tui.logs.levels import Level
from tui.logs.search import Query, search
from tui.logs.store import LogStore
from tui.widgets.log_pane import LogPane
from tui.widgets.log_view import LogView

if TYPE_CHECKING:
    from textual.widget import Widget

LINE = "2026-01-01 12:00:{:02d} INFO trainer: step {:>7} loss=0.12345 lr=1.00e-04 grad_norm=0.2345 ok"
CHUNK = 500


class OneWidget(App[None]):
    """A screen filled by one widget."""

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget

    def compose(self) -> ComposeResult:
        """The widget."""
        yield self.widget


@dataclass
class Result:
    """What one widget did."""

    name: str
    lines: int
    seconds: float
    memory: float
    lags: list[float]

    @property
    def rate(self) -> float:
        """Lines a second."""
        return self.lines / self.seconds

    def __str__(self) -> str:
        lags = sorted(self.lags) or [0.0]
        p95 = lags[min(len(lags) - 1, int(len(lags) * 0.95))]
        return (
            f"{self.name:<12} {self.lines:>9,} lines {self.seconds:7.2f} s {self.rate:>11,.0f} lines/s"
            f"  memory {self.memory:+7.1f} MiB  loop lag p50 {statistics.median(lags):5.1f}"
            f"  p95 {p95:6.1f}  max {lags[-1]:6.1f} ms"
        )


def make_chunks(lines: int) -> list[str]:
    """The log, ``CHUNK`` lines at a time."""
    return [
        "".join(LINE.format(n % 60, n) + "\n" for n in range(start, min(start + CHUNK, lines)))
        for start in range(0, lines, CHUNK)
    ]


async def _probe(lags: list[float]) -> None:
    while True:
        start = time.perf_counter()
        await asyncio.sleep(0.005)
        lags.append((time.perf_counter() - start - 0.005) * 1000)


async def measure(
    name: str,
    widget: Widget,
    chunks: list[str],
    feed: Callable[[str], object],
    done: Callable[[], bool],
    rate: float | None = None,
) -> Result:
    """Feed everything, flat out or at ``rate`` lines a second, and wait until it is shown."""
    process = psutil.Process()
    lags: list[float] = []
    async with OneWidget(widget).run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        before = process.memory_info().rss
        probe = asyncio.create_task(_probe(lags))
        start = time.perf_counter()
        fed = 0
        for chunk in chunks:
            feed(chunk)
            fed += CHUNK
            ahead = fed / rate - (time.perf_counter() - start) if rate else 0.0
            await asyncio.sleep(max(0.0, ahead))
        while not done():  # noqa: ASYNC110 - what is on the screen sets no event
            await asyncio.sleep(0.001)
        seconds = time.perf_counter() - start
        probe.cancel()
        memory = (process.memory_info().rss - before) / 2**20
    return Result(name, fed, seconds, memory, lags)


async def pane(chunks: list[str], rate: float | None = None) -> Result:
    """Our pane."""
    widget = LogPane()
    last = chunks[-1].rstrip("\n").rsplit("\n", 1)[-1]

    def shown() -> bool:
        view = widget.query_one(LogView)
        rows = view.viewport.rows
        return bool(rows) and view.render_line(len(rows) - 1).text.rstrip() == last

    name = "LogPane" if rate is None else f"at {rate:,.0f}/s"
    data = {id(chunk): chunk.encode() for chunk in chunks}
    return await measure(name, widget, chunks, lambda chunk: widget.feed(data[id(chunk)]), shown, rate)


async def textual_log(chunks: list[str]) -> Result:
    """Textual's Log, with a bounded number of lines."""
    widget = Log(max_lines=10_000)
    count = sum(chunk.count("\n") for chunk in chunks)
    return await measure("Log", widget, chunks, widget.write, lambda: widget.line_count >= min(count, 9_999))


async def rich_log(chunks: list[str]) -> Result:
    """Textual's RichLog, with a bounded number of lines."""
    widget = RichLog(max_lines=10_000)
    count = sum(chunk.count("\n") for chunk in chunks)
    return await measure(
        "RichLog",
        widget,
        chunks,
        lambda chunk: [widget.write(line) for line in chunk.splitlines()],
        lambda: len(widget.lines) >= min(count, 10_000),
    )


async def measure_keys(chunks: list[str], rate: float) -> None:
    """Milliseconds from a key to the row that it moved to, while lines come at ``rate`` a second."""
    widget = LogPane()
    data = [chunk.encode() for chunk in chunks]
    times: list[float] = []
    async with OneWidget(widget).run_test(size=(120, 36)) as pilot:
        widget.focus()
        widget.feed(data[0] * 10)
        await pilot.pause()

        async def feed() -> None:
            start = time.perf_counter()
            for number, chunk in enumerate(data):
                widget.feed(chunk)
                await asyncio.sleep(max(0.0, (number + 1) * CHUNK / rate - (time.perf_counter() - start)))

        feeding = asyncio.create_task(feed())
        view = widget.query_one(LogView)
        number = 0
        while not feeding.done():
            key, number = ("up", "down")[number % 2], number + 1
            before = widget.viewport.rows[0] if widget.viewport.rows else None
            painted = view._painted
            start = time.perf_counter()
            pilot.app.post_message(events.Key(key, None))
            while (  # noqa: ASYNC110 - what is on the screen sets no event
                (widget.viewport.rows and widget.viewport.rows[0] == before) or view._painted == painted
            ) and time.perf_counter() - start < 1:
                await asyncio.sleep(0)
            for y in range(view.size.height):
                view.render_line(y)
            times.append((time.perf_counter() - start) * 1000)
            await asyncio.sleep(0.03)
    times.sort()
    print(
        f"keys at {rate:,.0f} lines/s: {len(times)} keys, p50 {statistics.median(times):.1f} ms,"
        f" p95 {times[int(len(times) * 0.95)]:.1f} ms, max {times[-1]:.1f} ms (target: p95 < 30 ms)"
    )


async def measure_open(chunks: list[str]) -> None:
    """Seconds until the end of a log file that is there already is on the screen."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "log.txt"
        path.write_text("".join(chunks), encoding="utf-8")
        last = chunks[-1].rstrip("\n").rsplit("\n", 1)[-1]
        widget = LogPane()
        async with OneWidget(widget).run_test(size=(120, 36)) as pilot:
            await pilot.pause()
            start = time.perf_counter()
            store = LogStore.open(path)
            widget.use_store(store)
            view = widget.query_one(LogView)
            while not (  # noqa: ASYNC110 - what is on the screen sets no event
                view.viewport.rows and view.render_line(len(view.viewport.rows) - 1).text.rstrip() == last
            ):
                await asyncio.sleep(0.001)
            in_place = time.perf_counter() - start
            fed = LogPane()
            await pilot.app.mount(fed)
            await pilot.pause()
            start = time.perf_counter()
            with path.open("rb") as file:
                while data := file.read(1 << 20):
                    fed.feed(data)
                    await asyncio.sleep(0)
            view = fed.query_one(LogView)
            while not (  # noqa: ASYNC110 - what is on the screen sets no event
                view.viewport.rows and view.render_line(len(view.viewport.rows) - 1).text.rstrip() == last
            ):
                await asyncio.sleep(0.001)
            through = time.perf_counter() - start
            store.close()
    lines = sum(chunk.count("\n") for chunk in chunks)
    print(
        f"a log of {lines:,} lines opens in {in_place:.2f} s in place, {through:.2f} s through the feed"
        " (target: < 1 s)"
    )


async def measure_filter(chunks: list[str]) -> None:
    """Seconds until a filter has seen the whole log."""
    widget = LogPane()
    async with OneWidget(widget).run_test(size=(120, 36)) as pilot:
        widget.feed("".join(chunks).encode())
        await pilot.pause(0.2)
        for words, level, text in (
            ("text", None, "99"),
            ("level", "warning", ""),
            ("regex", None, r"step +\d*7 "),
        ):
            lags: list[float] = []
            probe = asyncio.create_task(_probe(lags))
            start = time.perf_counter()
            widget._filter.regex = words == "regex"
            widget._filter.level = Level(level) if level else None
            widget._filter.add_class("-open")
            widget._filter._input.value = text
            widget._filter._apply()
            while widget._filter.filtered is None or widget._filter.filtered.searched < widget.store.complete:  # noqa: ASYNC110 - what is on the screen sets no event
                await asyncio.sleep(0.005)
            seconds = time.perf_counter() - start
            probe.cancel()
            lags.sort()
            print(
                f"  filter by {words:<6} {len(widget._filter.filtered):>9,} lines {seconds * 1000:7.0f} ms,"
                f" loop lag p95 {lags[int(len(lags) * 0.95)]:.1f} ms"
            )
            widget._filter.close()
            await pilot.pause()


def measure_store(chunks: list[str]) -> None:
    """The store alone: taking in, reading, searching."""
    data = [chunk.encode() for chunk in chunks]
    store = LogStore()
    start = time.perf_counter()
    for chunk in data:
        store.feed(chunk)
    seconds = time.perf_counter() - start
    print(f"store alone  {store.stop:>9,} lines {seconds:7.2f} s {store.stop / seconds:>11,.0f} lines/s")
    for text in ("not there", "step", "LOSS=0"):
        start, first, hits = time.perf_counter(), 0.0, 0
        for _, found in search(store, Query(text), 0):
            hits += len(found)
            first = first or (time.perf_counter() - start if hits else 0.0)
        total = (time.perf_counter() - start) * 1000
        print(f"  search {text!r:<12} {hits:>9,} lines {total:7.0f} ms, first after {first * 1000:.1f} ms")
    store.close()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    arguments = parser.parse_args()
    chunks = make_chunks(arguments.lines)
    ours = asyncio.run(pane(chunks))
    print(ours)
    few = chunks[: max(1, 200_000 // CHUNK)]
    theirs = [asyncio.run(textual_log(few)), asyncio.run(rich_log(chunks[: max(1, 5_000 // CHUNK)]))]
    for result in theirs:
        print(f"{result}   LogPane is {ours.rate / result.rate:,.1f}x as fast")
    print(asyncio.run(pane(few, rate=50_000.0)))
    asyncio.run(measure_keys(chunks[: max(1, 300_000 // CHUNK)], 50_000.0))
    asyncio.run(measure_open(chunks))
    asyncio.run(measure_filter(chunks))
    measure_store(chunks)
    print("target: at least 50,000 lines/s in bounded memory")


if __name__ == "__main__":
    main()
