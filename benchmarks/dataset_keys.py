"""How long a key takes in the datasets screen while the folder is read and thumbnails are made.

    python -m benchmarks.dataset_keys [--pictures 2000] [--keys 60]

Opens a dataset that was never read, in the grid view, in a headless terminal of 120x36, and presses keys at
once: the scan, the search for problems and the thumbnails run meanwhile. A key's time is from its press until
the screen has been painted after it. Beside it: the same keys once all is quiet, and their ratio.
"""

# ruff: noqa: ASYNC110 - it waits for a state of the app, as a person would

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from backend.datasets.library import Library
from tui.app import FluxLoraApp
from tui.screens.dataset_browser import DatasetBrowserScreen


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


async def measure(root: Path, keys: int) -> tuple[list[float], list[float]]:
    """Seconds of each key while all is under way, and once it is quiet."""
    app = FluxLoraApp(root=root)
    app.animation_level = "none"
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("4")
        while not getattr(app.screen, "_entries", None):
            await asyncio.sleep(0.01)
        app.push_screen(DatasetBrowserScreen(app.screen._entries[0].path))  # type: ignore[attr-defined]
        while not isinstance(app.screen, DatasetBrowserScreen) or not len(app.screen.shelf):
            await asyncio.sleep(0.005)
        screen = app.screen
        await pilot.press("v")
        order = ["pagedown", "down", "right", "down", "pageup", "down"]

        async def press(count: int) -> list[float]:
            times = []
            for number in range(count):
                start = time.perf_counter()
                # To the app itself: the pilot waits for more than the paint.
                app.simulate_key(order[number % len(order)])
                painted = asyncio.Event()
                screen.call_after_refresh(painted.set)
                await painted.wait()
                times.append(time.perf_counter() - start)
                await asyncio.sleep(0.03)
            return times

        busy = await press(keys)
        deadline = time.monotonic() + 120
        while not (screen._feed and screen._feed.calm) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        return busy, await press(keys)


def words(times: list[float]) -> str:
    """Median, 95th percentile and worst, in milliseconds."""
    p95 = statistics.quantiles(times, n=20)[-1]
    middle, worst = statistics.median(times), max(times)
    return f"median {middle * 1e3:6.1f} ms   p95 {p95 * 1e3:6.1f} ms   max {worst * 1e3:6.1f} ms"


def main() -> int:
    """Run it; fails where a key's 95th percentile is above 50 ms under load."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--keys", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "home"
        folder = Path(place) / "pictures"
        make_pictures(folder, options.pictures)
        Library(root).add(folder)
        busy, quiet = asyncio.run(measure(root, options.keys))
    print(f"{options.pictures} pictures, {options.keys} keys each")
    print(f"while read and decoded: {words(busy)}")
    print(f"once all is quiet:      {words(quiet)}")
    print(f"ratio of medians: {statistics.median(busy) / statistics.median(quiet):.2f}")
    return 0 if statistics.quantiles(busy, n=20)[-1] < 0.05 else 1


if __name__ == "__main__":
    sys.exit(main())
