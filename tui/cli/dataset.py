"""``dataset``: what is in a folder of captioned pictures, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui.cli.main import fail
from tui.cli.report import absolute, print_json, printable

if TYPE_CHECKING:
    from backend.datasets.lint import LintOptions
    from backend.datasets.mend import Mended
    from backend.datasets.problems import Problem
    from backend.datasets.scan import Batch, Item


def dataset(
    path: str, *, as_json: bool, fix: bool, trigger: str | None, resolution: str, caption_ext: str
) -> int:
    """Print what is wrong with a dataset; 0 without an error, 1 with one, 2 if it cannot be read."""
    from backend.datasets.errors import DatasetError
    from backend.datasets.lint import LintOptions
    from backend.datasets.mend import mend, safe
    from backend.datasets.tokens import TokenCounter

    resolutions = _resolutions(resolution)
    if resolutions is None:
        return fail(f"--resolution {printable(resolution)}: say pixels, such as 512,768,1024", 2)
    extension = caption_ext if caption_ext.startswith(".") else f".{caption_ext}"
    options = LintOptions(
        resolutions=resolutions, trigger=trigger, caption_ext=extension, tokens=TokenCounter.find()
    )
    try:
        folder = absolute(path)
        batch, problems = _look(folder, options)
        mended: list[Mended] = []
        if fix and (wanted := safe(problems)):
            mended = mend(wanted, folder, batch.items, options)
            batch, problems = _look(folder, options)
    except DatasetError as error:
        return fail(printable(str(error)), 2)
    except (ValueError, PermissionError) as error:
        return fail(f"{printable(path)}: {getattr(error, 'strerror', None) or 'not a path'}", 2)
    if as_json:
        print_json(_record(folder, batch, problems, mended, options))
    else:
        _print(batch, problems, mended)
    return 1 if any(problem.severity == "error" for problem in problems) else 0


def _look(folder: Path, options: LintOptions) -> tuple[Batch, list[Problem]]:
    from backend.datasets.index import Index
    from backend.datasets.lint import lint
    from backend.datasets.phash import find_duplicates
    from backend.datasets.scan import scan_all

    index = Index(folder, caption_ext=options.caption_ext)
    batch = scan_all(folder, caption_ext=options.caption_ext, index=index)
    duplicates = find_duplicates(batch.items, index=index)
    problems = lint(
        folder, batch.items, options, orphans=batch.orphans, duplicates=duplicates, scanned=batch.problems
    )
    return batch, problems


def _resolutions(text: str) -> tuple[int, ...] | None:
    try:
        found = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        return None
    return found if found and all(32 <= edge <= 8192 for edge in found) else None


def _print(batch: Batch, problems: Sequence[Problem], mended: Sequence[Mended]) -> None:
    for result in mended:
        what = result.done if result.failure is None else f"not mended: {result.failure}"
        print(f"{printable(result.problem.file)}: {printable(what)}")
    for problem in problems:
        where = printable(problem.file) or "the dataset"
        print(f"{where}: {problem.severity}: {printable(problem.message)} [{problem.rule}]")
    captioned = sum(bool(item.caption and item.caption.strip()) for item in batch.items)
    excluded = sum(item.excluded for item in batch.items)
    counts = [f"{len(batch.items)} picture{'s' * (len(batch.items) != 1)}", f"{captioned} with a caption"]
    if excluded:
        counts.append(f"{excluded} excluded")
    fixable = sum(problem.fix is not None for problem in problems)
    found = f"{len(problems)} problem{'s' * (len(problems) != 1)}" if problems else "no problems"
    print(f"{', '.join(counts)}: {found}" + (f", {fixable} with a fix" if fixable else ""))


def _record(
    folder: Path,
    batch: Batch,
    problems: Sequence[Problem],
    mended: Sequence[Mended],
    options: LintOptions,
) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "images": [_image(item) for item in batch.items],
        "captions": [
            _caption(item, item.caption, folder, options) for item in batch.items if item.caption is not None
        ],
        "problems": [problem.record() for problem in problems],
        "fixed": [
            {
                "file": result.problem.file,
                "rule": result.problem.rule,
                "done": result.done or None,
                "failure": result.failure,
            }
            for result in mended
        ],
    }


def _image(item: Item) -> dict[str, Any]:
    header = item.header
    return {
        "file": item.name,
        "width": header.width if header else None,
        "height": header.height if header else None,
        "format": header.format if header else None,
        "bytes": item.bytes,
        "excluded": item.excluded,
        "crop": list(item.crop) if item.crop else None,
        "problem": item.problem,
    }


def _caption(item: Item, text: str, folder: Path, options: LintOptions) -> dict[str, Any]:
    from backend.datasets.captions import trained

    seen = trained(text, options.trigger)
    tokens = options.tokens.count(seen)
    return {
        "file": item.caption_path.relative_to(folder).as_posix(),
        "image": item.name,
        "text": text,
        "trained": seen,
        "tokens": {"clip": tokens.clip, "t5": tokens.t5, "exact": tokens.exact},
    }
