"""How long a key takes in the datasets screen while the folder is read and thumbnails are made.

    python -m benchmarks.dataset_keys [--pictures 2000] [--keys 60]

Opens a dataset that was never read, as a list and as a grid, in a headless terminal of 120x36, and presses
keys at once, those of the cursor and those that page: the scan, the search for problems and the thumbnails
run meanwhile. A key's time is from its press until the cursor has been painted where it moved to.
Beside it: the same keys once all is quiet, and their ratio.
"""

# ruff: noqa: ASYNC110 - it waits for a state of the app, as a person would

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from backend.datasets.library import Library
from tui.app import FluxLoraApp
from tui.screens.dataset_browser import DatasetBrowserScreen

KEYS = {
    "cursor": ["down", "right", "down", "left", "up", "down"],
    "page": ["pagedown", "pagedown", "pageup"],
}


def make_pictures(folder: Path, count: int) -> None:
    """JPEGs of a camera's kind, 1024 pixels wide; a few contents, copied."""
    folder.mkdir(parents=True)
    noise = [Image.effect_noise((1024, 768), 60 + 20 * n).convert("RGB") for n in range(4)]
    contents = []
    for number, picture in enumerate(noise):
        path = folder / f"content{number}.jpg"
        picture.save(path, quality=85)
        contents.append(path.read_bytes())
        path.unlink()
    for number in range(count):
        (folder / f"picture{number:05}.jpg").write_bytes(contents[number % len(contents)])
        (folder / f"picture{number:05}.txt").write_text(
            f"[trigger], picture {number}, noise", encoding="utf-8"
        )


class PaintedApp(FluxLoraApp):
    """Tells when something was written to the terminal."""

    def __init__(self, root: Path) -> None:
        super().__init__(root=root)
        self.painted = asyncio.Event()

    def _display(self, *args: Any) -> None:
        super()._display(*args)
        self.painted.set()


class Press(NamedTuple):
    """What a key took, in seconds.

    Attributes:
        wall: From its press until the cursor has been painted at its new place.
        cpu: Of the event loop's thread meanwhile; other programs on a busy machine do not add to it.
    """

    wall: float
    cpu: float


async def press(screen: DatasetBrowserScreen, key: str) -> Press | None:
    """Press a key that moves the cursor; None if it stood at the end already, where nothing is painted."""
    app, shelf, go = screen.app, screen.shelf, screen.shelf.go
    assert isinstance(app, PaintedApp)
    moved: bool | None = None

    def going(index: int) -> bool:
        nonlocal moved
        app.painted.clear()  # the next one shows it
        moved = go(index)
        if not moved:
            app.painted.set()
        return moved

    shelf.go = going  # type: ignore[method-assign]
    wall, cpu = time.perf_counter(), time.thread_time()
    # To the app itself: the pilot waits for more than the paint.
    app.simulate_key(key)
    async with asyncio.timeout(10):
        while moved is None or not app.painted.is_set():
            app.painted.clear()
            await app.painted.wait()
    took = Press(time.perf_counter() - wall, time.thread_time() - cpu)
    shelf.go = go  # type: ignore[method-assign]
    await asyncio.sleep(0.03)
    return took if moved else None


async def measure(root: Path, grid: bool, order: list[str], keys: int) -> tuple[list[Press], list[Press]]:
    """Seconds of each key while all is under way, and once it is quiet.

    Args:
        root: Data folder whose library holds the one dataset; nothing of it is remembered.
        grid: Whether to look at the grid.
        order: The keys.
        keys: How many presses.
    """
    app = PaintedApp(root)
    app.animation_level = "none"
    async with app.run_test(size=(120, 36)):
        entry = Library(root).entries()[0]
        await app.push_screen(screen := DatasetBrowserScreen(entry.path))
        while not len(screen.shelf):
            await asyncio.sleep(0.005)
        if grid:
            app.simulate_key("v")  # the pilot would wait until nothing goes on
        turn = itertools.cycle(order)
        busy: list[Press] = []
        # Problems come last; a small dataset may be read before so many keys are pressed.
        while len(busy) < keys and not (len(busy) > 1 and screen.feed and screen.feed.calm):
            busy += filter(None, [await press(screen, next(turn))])
        deadline = time.monotonic() + 120
        while not (screen.feed and screen.feed.calm) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        return busy, list(filter(None, [await press(screen, next(turn)) for _ in range(keys)]))


def words(times: list[Press]) -> str:
    """Median, 95th percentile and worst, in milliseconds."""
    wall, cpu = [it.wall * 1e3 for it in times], [it.cpu * 1e3 for it in times]
    return (
        f"median {statistics.median(wall):6.1f} ms   p95 {p95(wall):6.1f} ms   max {max(wall):6.1f} ms   "
        f"cpu: median {statistics.median(cpu):5.1f} ms   p95 {p95(cpu):5.1f} ms"
    )


def p95(values: list[float]) -> float:
    """Their 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def main() -> int:
    """Run it; fails where a key's 95th percentile is above 50 ms under load."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--keys", type=int, default=60)
    options = parser.parse_args()
    worst = 0.0
    print(f"{options.pictures} pictures, up to {options.keys} keys each")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        make_pictures(folder, options.pictures)
        for view in ("list", "grid"):
            for kind, order in KEYS.items():
                root = Path(place) / f"home-{view}-{kind}"
                Library(root).add(folder)
                busy, quiet = asyncio.run(measure(root, view == "grid", order, options.keys))
                worst = max(worst, p95([it.wall for it in busy]))
                ratio = statistics.median(it.wall for it in busy) / statistics.median(it.wall for it in quiet)
                print(f"{view}, {kind} keys: medians {ratio:.2f} times as long under load")
                print(f"  while read and decoded ({len(busy):3} keys): {words(busy)}")
                print(f"  once all is quiet      ({len(quiet):3} keys): {words(quiet)}")
    return 0 if worst < 0.05 else 1


if __name__ == "__main__":
    sys.exit(main())
