"""Hours of a chatty run: whether the app's memory stays flat while lines and steps come without end.

Run ``python -m benchmarks.soak --minutes 30``. A writer process appends to a run's log (5,000 lines a second)
and events (20 steps a second, ten times what a GPU does) the way a trainer does; this process follows both
with the real readers into the log pane and the loss chart on a 120x36 screen, which is scrolled meanwhile.
Every few seconds it prints the resident memory of the whole process tree, and at the end how much it grew
from the second fifth of the time to the last, and whether every line and step arrived, once.

What has to be remembered grows: 16 bytes for every 8 KiB of log (where its lines are; the text is in a file),
and about 120 bytes for every step (ten numbers of it, with room to grow, and its point of the curve).
Memory counts as flat if it grew by less than 3 MiB beyond that.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from textual.app import App, ComposeResult
from textual.containers import Horizontal

from backend.events import AttemptEvent, StepEvent
from backend.runs.folder import RunFolder
from backend.runs.stream import EventWriter
from backend.runs.tail import follow_events, follow_log
from tui.memory import share_one_arena
from tui.widgets.log_pane import LogPane
from tui.widgets.loss_chart import LossChart

STEPS = 20  # a second
TICKS = 20  # writes a second
STEP_BYTES = 120  # that a step costs for good
LOG_SHARE = 16 / 8192  # of the log's bytes: its index
SLACK = 3.0  # MiB that memory may grow beyond what has to be remembered


class SoakApp(App[None]):
    """The two panes that grow."""

    def compose(self) -> ComposeResult:
        """Log and loss, side by side."""
        with Horizontal():
            yield LogPane()
            yield LossChart()


def write_run(path: Path, rate: int, seconds: float) -> None:
    """A trainer that only talks: ``rate`` lines a second. Runs in a process of its own."""
    folder = RunFolder(path)
    line = step = 0
    began = time.monotonic()
    with folder.log.open("ab") as log, EventWriter(folder.events) as events:
        events.write(AttemptEvent(attempt=1, step=0, steps=10**9))
        for tick in range(int(seconds * TICKS)):
            due = rate * (tick + 1) // TICKS
            clock = time.strftime("%H:%M:%S").encode()
            log.write(
                b"".join(
                    b"%s INFO    step %d/1000000 line %d loss 0.1234\n" % (clock, step, n)
                    for n in range(line, due)
                )
            )
            log.flush()
            line = due
            for _ in range(STEPS // TICKS):
                step += 1
                events.write(
                    StepEvent(step=step, loss=1 / (1 + step % 1000), smoothed=0.1, lr=1e-4, seconds=0.05)
                )
            time.sleep(max(0.0, began + (tick + 1) / TICKS - time.monotonic()))


def tree_memory(process: psutil.Process) -> float:
    """Resident MiB of this process and its children."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


async def soak(rate: int, minutes: float, every: float) -> bool:
    """Print memory every ``every`` seconds; True if nothing was lost and memory is flat."""
    process = psutil.Process()
    samples: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        folder.log.touch()
        folder.events.touch()
        writer = multiprocessing.get_context("spawn").Process(
            target=write_run, args=(folder.path, rate, minutes * 60)
        )
        writer.start()  # before the app takes stderr, whose descriptor a new process wants
        async with SoakApp().run_test(size=(120, 36)) as pilot:
            pane, chart = pilot.app.query_one(LogPane), pilot.app.query_one(LossChart)
            seen = {"bytes": 0, "steps": 0, "wrong": 0}

            def over() -> bool:
                return not writer.is_alive() and writer.exitcode is not None

            async def take_log() -> None:
                async for chunk in follow_log(folder, 0, over):
                    seen["bytes"] += len(chunk.data)
                    pane.feed(chunk.data)
                    await asyncio.sleep(0)

            async def take_events() -> None:
                async for batch in follow_events(folder, 0, over):
                    for event in batch.events:
                        if isinstance(event, StepEvent):
                            seen["steps"] += 1
                            seen["wrong"] += event.step != seen["steps"]
                    chart.take_events(batch.events)

            tasks = [asyncio.create_task(take_log()), asyncio.create_task(take_events())]
            began = time.monotonic()
            look = 0
            while not all(task.done() for task in tasks):
                await asyncio.wait(tasks, timeout=every)
                pane.action_move(-10) if look % 2 else pane.action_end()
                look += 1
                if not writer.is_alive():
                    continue  # one process less
                samples.append(tree_memory(process))
                print(
                    f"{time.monotonic() - began:7.0f} s  {samples[-1]:7.1f} MiB  {pane.store.stop:>11,} lines"
                    f"  {seen['steps']:>7,} steps",
                    flush=True,
                )
            for task in tasks:
                task.result()
            expected = folder.log.stat().st_size
            writer.join()
            lost = expected - seen["bytes"]
            remembered = (seen["steps"] * STEP_BYTES + expected * LOG_SHARE) / 2**20
    fifth = max(1, len(samples) // 5)
    early, late = (
        statistics.median(samples[fifth : 2 * fifth] or samples),
        statistics.median(samples[-fifth:]),
    )
    remembered *= 0.6  # from the middle of the second fifth to that of the last
    print(
        f"memory {early:.1f} -> {late:.1f} MiB ({late - early:+.1f}, of which {remembered:.1f} have to be);"
        f" log bytes missing or doubled {lost:,}; steps out of order {seen['wrong']:,}"
    )
    return lost == 0 and seen["wrong"] == 0 and late - early - remembered < SLACK


def main() -> None:
    """Soak, and say how it went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=int, default=5_000, help="lines a second")
    parser.add_argument("--every", type=float, default=10, help="seconds between looks at the memory")
    options = parser.parse_args()
    share_one_arena()  # as the app does
    good = asyncio.run(soak(options.rate, options.minutes, options.every))
    print("flat, nothing lost or doubled" if good else "NOT flat, or something was lost or doubled")
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
