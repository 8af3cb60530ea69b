"""Typing in a config of 5,000 lines with diagnostics on, side by side with a plain TextArea.

A key's time is from its arrival to the end of the repaint that shows it. Both run in the same process, in
turns, on the same text and the same size of terminal::

    python -m benchmarks.editor_keys [--lines 5000] [--keys 120]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import events
from textual.app import App, ComposeResult
from textual.widgets import TextArea

from config.presets import preset_text
from tui.app import FluxLoraApp
from tui.screens.config_editor import ConfigEditorScreen

if TYPE_CHECKING:
    from textual.pilot import Pilot

_TYPED = "a fox in the snow, lr 1e-4: "


def long_text(lines: int) -> str:
    """A real config of ``lines`` lines: a preset with as many prompts as it takes."""
    head, mark, tail = preset_text("character").partition("        prompts:\n")
    room = lines - head.count("\n") - tail.count("\n") - 1
    prompts = "".join(
        f'          - "portrait {n} of [trigger], soft light"  # a comment\n' for n in range(room)
    )
    return head + mark + prompts + tail


class Plain(App[None]):
    """A TextArea and nothing else."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._typed = text

    def compose(self) -> ComposeResult:
        """The area."""
        yield TextArea.code_editor(self._typed, soft_wrap=False)


async def key_times(pilot: Pilot[Any], area: TextArea, keys: int, gap: float) -> list[float]:
    """Milliseconds of each key; ``gap`` seconds between them, in which checks run."""
    times = []
    for number in range(keys):
        char = _TYPED[number % len(_TYPED)]
        before = area.cursor_location
        start = time.perf_counter()
        pilot.app.post_message(events.Key(char if char.isalnum() else _NAMES[char], char))
        while area.cursor_location == before:  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0)
        painted = asyncio.Event()
        area.call_after_refresh(painted.set)
        await painted.wait()
        times.append(1000 * (time.perf_counter() - start))
        await asyncio.sleep(gap)
    return times


_NAMES = {" ": "space", ",": "comma", "-": "minus", ":": "colon"}


async def measure_plain(text: str, keys: int, gap: float) -> list[float]:
    """The plain TextArea."""
    app = Plain(text)
    async with app.run_test(size=(120, 36)) as pilot:
        area = app.query_one(TextArea)
        area.move_cursor((len(text.splitlines()) // 2, 20))
        await pilot.pause()
        return await key_times(pilot, area, keys, gap)


async def measure_editor(path: Path, root: Path, keys: int, gap: float) -> tuple[list[float], int]:
    """The editor; also how many checks ended meanwhile."""
    app = FluxLoraApp(root=root)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        screen = ConfigEditorScreen(path)
        await app.push_screen(screen)
        while screen._looked_at < 0:  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0.05)
        await asyncio.sleep(2)
        screen.area.go_to(screen.area.document.line_count // 2, 20)
        await pilot.pause()
        checks = 0
        show = screen._show

        def counted(*args: Any) -> None:
            nonlocal checks
            checks += 1
            show(*args)

        screen._show = counted  # type: ignore[method-assign]
        return await key_times(pilot, screen.area, keys, gap), checks


def line(name: str, times: list[float]) -> str:
    """p50, p95 and the worst."""
    ordered = sorted(times)
    p95 = ordered[int(0.95 * (len(ordered) - 1))]
    return f"{name:<34} p50 {statistics.median(times):6.1f}  p95 {p95:6.1f}  max {ordered[-1]:6.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lines", type=int, default=5000)
    parser.add_argument("--keys", type=int, default=120)
    args = parser.parse_args()
    text = long_text(args.lines)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["FLUXLORA_HOME"] = folder
        os.chdir(folder)
        path = root / "long.yaml"
        path.write_text(text, encoding="utf-8")
        print(f"{len(text.splitlines())} lines, {len(text)} characters, 120x36")
        for gap, how in ((0.08, "12 keys/s"), (0.7, "with pauses: each key is checked")):
            keys = args.keys if gap < 0.5 else max(20, args.keys // 4)
            print(how)
            plain = asyncio.run(measure_plain(text, keys, gap))
            mine, checks = asyncio.run(measure_editor(path, root, keys, gap))
            print(line("  plain TextArea", plain))
            print(line(f"  editor, {checks} checks meanwhile", mine))
            print(f"  ratio of medians {statistics.median(mine) / statistics.median(plain):.2f}")


if __name__ == "__main__":
    main()
