"""A dataset of 10,000 pictures: first rows, full scan, opening again, duplicates, thumbnails, memory.

Absolute figures on this machine, and ratios to the plain way of doing the same (decoding every picture with
Pillow to learn its size; scanning again without an index), measured in the same run, alternating.

    python benchmarks/datasets.py [--pictures N] [--runs N] [--edge PIXELS]

Each measurement is a function of its own that gets the folder; add to ``MEASURES`` what belongs here.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

VARIETIES = 48  # different pictures; the rest are copies with bytes of their own at the end
VISIBLE = 200
THUMBNAIL = (160, 120)
PAGE = 40


def make(folder: Path, count: int, edge: int) -> None:
    """Captioned JPEGs and PNGs of different shapes; drawn a few times, then copied, for time's sake."""
    from PIL import Image

    folder.mkdir(parents=True)
    kinds = []
    for n in range(VARIETIES):
        chance = random.Random(n)
        size = (edge, edge * chance.choice([2, 3, 4, 5]) // 4)
        image = Image.frombytes("RGB", (24, 24), chance.randbytes(24 * 24 * 3)).resize(
            size, Image.Resampling.BICUBIC
        )
        file = folder / f".kind{n}"
        # As a folder of photographs: mostly JPEG.
        image.save(file, "PNG" if n % 12 == 0 else "JPEG", quality=88)
        kinds.append((file.read_bytes(), ".png" if n % 12 == 0 else ".jpg"))
        file.unlink()
    for n in range(count):
        content, suffix = kinds[n % VARIETIES]
        stem = folder / f"{n:05}"
        stem.with_suffix(suffix).write_bytes(content + n.to_bytes(4, "big"))
        stem.with_suffix(".txt").write_text(f"zork, picture {n}, tag {n % 7}, a street", encoding="utf-8")


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def first_rows(folder: Path) -> float:
    """Until a screenful of complete rows is there, nothing known before."""
    from backend.datasets.scan import scan

    return timed(lambda: next(scan(folder)))


def full_scan(folder: Path) -> float:
    """Names, sizes, dimensions, formats, captions of all pictures, and the index written."""
    from backend.datasets.index import Index
    from backend.datasets.scan import scan_all

    Index(folder).forget()
    return timed(lambda: scan_all(folder, index=Index(folder)))


def rescan(folder: Path) -> float:
    """All files looked at again for changes, with the index."""
    from backend.datasets.index import Index
    from backend.datasets.scan import scan_all

    return timed(lambda: scan_all(folder, index=Index(folder)))


def reopen(folder: Path) -> float:
    """All rows from the index."""
    from backend.datasets.index import Index

    return timed(lambda: Index(folder).load())


def lint_all(folder: Path) -> float:
    """Every rule over all pictures, duplicates left out."""
    from backend.datasets.index import Index
    from backend.datasets.lint import lint

    items = Index(folder).load()
    return timed(lambda: lint(folder, items))


def page(folder: Path) -> float:
    """What a page of rows needs besides drawing: buckets, tokens, thumbnails in memory."""
    from backend.datasets.bucketing import frames
    from backend.datasets.index import Index
    from backend.datasets.thumbnails import Thumbnails
    from backend.datasets.tokens import TokenCounter

    items = Index(folder).load()[:PAGE]
    counter, thumbnails = TokenCounter(), Thumbnails()

    def work() -> None:
        for item in items:
            assert item.header is not None
            frames(item.header.width, item.header.height, (512, 768, 1024))
            counter.count(item.caption or "")
            thumbnails.cached(item.path, *THUMBNAIL)

    return timed(work)


def thumbnails(folder: Path) -> float:
    """200 thumbnails decoded by two threads, nothing cached."""
    from backend.datasets.index import Index
    from backend.datasets.thumbnails import Thumbnails

    items = Index(folder).load()[:VISIBLE]
    with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(2) as pool:
        store = Thumbnails(Path(cache))
        return timed(lambda: list(pool.map(lambda item: store.get(item.path, *THUMBNAIL), items)))


def decode_all(folder: Path, share: int = 20) -> float:
    """The plain way to dimensions: every picture decoded whole; measured on every 20th, scaled up."""
    from PIL import Image

    files = sorted(path for path in folder.iterdir() if path.suffix != ".txt")[::share]

    def decode() -> None:
        for path in files:
            with Image.open(path) as image:
                image.load()

    return timed(decode) * share


def duplicates(folder: Path) -> float:
    """Perceptual hashes of all pictures, and the comparison; once, for it takes long."""
    from backend.datasets.index import Index
    from backend.datasets.phash import find_duplicates

    items = Index(folder).load()
    return timed(lambda: find_duplicates(items))


MEASURES: dict[str, tuple[Callable[[Path], float], float]] = {
    "first rows": (first_rows, 0.3),
    "full scan": (full_scan, 5.0),
    "open from index": (reopen, 0.5),
    "scan again with index": (rescan, 5.0),
    "lint": (lint_all, 5.0),
    "a page of rows": (page, 0.05),
    f"{VISIBLE} thumbnails": (thumbnails, 3.0),
}

_MEMORY = """
import sys
from pathlib import Path
import psutil
from backend.datasets.index import Index
from backend.datasets.lint import lint
from backend.datasets.scan import scan_all
from backend.datasets.thumbnails import Thumbnails
folder = Path(sys.argv[1])
batch = scan_all(folder, index=Index(folder))
problems = lint(folder, batch.items)
store = Thumbnails()
for item in batch.items[:200]:
    store.get(item.path, 160, 120)
print(psutil.Process().memory_info().rss / 2**20)
"""


def memory(folder: Path) -> float:
    """MiB of a process that has scanned, linted and holds 200 thumbnails; without a screen."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    answer = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(answer.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=10_000, help="how many (default 10,000)")
    parser.add_argument("--edge", type=int, default=768, help="width in pixels (default 768)")
    parser.add_argument("--runs", type=int, default=3, help="rounds, alternating (default 3)")
    parser.add_argument("--duplicates", action="store_true", help="measure the search for duplicates, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["FLUXLORA_HOME"] = str(Path(place) / "home")
        folder = Path(place) / "pictures"
        make(folder, arguments.pictures, arguments.edge)
        taken: dict[str, list[float]] = {name: [] for name in [*MEASURES, "decoding all"]}
        for _ in range(arguments.runs):
            full_scan(folder)
            for name, (measure, _limit) in MEASURES.items():
                taken[name].append(measure(folder))
            taken["decoding all"].append(decode_all(folder))
        medians = {name: statistics.median(values) for name, values in taken.items()}
        print(f"{arguments.pictures:,} pictures of {arguments.edge} px, medians of {arguments.runs}")
        for name, (_, limit) in MEASURES.items():
            verdict = "within" if medians[name] <= limit else "OVER"
            print(f"{name:22} {medians[name] * 1000:8.0f} ms   {verdict} {limit * 1000:,.0f} ms"
                  f"   (max {max(taken[name]) * 1000:.0f})")  # fmt: skip
        used = memory(folder)
        print(
            f"{'memory':22} {used:8.0f} MiB  {'within' if used <= 250 else 'OVER'} 250 MiB, without a screen"
        )
        print(f"ratio: decoding all / full scan        {medians['decoding all'] / medians['full scan']:.1f}")
        print(
            f"ratio: full scan / open from index     {medians['full scan'] / medians['open from index']:.1f}"
        )
        if arguments.duplicates:
            print(f"duplicates, all hashed {duplicates(folder):.1f} s; remembered in the index afterwards")


if __name__ == "__main__":
    main()
