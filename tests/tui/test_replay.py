"""Recorded streams of runs through the real readers into the panes: nothing lost, nothing shown twice."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from textual.app import App, ComposeResult
from textual.containers import Horizontal

from backend.events import AttemptEvent, Event, StepEvent, ValidationEvent, encode
from backend.runs.folder import RunFolder
from backend.runs.stream import EventTail
from backend.runs.tail import follow_events, follow_log
from backend.runs.view import RunView
from tui.widgets.log_pane import LogPane
from tui.widgets.loss_chart import LossChart

if TYPE_CHECKING:
    from textual.pilot import Pilot


class PanesApp(App[None]):
    def compose(self) -> ComposeResult:
        with Horizontal():
            yield LogPane()
            yield LossChart()


class Folder(RunFolder):
    """A run's folder with a writer that a test drives."""

    def line(self, data: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(data)

    def events_written(self, data: bytes) -> None:
        with self.events.open("ab") as file:
            file.write(data)


def _folder(path: Path) -> Folder:
    path.mkdir(parents=True, exist_ok=True)
    folder = Folder(path)
    folder.log.touch()
    folder.events.touch()
    return folder


def _record(steps: int, *, every: float = 6.0) -> list[Event]:
    """A run of ``steps`` that was resumed once from two thirds, with validations."""
    back = steps * 2 // 3
    events: list[Event] = [AttemptEvent(seq=1, t=1000.0, attempt=1, step=0, steps=steps)]

    def go(first: int, last: int) -> None:
        for step in range(first, last + 1):
            now = 1000.0 + every * len(events)
            events.append(
                StepEvent(seq=len(events) + 1, t=now, step=step, loss=1 / step, smoothed=1 / step, lr=1e-4)
            )
            if step % 50 == 0:
                events.append(ValidationEvent(seq=len(events) + 1, t=now, step=step, loss=2 / step))

    go(1, steps * 5 // 6)
    events.append(
        AttemptEvent(seq=len(events) + 1, t=1000.0 + every * len(events), attempt=2, step=back, steps=steps)
    )
    go(back + 1, steps)
    return events


def _points(chart: LossChart, name: str) -> list[tuple[float, float]]:
    curve = chart.series(name)
    curve.load(0.9)
    assert curve.points is not None
    return list(zip(curve.points.x.tolist(), curve.points.y.tolist(), strict=True))


def _whole(steps: int, factor: float = 1.0) -> list[tuple[float, float]]:
    return [(float(step), factor / step) for step in range(1, steps + 1)]


async def _until(pilot: Pilot[None], condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await pilot.pause()


async def _follow(folder: Folder, pane: LogPane, chart: LossChart, over: Callable[[], bool] | None) -> None:
    async def log() -> None:
        async for chunk in follow_log(folder, 0, over):
            pane.feed(chunk.data)

    async def events() -> None:
        async for batch in follow_events(folder, 0, over):
            chart.take_events(batch.events)

    await asyncio.gather(log(), events())


async def test_bursts_cut_anywhere(tmp_path: Path) -> None:
    rng = random.Random(8)
    record = _record(600)
    events = b"".join(map(encode, record))
    log = b"".join(b"line %d of the log \xe2\x9c\x93\n" % number for number in range(5_000))
    folder, done = _folder(tmp_path), False
    async with PanesApp().run_test(size=(120, 30)) as pilot:
        pane, chart = pilot.app.query_one(LogPane), pilot.app.query_one(LossChart)
        following = asyncio.create_task(_follow(folder, pane, chart, lambda: done))
        while log or events:  # now much, now little, and never at the end of a line
            size = rng.choice((1, 7, 300, 20_000, 60_000))
            folder.line(log[:size])
            folder.events_written(events[: size // 2 + 1])
            log, events = log[size:], events[size // 2 + 1 :]
            await asyncio.sleep(0)
        done = True
        await following
        lines = [pane.store.line(number).text for number in range(pane.store.stop)]
        assert lines == [f"line {number} of the log ✓" for number in range(5_000)]
        assert _points(chart, "loss") == _whole(600)
        assert _points(chart, "validation") == [(s, 2 / s) for s in range(50, 601, 50)]


async def test_out_of_order_and_duplicated_after_a_reconnect() -> None:
    rng = random.Random(8)
    record = _record(300)
    async with PanesApp().run_test(size=(120, 30)) as pilot:
        chart = pilot.app.query_one(LossChart)
        await pilot.pause()
        stream: list[Event] = []
        for start in range(0, len(record), 20):  # each portion comes shuffled, and some come again
            portion = record[start : start + 20]
            rng.shuffle(portion)
            stream += portion
            if rng.random() < 0.5:
                stream += record[max(0, start - 40) : start + 20]
        for start in range(0, len(stream), 37):
            chart.take_events(stream[start : start + 37])
        await _until(pilot, lambda: chart._scene is not None)
        assert _points(chart, "loss") == _whole(300)
        assert _points(chart, "validation") == [(s, 2 / s) for s in range(50, 301, 50)]
        assert [mark.kind for mark in chart.marks] == ["resume"]
        chart.focus()
        await pilot.pause()
        await pilot.press("X")  # over time, what was given up is there too, once
        steps = [event for event in record if isinstance(event, StepEvent)]
        assert [y for _, y in _points(chart, "loss")] == [step.loss for step in steps]


async def test_a_stream_cut_short_goes_on_where_it_ended(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    data = b"".join(map(encode, _record(90)))
    cut = data.index(b"\n", len(data) // 2) - 11
    folder.events_written(data[:cut])
    folder.line(b"first\nsec")
    async with PanesApp().run_test(size=(120, 30)) as pilot:
        pane, chart = pilot.app.query_one(LogPane), pilot.app.query_one(LossChart)
        await _follow(folder, pane, chart, None)
        assert pane.store.line(pane.store.stop - 1).text == "sec"
        tail = EventTail(folder.events)
        known = tail.read()
        assert len(_points(chart, "loss")) == max(e.step for e in known if isinstance(e, StepEvent))
        folder.events_written(data[cut:])
        folder.line(b"ond\n")
        offset = len(b"first\nsec")
        async for chunk in follow_log(folder, offset, None):
            pane.feed(chunk.data)
        async for batch in follow_events(folder, tail.offset, None):
            chart.take_events(batch.events)
        assert [pane.store.line(n).text for n in range(pane.store.stop)] == ["first", "second"]
        assert _points(chart, "loss") == _whole(90)


async def test_ten_runs_at_once(tmp_path: Path) -> None:
    folders = [_folder(tmp_path / str(number)) for number in range(10)]
    done = False
    async with PanesApp().run_test(size=(120, 30)) as pilot:
        chart, pane = pilot.app.query_one(LossChart), pilot.app.query_one(LogPane)
        views = [RunView() for _ in folders]

        async def follow(number: int) -> None:
            async for batch in follow_events(folders[number], 0, lambda: done):
                views[number].apply(batch.events)
                if number:
                    chart.overlay(str(number), f"run {number}", batch.events)
                else:
                    chart.take_events(batch.events)

        async def log() -> None:
            async for chunk in follow_log(folders[0], 0, lambda: done):
                pane.feed(chunk.data)

        tasks = [asyncio.create_task(follow(number)) for number in range(10)]
        tasks.append(asyncio.create_task(log()))
        records = [_record(120 + 30 * number) for number in range(10)]
        for start in range(0, max(map(len, records)), 25):
            for folder, record in zip(folders, records, strict=True):
                folder.events_written(b"".join(map(encode, record[start : start + 25])))
                folder.line(b"".join(b"%d\n" % event.seq for event in record[start : start + 25]))
            await asyncio.sleep(0)
        done = True
        await asyncio.gather(*tasks)
        for number in range(10):
            name = f"{number}:loss" if number else "loss"
            assert _points(chart, name) == _whole(120 + 30 * number)
            assert views[number].seq == records[number][-1].seq
        lines = [pane.store.line(n).text for n in range(pane.store.stop)]
        assert lines == [str(event.seq) for event in records[0]]


@pytest.mark.thorough
async def test_an_hour_a_hundred_times_as_fast(tmp_path: Path) -> None:
    """3,600 steps and 36,000 lines of an hour, written in 36 seconds as they were then."""
    folder, done = _folder(tmp_path), False
    record = _record(3_600, every=1.0)
    async with PanesApp().run_test(size=(120, 30)) as pilot:
        pane, chart = pilot.app.query_one(LogPane), pilot.app.query_one(LossChart)
        following = asyncio.create_task(_follow(folder, pane, chart, lambda: done))
        began, lines = time.monotonic(), 0
        for number, event in enumerate(record):
            folder.events_written(encode(event))
            folder.line(b"".join(b"line %d\n" % n for n in range(lines, lines + 10)))
            lines += 10
            await asyncio.sleep(max(0.0, began + number / 100 - time.monotonic()))
        done = True
        await following
        assert _points(chart, "loss") == _whole(3_600)
        assert pane.store.stop == lines
        assert [pane.store.line(n).text for n in range(0, lines, 97)] == [
            f"line {n}" for n in range(0, lines, 97)
        ]
        await _until(pilot, lambda: pane.viewport.rows[-1][0] == lines - 1)
