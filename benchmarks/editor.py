"""How long editing a config of 5,000 lines takes, beside the naive way: load, change, dump.

Run ``python -m benchmarks.editor``. Both do the same to the same text in turns, so that the ratio holds on a
noisy machine. The naive way parses with PyYAML's C loader and writes the file anew, which loses comments,
order of style and quotes; it is what a form over plain data does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from config.completion import complete
from config.diagnose import diagnose
from config.editing import INSIDE, Tree, set_value
from config.form import groups
from config.presets import preset_text
from config.source import parse

LINES = 5000


def big_config(lines: int = LINES) -> str:
    """A preset whose sample section is so long that the file has that many lines."""
    head, tail = preset_text("character").split("meta:")
    count = (lines - head.count("\n")) // 3
    items = "".join(
        f'          - prompt: "[trigger] as number {i}, soft light"  # picture {i}\n'
        f"            width: {512 + i % 4 * 64}\n"
        f"            seed: {i}\n"
        for i in range(count)
    )
    return f"{head}        samples:\n{items}meta:{tail}"


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that it takes once."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def compare(name: str, ours: Callable[[], object], naive: Callable[[], object] | None, repeats: int) -> None:
    """Time both in turns and print medians, the slowest, and the ratio."""
    mine, theirs = [], []
    for _ in range(repeats):
        mine.append(timed(ours))
        if naive is not None:
            theirs.append(timed(naive))
    line = f"{name:<42} {statistics.median(mine):8.1f} ms  max {max(mine):8.1f}"
    if theirs:
        ratio = statistics.median(theirs) / statistics.median(mine)
        line += f"   naive {statistics.median(theirs):8.1f} ms   {ratio:.1f}x"
    print(line)


def without_screen(lines: int, repeats: int) -> None:
    """Everything that an edit costs before anything is drawn."""
    text = big_config(lines)
    path = (*INSIDE, "sample", "samples", 40, "width")
    file = Path("big.yaml")
    print(f"{text.count(chr(10)):,} lines, {len(text) / 1024:.0f} KiB, {repeats} repeats")
    turn = iter(range(10**9))

    def ours() -> object:
        # Another text each time: nothing is remembered but what a real edit would find there.
        return set_value(f"{text}# {next(turn)}\n", path, 640 + next(turn) % 8)

    def naive() -> object:
        data = yaml.load(text, Loader=yaml.CSafeLoader)
        data["config"]["process"][0]["sample"]["samples"][40]["width"] = 640
        return yaml.dump(data, Dumper=yaml.CSafeDumper, sort_keys=False)

    def edited_again() -> object:
        return set_value(text, path, 640 + next(turn) % 8)

    compare("form edit of a text not seen before", ours, naive, repeats)
    compare("form edit, text parsed already", edited_again, naive, repeats)
    compare(
        "parse with the place of every node",
        lambda: Tree.parse(f"{text}# {next(turn)}\n"),
        lambda: parse(text),
        repeats,
    )
    compare("the form", lambda: groups(text), None, repeats)
    compare(
        "diagnostics (parse, check, places)", lambda: diagnose(file, text, files=False, env={}), None, repeats
    )
    row = next(i for i, line in enumerate(text.split("\n")) if "optimizer:" in line)
    compare("completion", lambda: complete(text, row, 22), None, repeats)


def main() -> None:
    """Print one line for each kind of work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    without_screen(options.lines, options.repeats)


if __name__ == "__main__":
    main()
