"""What a launch sheet shows: changes, problems, pictures, runs of that name, sweeps. Slow: use a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.datasets.lint import LintOptions
    from config.comparing import Change
    from config.problems import Problem
    from config.sweeps import Sweep
    from tui.services import RunRow

_PICTURES = {".jpg", ".jpeg", ".png", ".webp"}
_LINT_LINES = 4  # kinds of problems that the sheet names; the datasets screen has them all


@dataclass(frozen=True)
class DatasetSummary:
    """A folder of pictures.

    Attributes:
        folder: As in the config.
        pictures: How many are in it.
        captions: How many of them have a caption that is not empty.
        found: Whether the folder is there.
        lint: What the dataset's own check says, a line each; empty where there is none.
    """

    folder: str
    pictures: int
    captions: int
    found: bool
    lint: tuple[str, ...] = ()


@dataclass(frozen=True)
class Review:
    """All that is known before a launch.

    Attributes:
        name: ``config.name``; the file's if it cannot be read.
        problems: What ``check`` says.
        preset: The preset that is nearest; empty if none.
        changes: What differs from it.
        datasets: The folders of pictures.
        same_name: Runs of that name, the newest first.
        sweep: The runs that lists of values make; None if there are none.
        gpus, budget: What the config says of Modal.
        dollars: What it may cost by the estimate, per GPU; None if that cannot be told.
    """

    name: str
    problems: tuple[Problem, ...] = ()
    preset: str = ""
    changes: tuple[Change, ...] = ()
    datasets: tuple[DatasetSummary, ...] = ()
    same_name: tuple[RunRow, ...] = ()
    sweep: Sweep | None = None
    estimate: tuple[str, ...] = field(default_factory=tuple)
    dollars: float | None = None
    seconds: float | None = None

    @property
    def errors(self) -> int:
        """How many problems prevent a launch."""
        return sum(problem.severity == "error" for problem in self.problems)


def summarise(
    folder: str, base: Path, caption_ext: str = "txt", options: LintOptions | None = None
) -> DatasetSummary:
    """Count a folder's pictures and captions; relative folders are looked for beside the config.

    Args:
        folder: As the config names it.
        base: The config's folder.
        caption_ext: Extension of caption files.
        options: What it will be trained with; None leaves the dataset's own check out.
    """
    root = Path(folder).expanduser()
    root = root if root.is_absolute() else base / root
    try:
        files = list(root.iterdir())
    except OSError:
        return DatasetSummary(folder, 0, 0, found=False)
    pictures = [file for file in files if file.suffix.lower() in _PICTURES]
    captions = 0
    for picture in pictures:
        caption = picture.with_suffix("." + caption_ext.lstrip("."))
        try:
            captions += bool(caption.stat().st_size)
        except OSError:
            continue
    return DatasetSummary(
        folder, len(pictures), captions, found=True, lint=_lint(root, options) if options else ()
    )


def _lint(folder: Path, options: LintOptions) -> tuple[str, ...]:
    """What the dataset's own check says, a line for each kind of problem, the worst first."""
    from backend.datasets.errors import DatasetError
    from backend.datasets.index import Index
    from backend.datasets.lint import lint
    from backend.datasets.scan import scan_all

    extension = options.caption_ext
    try:
        batch = scan_all(folder, caption_ext=extension, index=Index(folder, caption_ext=extension))
    except (DatasetError, OSError):
        return ()
    problems = lint(folder, batch.items, options, orphans=batch.orphans, scanned=batch.problems)
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem.rule, []).append(f"{problem.file} {problem.message}".strip())
    return tuple(
        messages[0] if len(messages) == 1 else f"{messages[0]} (and {len(messages) - 1} more like it)"
        for messages in list(kinds.values())[:_LINT_LINES]
    )


def free_name(name: str, taken: Sequence[str]) -> str:
    """``name``, or with the first number behind it that is free."""
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def review(path: Path, runs: Sequence[RunRow]) -> Review:
    """Look at a saved config as a launch would.

    Raises:
        OSError: It cannot be read.
    """
    from backend.datasets.lint import options_for
    from config.load import check_text
    from config.sweeps import SweepError, collapse, find_sweep
    from tui.configs.sources import nearest_preset
    from tui.configs.text import is_json

    text = path.read_text(encoding="utf-8-sig")
    sweep, checked = None, text
    problems: list[Problem] = []
    try:
        sweep = find_sweep(text, is_json=is_json(path))
        if sweep is not None:
            checked = collapse(text)
    except SweepError as error:
        from config.problems import Problem as Made

        problems.append(Made("error", "", str(error)))
    except Exception:  # it does not parse: the check says so
        sweep = None
    loaded, found = check_text(path.absolute(), checked)
    problems += found
    nearest = nearest_preset(checked)
    name, datasets = path.stem, ()
    estimate: tuple[str, ...] = ()
    dollars = seconds = None
    if loaded is None:
        loaded = check_text(path.absolute(), checked, files=False)[0]
    if loaded is not None:
        name = loaded.config.name
        base, trigger = path.absolute().parent, loaded.config.process.trigger_word
        datasets = tuple(
            summarise(str(item.folder_path), base, item.caption_ext, options_for(item, trigger))
            for item in loaded.config.process.datasets
        )
        estimate, dollars, seconds = _estimate(loaded.config)
    return Review(
        name,
        tuple(problems),
        nearest[0] if nearest else "",
        tuple(nearest[1]) if nearest else (),  # type: ignore[arg-type]
        datasets,
        tuple(run for run in runs if run.name == name),
        sweep,
        estimate,
        dollars,
        seconds,
    )


def _estimate(config: object) -> tuple[tuple[str, ...], float | None, float | None]:
    """The first GPU of the config that fits: words, dollars, seconds."""
    from backend.estimate import estimate, known_speeds
    from tui.text import duration

    try:
        found = estimate(config, here=known_speeds())  # type: ignore[arg-type]
    except Exception as error:  # never in the way of a launch
        return (f"no estimate: {error}",), None, None
    fits = [gpu for gpu in found.gpus if gpu.fits]
    best = found.chosen if found.chosen in fits else fits[0] if fits else None
    if best is None:
        return ("no GPU of the price list has memory enough",), None, None
    money = "" if best.dollars is None else f", about ${best.dollars:,.2f}"
    words = f"{best.gpu}: about {duration(best.seconds)}{money}; prices of {found.prices_as_of}"
    return (words,), best.dollars, best.seconds
