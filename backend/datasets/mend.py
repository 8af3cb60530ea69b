"""Mends what rules found, where there is a way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from backend.datasets import captions
from backend.datasets.edits import CreateMissing, PutTrigger, plan
from backend.datasets.errors import DatasetError, reason
from backend.datasets.journal import Journal
from backend.datasets.lint import RULES, LintOptions
from backend.datasets.problems import Problem
from backend.datasets.rules.pictures import SUFFIXES
from backend.datasets.scan import Item
from backend.datasets.sidecar import Marks, change_many, marks_of, set_many
from backend.datasets.trash import Trash
from backend.files import atomic_file
from backend.trainer.captions import CaptionError, read_caption


@dataclass(frozen=True, slots=True)
class Mended:
    """What came of mending a problem.

    Attributes:
        problem: The problem.
        done: What was done, a clause about the file; empty if nothing was.
        failure: Why it was not.
        back: Takes it back; raises DatasetError or OSError, and changes nothing, where others changed the
            file since.
    """

    problem: Problem
    done: str = ""
    failure: str | None = None
    back: Callable[[], None] | None = field(default=None, compare=False, repr=False)


def safe(problems: Iterable[Problem]) -> list[Problem]:
    """The problems that can be mended without asking: nothing is lost, and no words change."""
    return [problem for problem in problems if problem.rule in RULES and RULES[problem.rule].safe]


def mend(
    problems: Iterable[Problem],
    folder: Path,
    items: Sequence[Item],
    options: LintOptions | None = None,
    *,
    trash: Trash | None = None,
    journal: Journal | None = None,
) -> list[Mended]:
    """Mend problems one by one; what cannot be mended is reported, and the rest goes on.

    Scan again afterwards: names and captions change.

    Args:
        problems: Those to mend; ones without a fix are passed over.
        folder: The dataset's folder.
        items: Its pictures.
        options: As for lint.
        trash: Where deleted files go; the user's if None.
        journal: Where changes to captions are kept for undo; the user's if None.
    """
    work = _Mender(folder.absolute(), items, options or LintOptions(), trash or Trash(), journal or Journal())
    results = []
    # An extension is mended last: it changes the name that other problems use.
    for problem in sorted(problems, key=lambda problem: problem.rule == "picture-extension"):
        way = work.ways.get(problem.rule)
        if way is None:
            continue
        try:
            done, back = way(problem)
            results.append(Mended(problem, done, back=back))
        except (DatasetError, CaptionError) as error:
            results.append(Mended(problem, failure=str(error)))
        except OSError as error:
            results.append(Mended(problem, failure=f"cannot be changed ({reason(error)})"))
    return results


Done = tuple[str, Callable[[], None]]  # what was done, and what takes it back


class _Mender:
    def __init__(
        self, folder: Path, items: Sequence[Item], options: LintOptions, trash: Trash, journal: Journal
    ) -> None:
        self._folder = folder
        self._items = {item.name: item for item in items}
        self._options = options
        self._trash, self._journal = trash, journal
        self.ways: dict[str, Callable[[Problem], Done]] = {
            "caption-bom": self._utf8,
            "caption-not-utf8": self._reencode,
            "caption-missing": self._create,
            "caption-orphan": self._discard,
            "trigger-missing": self._trigger,
            "picture-extension": self._rename,
            "duplicate-exact": self._exclude,
            "crop-outside": self._uncrop,
        }

    def _item(self, problem: Problem) -> Item:
        item = self._items.get(problem.file)
        if item is None:
            raise DatasetError("is not in the dataset any more")
        return item

    def _utf8(self, problem: Problem) -> Done:
        path = self._item(problem).caption_path
        text = read_caption(path)
        if text is None:
            raise DatasetError("has no caption any more")
        before = path.read_bytes()
        captions.write(path, text)
        return "its caption is saved as plain UTF-8", partial(_rewrite, path, path.read_bytes(), before)

    def _reencode(self, problem: Problem) -> Done:
        path = self._item(problem).caption_path
        raw = path.read_bytes()
        try:
            text = raw.decode("cp1252")
        except UnicodeDecodeError:
            raise DatasetError("has a caption that is not Windows-1252 either") from None
        backup = path.with_name(path.name + ".original")
        fresh = not backup.exists()
        if fresh:
            backup.write_bytes(raw)  # a guess: what it said is kept
        captions.write(path, text)
        written = path.read_bytes()

        def back() -> None:
            _rewrite(path, written, raw)
            if fresh:
                backup.unlink(missing_ok=True)

        words = f"its caption is read as Windows-1252 and saved as UTF-8; {backup.name} has what it was"
        return words, back

    def _create(self, problem: Problem) -> Done:
        applied = self._journal.apply(plan(CreateMissing(), {self._item(problem).caption_path: None}))
        return "has an empty caption to fill in", partial(self._unedit, applied.id)

    def _unedit(self, edit: str) -> None:
        if self._journal.undo(edit).conflicts:
            raise DatasetError("has a caption that changed since")

    def _trigger(self, problem: Problem) -> Done:
        item = self._item(problem)
        edit = PutTrigger(self._options.trigger or "")
        applied = self._journal.apply(plan(edit, {item.caption_path: item.caption}))
        if applied.conflicts:
            raise DatasetError("has a caption that changed meanwhile")
        return "has the trigger word in its caption", partial(self._unedit, applied.id)

    def _discard(self, problem: Problem) -> Done:
        ticket = self._trash.delete([self._folder / problem.file], caption_ext=None)

        def back() -> None:
            self._trash.undo(ticket.id)

        return "is in the trash", back

    def _rename(self, problem: Problem) -> Done:
        item = self._item(problem)
        wanted = SUFFIXES.get(item.header.format) if item.header is not None else None
        if wanted is None:
            raise DatasetError("is of a format that training does not know; convert it")
        target = item.path.with_suffix(wanted[0])
        _rename(item.path, target)
        return f"is named {target.name}", partial(_rename, target, item.path)

    def _exclude(self, problem: Problem) -> Done:
        path = self._item(problem).path
        before = change_many({path: lambda marks: replace(marks, excluded=True)})
        return "is excluded from training", partial(_remark, before)

    def _uncrop(self, problem: Problem) -> Done:
        path = self._item(problem).path
        before = change_many({path: lambda marks: replace(marks, crop=None)})
        return "has no crop any more", partial(_remark, before)


def _rewrite(path: Path, now: bytes, before: bytes) -> None:
    if path.read_bytes() != now:
        raise DatasetError("has a caption that changed since")
    with atomic_file(path) as file:
        file.write(before)


def _rename(source: Path, target: Path) -> None:
    """Rename a picture; its marks go along."""
    if os.path.lexists(target):
        raise DatasetError(f"is not renamed, for {target.name} exists already")
    marks = marks_of(source)
    source.rename(target)
    if marks != Marks():
        set_many({source: Marks(), target: marks})


def _remark(marks: dict[Path, Marks]) -> None:
    set_many(marks)
